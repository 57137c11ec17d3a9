//! The index that finds leads by any part of their texts: where SQLite and PostgreSQL differ most.
//!
//! Both index every run of three characters. SQLite's FTS5 makes them itself. PostgreSQL's own
//! extension for it sees only what the database's locale calls a letter, so here the service makes
//! them, hashed to 32 bits, and an array index holds them; the text is compared afterwards, so that
//! a collision costs time and never gives a wrong answer.
//!
//! A query of one or two characters has no such run: the leads are looked through, newest first.

use std::collections::BTreeSet;

use sea_orm::DbBackend;
use sea_orm::sea_query::{ArrayType, Condition, Expr, ExprTrait, Func, Value};

use super::rows::Rows;

/// How many characters a query needs before the index can answer it.
pub const INDEXED_FROM: usize = 3;

/// The rows that keep what leads are found by: for each `seq` its text, folded already, in place of
/// the one it had.
pub fn rows(backend: DbBackend, found_by: Vec<(i64, String)>) -> Option<Rows> {
    if backend != DbBackend::Postgres {
        let cells = found_by
            .into_iter()
            .map(|(seq, text)| vec![seq.into(), text.into()]);
        let columns = [("rowid", "bigint"), ("text", "text")];
        return Rows::replace("lead_search", &columns, cells.collect());
    }
    let cells = found_by.into_iter().map(|(seq, text)| {
        let numbers: Vec<String> = trigrams(&text).iter().map(ToString::to_string).collect();
        let array = format!("{{{}}}", numbers.join(","));
        vec![seq.into(), text.into(), array.into()]
    });
    let columns = [
        ("seq", "bigint"),
        ("text", "text"),
        ("trigrams", "integer[]"),
    ];
    Rows::replace("lead_search", &columns, cells.collect())
}

/// The column that joins `lead_search` to `leads.seq`.
pub fn key(backend: DbBackend) -> Expr {
    let column = if backend == DbBackend::Postgres {
        "seq"
    } else {
        "rowid"
    };
    Expr::col(("lead_search", column))
}

/// Whether the index can answer a folded query.
pub fn is_indexed(query: &str) -> bool {
    query.chars().count() >= INDEXED_FROM
}

/// Whether a row's text contains the folded `query`, found by comparing.
pub fn compares(backend: DbBackend, query: &str) -> Expr {
    let text = Expr::col(("lead_search", "text"));
    let position = if backend == DbBackend::Postgres {
        "strpos"
    } else {
        "instr"
    };
    Expr::expr(Func::cust(position).arg(text).arg(query)).gt(0)
}

/// What a row of `lead_search` must meet to contain the folded `query`.
pub fn contains(backend: DbBackend, query: &str) -> Condition {
    let exact = compares(backend, query);
    let condition = Condition::all();
    if !is_indexed(query) {
        return condition.add(exact);
    }
    let indexed = if backend == DbBackend::Postgres {
        Expr::cust_with_values(
            "\"lead_search\".\"trigrams\" @> $1",
            [array(trigrams(query))],
        )
    } else {
        // A quoted phrase: everything in it is plain, and a quote is doubled.
        let phrase = format!("\"{}\"", query.replace('"', "\"\""));
        Expr::cust_with_values("\"lead_search\" MATCH ?", [phrase])
    };
    condition.add(indexed).add(exact)
}

/// Every run of three characters, hashed (FNV-1a), each once: what PostgreSQL's index holds.
pub fn trigrams(text: &str) -> BTreeSet<i32> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .windows(INDEXED_FROM)
        .map(|run| {
            let hash = run.iter().fold(0x811c_9dc5_u32, |hash, character| {
                (hash ^ u32::from(*character)).wrapping_mul(0x0100_0193)
            });
            hash.cast_signed()
        })
        .collect()
}

fn array(numbers: BTreeSet<i32>) -> Value {
    let values = numbers
        .into_iter()
        .map(|number| Value::Int(Some(number)))
        .collect();
    Value::Array(ArrayType::Int, Some(Box::new(values)))
}

//! The index that finds leads by any part of their texts. A row of `lead_search` holds the texts of one
//! lead, folded; an index over their trigrams (runs of three characters) finds the rows that may contain a
//! query, and the text is compared afterwards, so a collision of hashes costs time and never gives a wrong
//! result. The service makes the trigrams for both databases, so that both find the same whatever their
//! locale: PostgreSQL keeps them in an array with a GIN index, SQLite in a tree of sets ([`tree`]).
//!
//! A query of one or two characters has no trigram: the leads are looked through, newest first.

pub mod tree;

use std::collections::{BTreeMap, BTreeSet};

use migrations::search_index::{self, Changes};
use sea_orm::sea_query::{ArrayType, Condition, Expr, ExprTrait, Func, Value};
use sea_orm::{ConnectionTrait, DbBackend};

use super::Tx;
use super::rows::Rows;
use crate::error::Result;

/// How many characters a query needs before the index can answer it.
pub const INDEXED_FROM: usize = search_index::TRIGRAM;

/// The texts that leads are found by, folded already, by the leads' `seq`.
pub type Texts = BTreeMap<i64, String>;

/// Indexes the texts of new leads. On SQLite the index is written at once; the rows of `lead_search` come
/// back, to be written together with others.
///
/// # Errors
/// Those of the database.
pub async fn add(tx: &Tx, texts: Texts) -> Result<Option<Rows>> {
    replace(tx, Texts::new(), texts).await
}

/// Indexes texts in place of those that the leads had, as [`add`] does. The difference is taken from the
/// text that was indexed, so that nothing of it is left, whichever version of the service indexed it.
///
/// # Errors
/// Those of the database.
pub async fn change(tx: &Tx, texts: Texts) -> Result<Option<Rows>> {
    let before = if tx.get_database_backend() == DbBackend::Postgres {
        Texts::new()
    } else {
        tree::texts(tx, texts.keys().copied().collect()).await?
    };
    replace(tx, before, texts).await
}

async fn replace(tx: &Tx, before: Texts, after: Texts) -> Result<Option<Rows>> {
    if tx.get_database_backend() == DbBackend::Postgres {
        return Ok(with_trigrams(after));
    }
    let mut difference = Changes::default();
    for (seq, text) in &after {
        difference.text(*seq, before.get(seq).map_or("", String::as_str), text);
    }
    tree::update(tx, difference).await?;
    let cells = after
        .into_iter()
        .map(|(seq, text)| vec![seq.into(), text.into()]);
    let columns = [("seq", "bigint"), ("text", "text")];
    Ok(Rows::replace("lead_search", &columns, cells.collect()))
}

/// The rows of PostgreSQL's `lead_search`.
fn with_trigrams(texts: Texts) -> Option<Rows> {
    let cells = texts.into_iter().map(|(seq, text)| {
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
pub fn key() -> Expr {
    Expr::col(("lead_search", "seq"))
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

/// What a row of PostgreSQL's `lead_search` must meet to contain the folded `query`, which the index can
/// answer.
pub fn contains(query: &str) -> Condition {
    let indexed = Expr::cust_with_values(
        "\"lead_search\".\"trigrams\" @> $1",
        [array(trigrams(query))],
    );
    Condition::all()
        .add(indexed)
        .add(compares(DbBackend::Postgres, query))
}

/// Every trigram, hashed to 32 bits (FNV-1a), each once: what PostgreSQL's index holds.
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

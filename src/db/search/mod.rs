//! The index that finds leads by any part of their texts. A row of `lead_search` holds the texts of one
//! lead, folded; an index over their trigrams (runs of three characters) finds the rows that may contain a
//! query, and the text is compared afterwards, so a collision of hashes costs time and never gives a wrong
//! result. The service makes the trigrams for both databases, so that both find the same whatever their
//! locale: PostgreSQL keeps them in an array with a GIN index, SQLite in sets of our own ([`index`]).
//!
//! A query of one or two characters has no trigram: the leads are looked through, newest first.

pub mod index;

use std::collections::{BTreeMap, BTreeSet};

use migrations::search_index;
use sea_orm::sea_query::{ArrayType, Condition, Expr, ExprTrait, Func, Value};
use sea_orm::{ConnectionTrait, DbBackend};

use super::Tx;
use super::rows::{self, Rows};
use crate::error::Result;

/// How many characters a query needs before the index can answer it.
pub const INDEXED_FROM: usize = search_index::TRIGRAM;

/// The texts that leads are found by, folded already, by the leads' `seq`.
pub type Texts = BTreeMap<i64, String>;

/// Indexes the texts of new leads. The rows of `lead_search` come back, to be written together with others,
/// unless they had to be written already.
///
/// # Errors
/// Those of the database.
pub async fn add(tx: &Tx, texts: Texts) -> Result<Option<Rows>> {
    write(tx, texts, false).await
}

/// Indexes texts in place of those that the leads had, as [`add`] does. When a lead loses all of its texts,
/// nothing of it is left in the index afterwards: so it is when it is erased.
///
/// # Errors
/// Those of the database.
pub async fn change(tx: &Tx, texts: Texts) -> Result<Option<Rows>> {
    let erases = texts.values().any(String::is_empty);
    write(tx, texts, erases).await
}

async fn write(tx: &Tx, texts: Texts, at_once: bool) -> Result<Option<Rows>> {
    if tx.get_database_backend() == DbBackend::Postgres {
        return Ok(with_trigrams(texts));
    }
    let pending = index::note(tx, &texts).await?;
    let cells = texts
        .into_iter()
        .map(|(seq, text)| vec![seq.into(), text.into()]);
    let columns = [("seq", "bigint"), ("text", "text")];
    let rows = Rows::replace("lead_search", &columns, cells.collect());
    if pending <= index::PENDING && !at_once {
        return Ok(rows);
    }
    rows::write(tx, rows.into_iter().collect()).await?;
    index::apply(tx).await?;
    Ok(None)
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

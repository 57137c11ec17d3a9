//! The index that finds leads by any part of their texts.
//!
//! A row of `lead_search` contains the folded texts of one lead. An index over their trigrams (runs
//! of three characters) finds the rows that may contain a query. The text is then compared, so a
//! hash collision costs time and never gives a wrong result. The service computes the trigrams for
//! both databases, so that both find the same leads whatever their locale is. PostgreSQL keeps them
//! in an array with a GIN index, SQLite in sets of our own ([`index`]).
//!
//! A query of one or two characters has no trigram. For it the leads are scanned, newest first.

pub mod index;

use std::collections::{BTreeMap, BTreeSet};

use migrations::search_index;
use sea_orm::sea_query::{ArrayType, Condition, Expr, ExprTrait, Func, Value};
use sea_orm::{ConnectionTrait, DbBackend};

use super::Tx;
use super::rows::{self, Rows};
use crate::error::Result;

/// The minimum length of a query that the index can answer, in characters.
pub const MIN_INDEXED_CHARS: usize = search_index::TRIGRAM;

/// The folded texts that leads are found by, keyed by the leads' `seq`.
pub type Texts = BTreeMap<i64, String>;

/// Indexes the texts of new leads. Returns the rows of `lead_search`, to be written together with
/// other rows, or `None` if they had to be written already.
///
/// # Errors
/// Those of the database.
pub async fn add(tx: &Tx, texts: Texts) -> Result<Option<Rows>> {
    write(tx, texts, false).await
}

/// Replaces the indexed texts of leads, and returns rows as [`add`] does. When a lead loses all of
/// its texts, as when it is erased, the index contains nothing of it afterwards.
///
/// # Errors
/// Those of the database.
pub async fn change(tx: &Tx, texts: Texts) -> Result<Option<Rows>> {
    let erases = texts.values().any(String::is_empty);
    write(tx, texts, erases).await
}

async fn write(tx: &Tx, texts: Texts, apply_now: bool) -> Result<Option<Rows>> {
    if tx.get_database_backend() == DbBackend::Postgres {
        return Ok(with_trigrams(texts));
    }
    let pending = index::enqueue(tx, &texts).await?;
    let cells = texts
        .into_iter()
        .map(|(seq, text)| vec![seq.into(), text.into()]);
    let columns = [("seq", "bigint"), ("text", "text")];
    let rows = Rows::replace("lead_search", &columns, cells.collect());
    if pending <= index::PENDING && !apply_now {
        return Ok(rows);
    }
    rows::write(tx, rows.into_iter().collect()).await?;
    index::apply(tx).await?;
    Ok(None)
}

/// The rows of `lead_search` on PostgreSQL.
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
    query.chars().count() >= MIN_INDEXED_CHARS
}

/// The condition that a row's text contains the folded `query`, without the index.
pub fn text_contains(backend: DbBackend, query: &str) -> Expr {
    let text = Expr::col(("lead_search", "text"));
    let position = if backend == DbBackend::Postgres {
        "strpos"
    } else {
        "instr"
    };
    Expr::expr(Func::cust(position).arg(text).arg(query)).gt(0)
}

/// The condition that a row of `lead_search` on PostgreSQL contains the folded `query`. The index
/// must be able to answer the query.
pub fn contains(query: &str) -> Condition {
    let indexed = Expr::cust_with_values(
        "\"lead_search\".\"trigrams\" @> $1",
        [array(trigrams(query))],
    );
    Condition::all()
        .add(indexed)
        .add(text_contains(DbBackend::Postgres, query))
}

/// The distinct trigrams, each hashed to 32 bits (FNV-1a): the content of PostgreSQL's index.
pub fn trigrams(text: &str) -> BTreeSet<i32> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .windows(MIN_INDEXED_CHARS)
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

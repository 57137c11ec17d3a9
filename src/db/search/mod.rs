//! The index that finds leads by any part of their texts.
//!
//! A row of `lead_search` contains the folded texts of one lead. An index over their trigrams (runs
//! of three characters) finds the rows that may contain a query. The text is then compared, so a
//! hash collision costs time and never gives a wrong result. The service computes the trigrams for
//! both databases, so that both find the same leads whatever their locale is. PostgreSQL keeps them
//! in an array with a GIN index, SQLite in sets of our own ([`index`]).
//!
//! A query of one or two characters has no trigram. For it the leads are scanned, newest first.
//!
//! [`migrations::search_text`] defines the texts and the form of a query.

pub mod index;

use std::collections::BTreeMap;

use migrations::search_index::{self, SEPARATOR};
use migrations::search_text::{self, trigrams};
use sea_orm::sea_query::{ArrayType, Condition, Expr, ExprTrait, Func, Value};
use sea_orm::{ConnectionTrait, DbBackend};

use super::Tx;
use super::rows::{self, Rows};
use crate::error::Result;

/// The minimum length of a query that the index can answer, in characters.
pub const MIN_INDEXED_CHARS: usize = search_index::TRIGRAM;

/// The texts that leads are found by, keyed by the leads' `seq`.
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

/// What a search looks for: one part or several parts of a lead's text, in the form of queries.
#[derive(Clone, Debug, Default)]
pub struct Needles {
    parts: Vec<String>,
    /// Whether the parts are long, so that a few of their trigrams find few leads.
    are_long: bool,
}

/// How many trigrams of long parts PostgreSQL looks up. More would leave hardly fewer leads, whose texts are compared
/// anyway, and each is read from the index.
const TRIGRAMS_OF_LONG: usize = 8;

impl Needles {
    /// The text that a caller searches for; `None` if nothing is left of it, as of accents alone.
    pub fn query(text: &str) -> Option<Self> {
        let query = search_text::query(text);
        (!query.is_empty()).then(|| Self {
            parts: vec![query],
            are_long: false,
        })
    }

    /// Whole pieces of a text, all of which a lead must have.
    pub fn pieces(parts: Vec<String>) -> Self {
        Self {
            parts,
            are_long: true,
        }
    }

    /// The trigrams that PostgreSQL's index looks up.
    fn trigrams(&self) -> Vec<i32> {
        let all: Vec<i32> = self.iter().flat_map(trigrams).collect();
        let step = match self.are_long {
            true => all.len().div_ceil(TRIGRAMS_OF_LONG).max(1),
            false => 1,
        };
        all.into_iter().step_by(step).collect()
    }

    /// Each part.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(String::as_str)
    }

    /// The longest part, which the fewest leads are likely to have.
    pub fn longest(&self) -> &str {
        let longest = self.iter().max_by_key(|part| part.len());
        longest.unwrap_or_default()
    }

    /// Whether the index can find them.
    pub fn is_indexed(&self) -> bool {
        let mut runs = self.iter().flat_map(|part| part.split(SEPARATOR));
        runs.any(|run| run.chars().count() >= MIN_INDEXED_CHARS)
    }
}

/// The condition that a row's text contains all of `needles`, without the index.
pub fn text_contains(backend: DbBackend, needles: &Needles) -> Condition {
    let position = if backend == DbBackend::Postgres {
        "strpos"
    } else {
        "instr"
    };
    let contains = |part: &str| {
        let text = Expr::col(("lead_search", "text"));
        Expr::expr(Func::cust(position).arg(text).arg(part)).gt(0)
    };
    needles
        .iter()
        .fold(Condition::all(), |all, part| all.add(contains(part)))
}

/// The condition that the text of a row of `lead_search` on PostgreSQL contains all of `needles`, which the index
/// must be able to find.
pub fn contains(needles: &Needles) -> Condition {
    let indexed = Expr::cust_with_values(
        "\"lead_search\".\"trigrams\" @> $1",
        [array(needles.trigrams())],
    );
    Condition::all()
        .add(indexed)
        .add(text_contains(DbBackend::Postgres, needles))
}

/// The condition that an older version has written a row of `lead_search`.
pub fn is_outdated(backend: DbBackend) -> &'static str {
    match backend == DbBackend::Postgres {
        true => search_text::IS_OUTDATED_ON_POSTGRES,
        false => search_text::IS_OUTDATED_ON_SQLITE,
    }
}

fn array(numbers: Vec<i32>) -> Value {
    let values = numbers
        .into_iter()
        .map(|number| Value::Int(Some(number)))
        .collect();
    Value::Array(ArrayType::Int, Some(Box::new(values)))
}

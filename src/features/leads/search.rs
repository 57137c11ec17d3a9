//! Search: leads whose texts contain a query, newest first. The strategy depends on the database:
//!
//! | Query | SQLite | PostgreSQL |
//! |---|---|---|
//! | three characters and more | the index gives blocks of leads, newest first, whose texts are compared | the newest leads, in case many match; then the array index |
//! | one or two characters | all leads, newest first | all leads, newest first |

mod outdated;
mod total;

use crate::core::text_enum::TextEnum as _;
use sea_orm::sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{Condition, ConnectionTrait, DbBackend, EntityTrait, QueryTrait, Statement};

use super::model::{Lead, LeadState};
use super::store::read_page;
use crate::db::entities::lead::{Column, Entity};
use crate::db::search::{
    self, Needles,
    index::{Candidates, json_array},
};
use crate::db::select::Part;
use crate::error::Result;

pub use outdated::make_outdated_again;
pub use total::{total, total_statement};

/// The numbers of newest leads that PostgreSQL scans before it uses the index: first a number that costs
/// almost nothing, and then, if that scan shows that many leads match, enough for a page.
pub const NEWEST: [i64; 2] = [250, 10_000];
/// If the first scan finds this number of matches, many leads match.
const COMMON_MATCHES: usize = 3;
/// The numbers of candidate blocks that SQLite compares per statement. If most blocks are candidates, the
/// first number is enough for little more than a page of leads. The numbers grow, because leads of earlier
/// blocks did not match or are in other states.
const BLOCKS_PER_STATEMENT: [usize; 5] = [16, 64, 256, 1_024, 8_192];

/// Returns at most `limit` leads whose texts contain all of `needles`, newest first, below `before`.
///
/// # Errors
/// Those of the database.
pub async fn search(
    db: &impl ConnectionTrait,
    needles: &Needles,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Lead>> {
    if !needles.is_indexed() {
        let backend = db.get_database_backend();
        let statement = scan_statement(backend, needles, states, before, limit);
        return read_page(db, statement, limit).await;
    }
    if db.get_database_backend() == DbBackend::Postgres {
        on_postgres(db, needles, states, before, limit).await
    } else {
        on_sqlite(db, needles, states, before, limit).await
    }
}

async fn on_postgres(
    db: &impl ConnectionTrait,
    needles: &Needles,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Lead>> {
    for newest in NEWEST {
        let statement = newest_statement(needles, states, before, limit, newest);
        let found = read_page(db, statement, limit).await?;
        if found.is_truncated || found.rows.len() as u64 == limit {
            return Ok(found);
        }
        if found.rows.len() < COMMON_MATCHES {
            break;
        }
    }
    let statement = index_statement(needles, states, before, limit);
    read_page(db, statement, limit).await
}

/// A lead that changes while its candidates are read is missed only if it did not match during the whole
/// time. The pending leads are read in the same statement as the first part of the index, or before any
/// other part. A lead that matched at that time is a candidate if it was pending. If it was not pending,
/// the index contained a text of it that matched, and every later update of the index keeps matching texts.
/// The texts are compared last.
async fn on_sqlite(
    db: &impl ConnectionTrait,
    needles: &Needles,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Lead>> {
    let mut candidates = Candidates::find(db, needles, before).await?;
    let mut found = Part::default();
    let mut sizes = BLOCKS_PER_STATEMENT
        .into_iter()
        .skip(usize::from(!candidates.are_many()));
    let mut size = 0;
    loop {
        size = sizes.next().unwrap_or(size);
        let blocks = candidates.next(db, size).await?;
        let last = blocks.len() < size;
        let missing = limit.saturating_sub(found.rows.len() as u64);
        if !blocks.is_empty() {
            let statement = compare_statement(needles, states, before, &blocks, missing);
            found.append(read_page(db, statement, missing).await?);
        }
        if last || found.rows.len() as u64 >= limit {
            return Ok(found);
        }
        if found.truncate_if_full() {
            return Ok(found);
        }
    }
}

/// SQLite's statement that compares the texts of the leads in these blocks.
pub fn compare_statement(
    needles: &Needles,
    states: &[LeadState],
    before: Option<i64>,
    blocks: &[i64],
    limit: u64,
) -> Statement {
    let seq = || Expr::col((Entity, Column::Seq));
    let mut select = Entity::find().into_query();
    select
        .and_where(among_blocks(needles, blocks))
        .order_by((Entity, Column::Seq), Order::Desc)
        .limit(limit);
    filter_states(&mut select, states);
    if let Some(before) = before {
        select.and_where(seq().lt(before));
    }
    DbBackend::Sqlite.build(&select)
}

/// The condition on SQLite that the text of a lead in these blocks contains all of `needles`.
fn among_blocks(needles: &Needles, blocks: &[i64]) -> Expr {
    // A subquery instead of a join, so that leads are returned in the order of `seq` and only the rows of
    // the page are read.
    let contains: Vec<&str> = needles.iter().map(|_| "instr(s.text, ?) > 0").collect();
    let among = format!(
        "\"leads\".\"seq\" IN (SELECT s.seq FROM json_each(?) AS block CROSS JOIN lead_search AS s \
         ON s.seq BETWEEN block.value << 2 AND (block.value << 2) + 3 WHERE {})",
        contains.join(" AND ")
    );
    let blocks = json_array(blocks.iter().copied());
    let values = std::iter::once(blocks).chain(needles.iter().map(str::to_owned));
    Expr::cust_with_values(among, values)
}

/// The statement that scans all leads, newest first.
pub fn scan_statement(
    backend: DbBackend,
    needles: &Needles,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Statement {
    let condition = search::text_contains(backend, needles);
    if backend == DbBackend::Postgres {
        return page_statement(condition, states, before, limit);
    }
    let mut select = leads_with_texts();
    restrict(&mut select, condition, states, before, limit);
    backend.build(&select)
}

/// PostgreSQL's statement that uses the index.
pub fn index_statement(
    needles: &Needles,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Statement {
    page_statement(search::contains(needles), states, before, limit)
}

/// The numbers of the newest leads that PostgreSQL's index finds, in any state.
pub fn numbers_found(needles: &Needles, before: Option<i64>, limit: u64) -> SelectStatement {
    let mut found = Query::select();
    found.expr(search::key()).from("lead_search");
    restrict(&mut found, search::contains(needles), &[], before, limit);
    found
}

/// PostgreSQL's statement that reads only the leads of the page, not all that match.
fn page_statement(
    condition: Condition,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Statement {
    let mut page = Query::select();
    page.expr(search::key()).from("lead_search");
    if restricts_states(states) {
        page.inner_join(Entity, search::key().equals((Entity, Column::Seq)));
        if let Some(before) = before {
            // The bound is given for both sides of the join: PostgreSQL infers equalities but not bounds
            // from a join, and for a deep page would scan all leads before it.
            page.and_where(Expr::col((Entity, Column::Seq)).lt(before));
        }
    }
    restrict(&mut page, condition, states, before, limit);
    let mut select = Entity::find().into_query();
    select
        .and_where(Expr::col((Entity, Column::Seq)).in_subquery(page))
        .order_by((Entity, Column::Seq), Order::Desc);
    DbBackend::Postgres.build(&select)
}

/// PostgreSQL's statement that searches only the newest leads. If many leads contain what is searched, these are
/// enough for a page. PostgreSQL does not detect this case: it assumes that the trigrams of a word are
/// independent of each other, expects only a few leads, and would sort all matches.
pub fn newest_statement(
    needles: &Needles,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
    newest: i64,
) -> Statement {
    let backend = DbBackend::Postgres;
    let seq = || Expr::col((Entity, Column::Seq));
    let condition = search::text_contains(backend, needles);
    let mut select = leads_with_texts();
    restrict(&mut select, condition, states, before, limit);
    let from = match before {
        Some(before) => Expr::value(before - newest),
        None => Expr::cust(format!("(SELECT max(\"seq\") FROM \"leads\") - {newest}")),
    };
    // The bounds are given for both sides of the join here too.
    select
        .and_where(search::key().gte(from.clone()))
        .and_where(seq().gte(from));
    if let Some(before) = before {
        select.and_where(seq().lt(before));
    }
    backend.build(&select)
}

fn leads_with_texts() -> SelectStatement {
    let mut select = Entity::find().into_query();
    select.inner_join("lead_search", search::key().equals((Entity, Column::Seq)));
    select
}

/// Restricts the rows of `lead_search` to the newest `limit` that meet the condition, have one of these
/// states, and are below `before`.
fn restrict(
    select: &mut SelectStatement,
    condition: Condition,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) {
    select
        .cond_where(condition)
        .order_by_expr(search::key(), Order::Desc)
        .limit(limit);
    filter_states(select, states);
    if let Some(before) = before {
        select.and_where(search::key().lt(before));
    }
}

fn filter_states(select: &mut SelectStatement, states: &[LeadState]) {
    if restricts_states(states) {
        let words = states.iter().map(|state| state.as_str());
        select.and_where(Expr::col((Entity, Column::State)).is_in(words));
    }
}

/// Whether the states restrict the result.
fn restricts_states(states: &[LeadState]) -> bool {
    !states.is_empty() && states.len() < LeadState::ALL.len()
}

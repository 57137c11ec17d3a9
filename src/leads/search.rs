//! Search: leads whose texts contain a query, newest first. Each database has its strategies:
//!
//! | Query | SQLite | PostgreSQL |
//! |---|---|---|
//! | three characters and more | the index gives blocks of leads, newest first, whose texts are compared | the newest leads, in case many match; then the array index |
//! | one or two characters | all leads, newest first | all leads, newest first |

use sea_orm::sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{Condition, ConnectionTrait, DbBackend, EntityTrait, QueryTrait, Statement};

use super::model::{Lead, LeadState};
use super::store::read_page;
use crate::db::entities::lead::{Column, Entity};
use crate::db::search::{
    self,
    index::{Candidates, array},
};
use crate::db::select::Part;
use crate::error::Result;

/// How many of the newest leads PostgreSQL looks through before it asks the index: first so few that
/// it costs next to nothing, and where that shows that many leads match, a page's worth.
pub const NEWEST: [i64; 2] = [250, 10_000];
/// How many matches among the first of these show that many match.
const COMMON: usize = 3;
/// How many blocks of candidates on SQLite are compared at once: where most blocks are candidates, at first
/// little more than a page of leads. More, because those before did not match or are in other states.
const COMPARED: [usize; 5] = [16, 64, 256, 1_024, 8_192];

/// Leads that contain the folded `query`, newest first, from below `before`: at most `limit`.
///
/// # Errors
/// Those of the database.
pub async fn search(
    db: &impl ConnectionTrait,
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Lead>> {
    if !search::is_indexed(query) {
        let backend = db.get_database_backend();
        let statement = scan_statement(backend, query, states, before, limit);
        return read_page(db, statement, limit).await;
    }
    if db.get_database_backend() == DbBackend::Postgres {
        on_postgres(db, query, states, before, limit).await
    } else {
        on_sqlite(db, query, states, before, limit).await
    }
}

async fn on_postgres(
    db: &impl ConnectionTrait,
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Lead>> {
    for newest in NEWEST {
        let statement = newest_statement(query, states, before, limit, newest);
        let found = read_page(db, statement, limit).await?;
        if found.cut || found.rows.len() as u64 == limit {
            return Ok(found);
        }
        if found.rows.len() < COMMON {
            break;
        }
    }
    let statement = index_statement(query, states, before, limit);
    read_page(db, statement, limit).await
}

/// A lead that is changed while its candidates are read can be missed only if it did not match all along.
/// The pending leads are read at the same moment as the first part of the index, or before any other. A lead
/// that matched then is a candidate if it was pending; if not, the index had a text of it that matched, and
/// whatever the index takes in later matches too. The texts are compared last.
async fn on_sqlite(
    db: &impl ConnectionTrait,
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Lead>> {
    let mut candidates = Candidates::find(db, query, before).await?;
    let mut found = Part::default();
    let mut sizes = COMPARED
        .into_iter()
        .skip(usize::from(!candidates.are_many()));
    let mut size = 0;
    loop {
        size = sizes.next().unwrap_or(size);
        let blocks = candidates.next(db, size).await?;
        let last = blocks.len() < size;
        let missing = limit.saturating_sub(found.rows.len() as u64);
        if !blocks.is_empty() {
            let statement = compare_statement(query, states, before, &blocks, missing);
            found.append(read_page(db, statement, missing).await?);
        }
        if last || found.rows.len() as u64 >= limit {
            return Ok(found);
        }
        if found.cut_when_full() {
            return Ok(found);
        }
    }
}

/// SQLite's statement that compares the texts of the leads in these blocks.
pub fn compare_statement(
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    blocks: &[i64],
    limit: u64,
) -> Statement {
    let seq = || Expr::col((Entity, Column::Seq));
    // No join: so the leads come in the order of the numbers, and are read for the page alone.
    let among = Expr::cust_with_values(
        "\"leads\".\"seq\" IN (SELECT s.seq FROM json_each(?) AS block CROSS JOIN lead_search AS s \
         ON s.seq BETWEEN block.value << 2 AND (block.value << 2) + 3 WHERE instr(s.text, ?) > 0)",
        [array(blocks.iter().copied()), query.to_owned()],
    );
    let mut select = Entity::find().into_query();
    select
        .and_where(among)
        .order_by((Entity, Column::Seq), Order::Desc)
        .limit(limit);
    of_states(&mut select, states);
    if let Some(before) = before {
        select.and_where(seq().lt(before));
    }
    DbBackend::Sqlite.build(&select)
}

/// The statement that looks through all leads, newest first.
pub fn scan_statement(
    backend: DbBackend,
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Statement {
    let condition = Condition::all().add(search::compares(backend, query));
    if backend == DbBackend::Postgres {
        return page_statement(condition, states, before, limit);
    }
    let mut select = leads_with_texts();
    narrow(&mut select, condition, states, before, limit);
    backend.build(&select)
}

/// PostgreSQL's statement that uses the index.
pub fn index_statement(
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Statement {
    page_statement(search::contains(query), states, before, limit)
}

/// PostgreSQL's statement that looks leads up for the page alone, not for all that match.
fn page_statement(
    condition: Condition,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Statement {
    let mut page = Query::select();
    page.expr(search::key()).from("lead_search");
    if by_state(states) {
        page.inner_join(Entity, search::key().equals((Entity, Column::Seq)));
        if let Some(before) = before {
            // Said of both sides of the join: PostgreSQL infers equalities from it, not bounds,
            // and would walk to a deep page over every lead before it.
            page.and_where(Expr::col((Entity, Column::Seq)).lt(before));
        }
    }
    narrow(&mut page, condition, states, before, limit);
    let mut select = Entity::find().into_query();
    select
        .and_where(Expr::col((Entity, Column::Seq)).in_subquery(page))
        .order_by((Entity, Column::Seq), Order::Desc);
    DbBackend::Postgres.build(&select)
}

/// PostgreSQL's statement that looks for `query` in the newest leads only. A part that many leads share fills
/// its page from these. PostgreSQL does not see that by itself: it takes the trigrams of one word for
/// independent of each other, expects a handful of leads, and would sort all there are.
pub fn newest_statement(
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
    newest: i64,
) -> Statement {
    let backend = DbBackend::Postgres;
    let seq = || Expr::col((Entity, Column::Seq));
    let condition = Condition::all().add(search::compares(backend, query));
    let mut select = leads_with_texts();
    narrow(&mut select, condition, states, before, limit);
    let from = match before {
        Some(before) => Expr::value(before - newest),
        None => Expr::cust(format!("(SELECT max(\"seq\") FROM \"leads\") - {newest}")),
    };
    // Here too the bounds are said of both sides.
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

/// Leaves the newest rows of `lead_search` that meet the condition, have one of these states, and come from
/// below `before`.
fn narrow(
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
    of_states(select, states);
    if let Some(before) = before {
        select.and_where(search::key().lt(before));
    }
}

fn of_states(select: &mut SelectStatement, states: &[LeadState]) {
    if by_state(states) {
        let words = states.iter().map(|state| state.word());
        select.and_where(Expr::col((Entity, Column::State)).is_in(words));
    }
}

/// Whether not every lead is wanted.
fn by_state(states: &[LeadState]) -> bool {
    !states.is_empty() && states.len() < LeadState::ALL.len()
}

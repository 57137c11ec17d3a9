//! How many leads a search finds.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{BLOCKS_PER_STATEMENT, among_blocks, filter_states, restricts_states};
use crate::core::text_enum::TextEnum as _;
use crate::db::entities::lead::{Column, Entity};
use crate::db::search::{self, Needles, index::Candidates};
use crate::error::{Error, Result};
use crate::features::leads::model::{LeadState, MAX_TOTAL, Total};

/// Counts the leads whose texts contain all of `needles`. It stops soon after [`MAX_TOTAL`].
///
/// # Errors
/// Those of the database.
pub async fn total(
    db: &impl ConnectionTrait,
    needles: &Needles,
    states: &[LeadState],
) -> Result<Total> {
    let mut counts: BTreeMap<LeadState, u64> = match restricts_states(states) {
        true => states.iter().map(|state| (*state, 0)).collect(),
        false => LeadState::ALL.iter().map(|state| (*state, 0)).collect(),
    };
    if db.get_database_backend() == DbBackend::Postgres || !needles.is_indexed() {
        let statement = total_statement(db.get_database_backend(), needles, states);
        add(db, statement, &mut counts).await?;
        return Ok(of_all(counts));
    }
    let mut candidates = Candidates::find(db, needles, None).await?;
    let mut sizes = BLOCKS_PER_STATEMENT.into_iter();
    let mut size = 0;
    loop {
        size = sizes.next().unwrap_or(size);
        let blocks = candidates.next(db, size).await?;
        let last = blocks.len() < size;
        if !blocks.is_empty() {
            let mut found = Query::select();
            found
                .expr(Expr::col((Entity, Column::State)))
                .from(Entity)
                .and_where(among_blocks(needles, &blocks));
            filter_states(&mut found, states);
            let statement = by_state(DbBackend::Sqlite, found);
            add(db, statement, &mut counts).await?;
        }
        if last || counts.values().sum::<u64>() > MAX_TOTAL {
            return Ok(of_all(counts));
        }
    }
}

fn of_all(counts: BTreeMap<LeadState, u64>) -> Total {
    Total {
        by_state: counts.into_iter().collect(),
        counted_together: true,
    }
}

/// The statement that counts at most one more than [`MAX_TOTAL`] leads by state. On SQLite it does not use the index.
pub fn total_statement(backend: DbBackend, needles: &Needles, states: &[LeadState]) -> Statement {
    let condition = match backend == DbBackend::Postgres && needles.is_indexed() {
        true => search::contains(needles),
        false => search::text_contains(backend, needles),
    };
    let mut found = Query::select();
    found
        .expr(Expr::col((Entity, Column::State)))
        .from("lead_search")
        .inner_join(Entity, search::key().equals((Entity, Column::Seq)))
        .cond_where(condition)
        .limit(MAX_TOTAL + 1);
    filter_states(&mut found, states);
    by_state(backend, found)
}

/// Counts the rows of a query for states.
fn by_state(backend: DbBackend, found: SelectStatement) -> Statement {
    let mut count = Query::select();
    count
        .expr(Expr::cust("state"))
        .expr(Expr::cust("count(*)"))
        .from_subquery(found, "found")
        .add_group_by([Expr::cust("state")]);
    backend.build(&count)
}

async fn add(
    db: &impl ConnectionTrait,
    statement: Statement,
    counts: &mut BTreeMap<LeadState, u64>,
) -> Result<()> {
    for row in db.query_all_raw(statement).await? {
        let (state, count): (String, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let state = LeadState::from_text(&state)
            .ok_or_else(|| Error::internal(format!("unknown lead state {state}")))?;
        *counts.entry(state).or_default() += count.unsigned_abs();
    }
    Ok(())
}

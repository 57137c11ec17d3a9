//! How many leads match a filter.

use sea_orm::sea_query::{Expr, ExprTrait, Order, Query};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{IndexedFilter, List, Plan, by_index, plan};
use crate::core::text_enum::TextEnum as _;
use crate::db::entities::lead::{Column, Entity};
use crate::error::Result;
use crate::features::leads::model::{Filter, LeadState, MAX_TOTAL, OrderKey, Ordering, Total};

/// The order whose index has the states. The result is the same for every order.
pub const TOTAL_ORDERING: Ordering = Ordering {
    key: OrderKey::CreateTime,
    descending: true,
};

/// Counts the leads that match a filter, for each of its states up to one more than [`MAX_TOTAL`].
///
/// # Errors
/// Those of the database.
pub async fn total(db: &impl ConnectionTrait, filter: &Filter) -> Result<Total> {
    let plan = plan(db, filter, TOTAL_ORDERING).await?;
    let backend = db.get_database_backend();
    let mut total = Total::default();
    for state in &filter.states {
        let statement = total_statement(backend, filter, plan, *state);
        let row = db.query_one_raw(statement).await?;
        let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
        total.by_state.push((*state, count.unsigned_abs()));
    }
    Ok(total)
}

/// The statement of [`total`] for one state.
pub fn total_statement(
    backend: DbBackend,
    filter: &Filter,
    plan: Plan,
    state: LeadState,
) -> Statement {
    let list = List {
        backend,
        filter,
        ordering: TOTAL_ORDERING,
        plan,
        after: None,
        limit: 0,
    };
    let mut matches = Query::select();
    matches
        .expr(Expr::value(1))
        .from(Entity)
        .and_where(Expr::col(Column::State).eq(state.as_str()))
        .cond_where(list.conditions())
        .limit(MAX_TOTAL + 1);
    if matches!(plan, Plan::Order) {
        // PostgreSQL would scan the table otherwise, and stop late if the state's leads are at its end.
        matches.order_by(Column::CreateTime, Order::Desc);
    }
    let mut count = Query::select();
    count
        .expr(Expr::cust("count(*)"))
        .from_subquery(matches, "matches");
    let index = match plan {
        Plan::Few(by) | Plan::Filter(by) => by,
        Plan::Order => IndexedFilter::CreateTime,
    };
    by_index(backend.build(&count), index)
}

//! The queries that list leads and search them, and how each is answered by an index.

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::sea_query::{
    Asterisk, Expr, ExprTrait, Order, Query, SelectStatement, UnionType, Value,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Statement,
};

use super::model::{Filter, Lead, LeadState, OrderKey, Ordering, Position, PositionKey};
use super::store::read;
use crate::db::entities::lead::{Column, Entity};
use crate::db::search;
use crate::error::Result;

/// Leads by filter and order, from behind `after`.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    ordering: Ordering,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<Lead>> {
    let statement = list_statement(db.get_database_backend(), filter, ordering, after, limit);
    read(db, statement).await
}

/// Leads that contain the folded `query`, newest first, from below `before`.
pub async fn search(
    db: &impl ConnectionTrait,
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<Lead>> {
    let backend = db.get_database_backend();
    if backend == DbBackend::Postgres && search::is_indexed(query) {
        for newest in NEWEST {
            let found = read(db, newest_statement(query, states, before, limit, newest)).await?;
            if found.len() as u64 == limit {
                return Ok(found);
            }
            if found.len() < COMMON {
                break;
            }
        }
    }
    read(db, search_statement(backend, query, states, before, limit)).await
}

/// The statement of [`list`]: for each state a walk along the index of that state and order, and
/// the walks merged, so that no combination of states reads more rows than it answers.
pub fn list_statement(
    backend: DbBackend,
    filter: &Filter,
    ordering: Ordering,
    after: Option<&Position>,
    limit: u64,
) -> Statement {
    let key = order_column(ordering.key);
    let order = if ordering.descending {
        Order::Desc
    } else {
        Order::Asc
    };
    let walk = |state: LeadState| {
        let mut query = Entity::find()
            .filter(Column::State.eq(state.word()))
            .filter(conditions(filter))
            .order_by(key, order.clone())
            .order_by(Column::Id, order.clone())
            .limit(limit);
        if let Some(Position(value, id)) = after {
            let here = Expr::tuple([Expr::col(key), Expr::col(Column::Id)]);
            let there = Expr::tuple([Expr::value(position_value(value)), Expr::value(*id)]);
            query = query.filter(if ordering.descending {
                here.lt(there)
            } else {
                here.gt(there)
            });
        }
        query.into_query()
    };
    let mut walks = filter.states.iter().map(|state| walk(*state));
    let Some(first) = walks.next() else {
        return backend.build(&walk(LeadState::Open));
    };
    let rest: Vec<SelectStatement> = walks.collect();
    if rest.is_empty() {
        return backend.build(&first);
    }
    let all = |walk| {
        Query::select()
            .column(Asterisk)
            .from_subquery(walk, "walk")
            .take()
    };
    let mut merged = all(first);
    for walk in rest {
        merged.union(UnionType::All, all(walk));
    }
    merged
        .order_by(key, order.clone())
        .order_by(Column::Id, order)
        .limit(limit);
    backend.build(&merged)
}

/// How many of the newest leads PostgreSQL looks through before it asks the index: first so few that
/// it costs next to nothing, and where that shows that many leads match, a page's worth.
pub const NEWEST: [i64; 2] = [250, 10_000];
/// How many matches among the first of these show that many match.
const COMMON: usize = 3;

/// The statement of [`search`()] that uses the index.
pub fn search_statement(
    backend: DbBackend,
    query: &str,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) -> Statement {
    let found = search::contains(backend, query);
    let mut select = Entity::find().into_query();
    if backend == DbBackend::Sqlite {
        let key = search::key(backend);
        select.inner_join("lead_search", key.equals((Entity, Column::Seq)));
        searching(&mut select, backend, found, states, before, limit);
    } else {
        // Leads are looked up for the page alone, not for all that match.
        let mut page = Query::select();
        page.expr(search::key(backend)).from("lead_search");
        if by_state(states) {
            let key = search::key(backend);
            page.inner_join(Entity, key.equals((Entity, Column::Seq)));
            if let Some(before) = before {
                // Said of both sides of the join: PostgreSQL infers equalities from it, not bounds,
                // and would walk to a deep page over every lead before it.
                page.and_where(Expr::col((Entity, Column::Seq)).lt(before));
            }
        }
        searching(&mut page, backend, found, states, before, limit);
        select
            .and_where(Expr::col((Entity, Column::Seq)).in_subquery(page))
            .order_by((Entity, Column::Seq), Order::Desc);
    }
    backend.build(&select)
}

/// The statement that looks for `query` in the newest leads only. A part that many leads share fills
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
    let key = || search::key(backend);
    let seq = || Expr::col((Entity, Column::Seq));
    let found = Condition::all().add(search::compares(backend, query));
    let mut select = Entity::find().into_query();
    select.inner_join("lead_search", key().equals((Entity, Column::Seq)));
    searching(&mut select, backend, found, states, before, limit);
    let from = match before {
        Some(before) => Expr::value(before - newest),
        None => Expr::cust(format!("(SELECT max(\"seq\") FROM \"leads\") - {newest}")),
    };
    // Here too the bounds are said of both sides.
    select
        .and_where(key().gte(from.clone()))
        .and_where(seq().gte(from));
    if let Some(before) = before {
        select.and_where(seq().lt(before));
    }
    backend.build(&select)
}

fn searching(
    select: &mut SelectStatement,
    backend: DbBackend,
    condition: Condition,
    states: &[LeadState],
    before: Option<i64>,
    limit: u64,
) {
    let key = || search::key(backend);
    select
        .cond_where(condition)
        .order_by_expr(key(), Order::Desc)
        .limit(limit);
    if by_state(states) {
        let words = states.iter().map(|state| state.word());
        select.and_where(Expr::col((Entity, Column::State)).is_in(words));
    }
    if let Some(before) = before {
        select.and_where(key().lt(before));
    }
}

/// Whether not every lead is wanted.
fn by_state(states: &[LeadState]) -> bool {
    !states.is_empty() && states.len() < LeadState::ALL.len()
}

fn order_column(key: OrderKey) -> Column {
    match key {
        OrderKey::CreateTime => Column::CreateTime,
        OrderKey::UpdateTime => Column::UpdateTime,
        OrderKey::LastName => Column::LastNameKey,
        OrderKey::Company => Column::CompanyKey,
    }
}

fn position_value(key: &PositionKey) -> Value {
    match key {
        PositionKey::Time(time) => (*time).into(),
        PositionKey::Text(text) => text.clone().into(),
    }
}

/// Only what was after `after` and before `before`.
pub fn between(
    column: Column,
    after: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
) -> Condition {
    // What is stored has whole microseconds, to which PostgreSQL would cut a bound.
    let after = after.map(|time| column.gt(time.trunc_subsecs(6)));
    let before = before.map(|time| {
        let whole = time.trunc_subsecs(6);
        if whole == time {
            column.lt(whole)
        } else {
            column.lte(whole)
        }
    });
    Condition::all().add_option(after).add_option(before)
}

fn conditions(filter: &Filter) -> Condition {
    let text = |column: Column, text: &str| (!text.is_empty()).then(|| column.eq(text));
    let owner = filter.owner_id.map(|id| id.to_string()).unwrap_or_default();
    Condition::all()
        .add_option(text(Column::OwnerId, &owner))
        // Written out: a bound value does not tell SQLite that the index without empty ones serves.
        .add_option((!owner.is_empty()).then(|| Expr::cust("owner_id <> ''")))
        .add_option(text(Column::CountryCode, &filter.country_code))
        .add_option(text(Column::Source, &filter.source))
        .add(between(
            Column::CreateTime,
            filter.create_time_after,
            filter.create_time_before,
        ))
        .add(between(
            Column::UpdateTime,
            filter.update_time_after,
            filter.update_time_before,
        ))
}

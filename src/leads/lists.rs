//! The queries that list leads, and how each is answered by an index.

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

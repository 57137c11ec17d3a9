//! The queries of the dashboard.

mod sql;

use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ConnectionTrait, EntityTrait, QueryFilter, QueryResult, QuerySelect};
use uuid::Uuid;

use super::model::{
    Amounts, Conversions, Converted, Figures, InStage, InStep, OPEN_STAGES, Owner, Period, Rates,
    Sum,
};
use crate::core::text_enum::TextEnum as _;
use crate::db::any_of;
use crate::db::entities::{operator, order_queue};
use crate::db::json::from_json;
use crate::error::{Error, Result};
use crate::features::leads::model::LeadState;
use crate::features::opportunities::model::Stage;
use crate::features::order_queues::model::Step;
use sql::part;

pub use sql::statement;

/// Counts everything in one snapshot, and then reads the names of what is listed.
pub async fn figures(
    db: &impl ConnectionTrait,
    period: &Period,
    owner_id: Option<Uuid>,
) -> Result<Figures> {
    let spans = period.spans();
    let statement = statement(db.get_database_backend(), &spans, owner_id);
    let mut parts: HashMap<i32, Vec<Row>> = HashMap::new();
    for row in db.query_all_raw(statement).await? {
        let (part, row) = Row::read(&row)?;
        parts.entry(part).or_default().push(row);
    }
    let mut take = |part: i32| parts.remove(&part).unwrap_or_default();
    let mut of_days: HashMap<usize, u64> = HashMap::new();
    for row in take(part::CONVERSIONS) {
        let span = usize::try_from(row.n[0]).ok();
        let span = span.and_then(|place| spans.get(place));
        let span = span.ok_or_else(|| Error::internal("a conversion in no span"))?;
        *of_days.entry(span.day).or_default() += count(row.n[1]);
    }
    let all = take(part::COHORT);
    let all = all.first().map(Row::converted).unwrap_or_default();
    let owners = owners(db, take(part::OWNERS), all).await?;
    let orders = take(part::ORDERS);
    let all_orders = orders.first().map_or(0, |row| count(row.n[2]));
    let orders = orders_by_step(db, orders).await?;
    let listed: u64 = orders.iter().map(|step| step.orders).sum();
    Ok(Figures {
        leads: leads(&take(part::LEADS)),
        opportunities: opportunities(&take(part::OPPORTUNITIES))?,
        conversions: Conversions::new(period, |day| of_days.get(&day).copied().unwrap_or(0)),
        median: take(part::MEDIAN).first().and_then(median),
        sources: {
            let (largest, with_key) = largest(take(part::SOURCES));
            Rates::new(largest, with_key, all)
        },
        owners,
        other_orders: all_orders.saturating_sub(listed),
        orders,
    })
}

/// A row of the statement.
struct Row {
    a: String,
    b: String,
    n: [i64; 5],
    /// Whether the first number is NULL.
    is_empty: bool,
}

impl Row {
    /// The part of a row, and the row.
    fn read(row: &QueryResult) -> Result<(i32, Self)> {
        let mut n = [0; 5];
        let mut is_empty = false;
        for (index, number) in n.iter_mut().enumerate() {
            let read: Option<i64> = row.try_get_by_index(3 + index)?;
            is_empty |= index == 0 && read.is_none();
            *number = read.unwrap_or(0);
        }
        let read = Self {
            a: row.try_get_by_index(1)?,
            b: row.try_get_by_index(2)?,
            n,
            is_empty,
        };
        Ok((row.try_get_by_index(0)?, read))
    }

    fn converted(&self) -> Converted {
        Converted {
            leads: count(self.n[0]),
            converted: count(self.n[1]),
        }
    }
}

/// A count, which is never negative.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn leads(rows: &[Row]) -> Vec<(LeadState, u64)> {
    let of = |state: LeadState| {
        let row = rows.iter().find(|row| row.a == state.as_str());
        row.map_or(0, |row| count(row.n[0]))
    };
    LeadState::ALL
        .iter()
        .map(|state| (*state, of(*state)))
        .collect()
}

/// The open opportunities in each stage, of rows for each stage, currency and probability.
fn opportunities(rows: &[Row]) -> Result<Vec<InStage>> {
    let mut stages = Vec::new();
    for stage in OPEN_STAGES {
        let mut in_stage = InStage {
            stage,
            opportunities: 0,
            without_amount: 0,
            amounts: Vec::new(),
        };
        let mut rows: Vec<&Row> = rows.iter().filter(|row| row.a == stage.as_str()).collect();
        rows.sort_by(|one, other| one.b.cmp(&other.b));
        for group in rows.chunk_by(|one, other| one.b == other.b) {
            let opportunities = group.iter().map(|row| count(row.n[0])).sum();
            in_stage.opportunities += opportunities;
            let currency_code = group.first().map_or("", |row| row.b.as_str());
            if currency_code.is_empty() {
                in_stage.without_amount += opportunities;
                continue;
            }
            let mut sum = Sum::default();
            let mut without_probability = 0;
            for row in group {
                let [n, probability, billions, units, nanos] = row.n;
                let probability = i32::try_from(probability).ok().filter(|known| *known >= 0);
                sum.add(billions, units, nanos, probability);
                if probability.is_none() {
                    without_probability += count(n);
                }
            }
            in_stage.amounts.push(Amounts {
                amount: sum.amount(currency_code),
                weighted: sum.weighted(currency_code),
                opportunities,
                without_probability,
            });
        }
        stages.push(in_stage);
    }
    let known =
        |row: &Row| Stage::from_text(&row.a).is_some_and(|stage| OPEN_STAGES.contains(&stage));
    match rows.iter().find(|row| !known(row)) {
        Some(row) => Err(Error::internal(format!(
            "an open opportunity in the stage {}",
            row.a
        ))),
        None => Ok(stages),
    }
}

/// The mean of the times in the middle, rounded down.
fn median(row: &Row) -> Option<Duration> {
    let [low, high, ..] = row.n;
    (!row.is_empty).then(|| Duration::microseconds(low + (high - low) / 2))
}

/// The largest groups by their keys, and the sum of all.
fn largest(rows: Vec<Row>) -> (Vec<(String, Converted)>, Converted) {
    let sum = rows.first().map(|row| Converted {
        leads: count(row.n[2]),
        converted: count(row.n[3]),
    });
    let groups = rows.into_iter().map(|row| {
        let converted = row.converted();
        (row.a, converted)
    });
    (groups.collect(), sum.unwrap_or_default())
}

/// The conversion rates of owners, with their names.
async fn owners(db: &impl ConnectionTrait, rows: Vec<Row>, all: Converted) -> Result<Rates<Owner>> {
    let (largest, with_owner) = largest(rows);
    let ids = largest
        .iter()
        .filter_map(|(id, _)| Uuid::try_parse(id).ok())
        .collect();
    let names = operator_names(db, ids).await?;
    let named = largest.into_iter().map(|(id, converted)| {
        let name = names.get(&id).cloned().unwrap_or_default();
        (Owner { id, name }, converted)
    });
    Ok(Rates::new(named.collect(), with_owner, all))
}

/// The display names of operators by their ids as text; the username where there is none.
async fn operator_names(
    db: &impl ConnectionTrait,
    ids: Vec<Uuid>,
) -> Result<HashMap<String, String>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    use operator::{Column, Entity};
    let select = Entity::find()
        .select_only()
        .columns([Column::Id, Column::DisplayName, Column::Username])
        .filter(any_of(Expr::col(Column::Id), ids));
    let rows: Vec<(Uuid, String, String)> = select.into_tuple().all(db).await?;
    let names = rows.into_iter().map(|(id, display_name, username)| {
        let name = match display_name.is_empty() {
            true => username,
            false => display_name,
        };
        (id.to_string(), name)
    });
    Ok(names.collect())
}

/// The orders in progress, in the order of their queues and steps.
async fn orders_by_step(db: &impl ConnectionTrait, rows: Vec<Row>) -> Result<Vec<InStep>> {
    let unreadable = || Error::internal("an order in a queue without an id");
    let mut steps = Vec::with_capacity(rows.len());
    for row in rows {
        steps.push(InStep {
            queue_id: Uuid::try_parse(&row.a).map_err(|_| unreadable())?,
            queue_name: String::new(),
            step: row.b,
            step_name: String::new(),
            place: None,
            orders: count(row.n[0]),
            oldest: DateTime::<Utc>::from_timestamp_micros(row.n[1]).ok_or_else(unreadable)?,
        });
    }
    let queues = queues(db, steps.iter().map(|step| step.queue_id).collect()).await?;
    for step in &mut steps {
        let Some((name, of_queue)) = queues.get(&step.queue_id) else {
            continue;
        };
        step.queue_name.clone_from(name);
        step.place = of_queue.iter().position(|known| known.key == step.step);
        if let Some(known) = step.place.and_then(|place| of_queue.get(place)) {
            step.step_name.clone_from(&known.name);
        }
    }
    steps.sort_by(|one, other| {
        let key = |step: &InStep| (step.queue_id, step.place.unwrap_or(usize::MAX));
        key(one)
            .cmp(&key(other))
            .then_with(|| one.step.cmp(&other.step))
    });
    Ok(steps)
}

/// The names and the steps of queues by their ids.
async fn queues(
    db: &impl ConnectionTrait,
    mut ids: Vec<Uuid>,
) -> Result<HashMap<Uuid, (String, Vec<Step>)>> {
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    use order_queue::{Column, Entity};
    let select = Entity::find()
        .select_only()
        .columns([Column::Id, Column::Name, Column::Steps])
        .filter(any_of(Expr::col(Column::Id), ids));
    let rows: Vec<(Uuid, String, serde_json::Value)> = select.into_tuple().all(db).await?;
    let mut queues = HashMap::with_capacity(rows.len());
    for (id, name, steps) in rows {
        queues.insert(id, (name, from_json(steps)?));
    }
    Ok(queues)
}

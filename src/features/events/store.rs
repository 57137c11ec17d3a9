//! The queries that complete events with their records, and the conditions of lists.

use std::collections::{BTreeMap, HashMap};

use sea_orm::sea_query::{ArrayType, Expr, ExprTrait, Value as SqlValue};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QuerySelect,
    Statement,
};
use serde_json::Value;
use uuid::Uuid;

use super::model::{ListFilter, Subject};
use crate::auth::operators::Operator;
use crate::commit::Record;
use crate::core::text_enum::TextEnum as _;
use crate::db::entities::event::Column;
use crate::db::entities::{opportunity, order};
use crate::db::event_log::list::{RARE_LIMIT, Wanted};
use crate::db::json::to_json;
use crate::db::{Db, rows};
use crate::error::Result;
use crate::features::leads::lists::between;
use crate::features::leads::model::Lead;
use crate::features::opportunities::model::Opportunity;
use crate::features::order_queues::model::OrderQueue;
use crate::features::orders::model::Order;
use crate::features::service_accounts::model::ServiceAccount;

/// The versions of a record above `after` and up to `until`.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    /// The record.
    pub id: Uuid,
    /// The version before the first one.
    pub after: i64,
    /// The last version.
    pub until: i64,
}

/// Records as they are now, and their versions. They have no secrets: a record is stored in events in the same form.
pub async fn current(
    db: &Db,
    subject: Subject,
    ids: Vec<Uuid>,
) -> Result<HashMap<Uuid, (i64, Value)>> {
    match subject {
        Subject::Lead => get::<Lead>(db, ids).await,
        Subject::Opportunity => get::<Opportunity>(db, ids).await,
        Subject::Order => get::<Order>(db, ids).await,
        Subject::OrderQueue => get::<OrderQueue>(db, ids).await,
        Subject::Operator => get::<Operator>(db, ids).await,
        Subject::ServiceAccount => get::<ServiceAccount>(db, ids).await,
    }
}

async fn get<R: Record>(db: &Db, ids: Vec<Uuid>) -> Result<HashMap<Uuid, (i64, Value)>> {
    let records = R::get_many(db.read(), ids).await?.into_iter();
    records
        .map(|record| Ok((record.id(), (record.version(), to_json(&record)?))))
        .collect()
}

/// The contents of the events of these versions, by record, each with its version, the newest first.
pub async fn contents(
    db: &Db,
    versions: &[Versions],
) -> Result<HashMap<Uuid, BTreeMap<i64, Value>>> {
    let statement = contents_statement(db.read().get_database_backend(), versions);
    let mut contents: HashMap<Uuid, BTreeMap<i64, Value>> = HashMap::new();
    for row in db.read().query_all_raw(statement).await? {
        let (id, version): (Uuid, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let content = row.try_get_by_index(2)?;
        contents.entry(id).or_default().insert(version, content);
    }
    Ok(contents)
}

/// The statement of [`contents`].
pub fn contents_statement(backend: DbBackend, versions: &[Versions]) -> Statement {
    if backend == DbBackend::Postgres {
        let array =
            |kind: ArrayType, values: Vec<SqlValue>| SqlValue::Array(kind, Some(Box::new(values)));
        let numbers = |number: fn(&Versions) -> i64| {
            let numbers = versions.iter().map(|of| number(of).into());
            array(ArrayType::BigInt, numbers.collect())
        };
        let ids = versions.iter().map(|of| of.id.into()).collect();
        // LATERAL with a LIMIT makes PostgreSQL look up each record by the index, also if it has planned the statement
        // while the table was small.
        let sql = "SELECT w.id, e.version, e.record \
                   FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS w(id, after, until) \
                   CROSS JOIN LATERAL (SELECT version, record FROM events WHERE subject_id = w.id \
                   AND version > w.after AND version <= w.until ORDER BY version DESC \
                   LIMIT w.until - w.after) AS e";
        let values = [
            array(ArrayType::Uuid, ids),
            numbers(|of| of.after),
            numbers(|of| of.until),
        ];
        return Statement::from_sql_and_values(backend, sql, values);
    }
    // Padding, so that there are few different statements, finds nothing.
    let nothing = Versions {
        id: Uuid::nil(),
        after: 0,
        until: 0,
    };
    let len = rows::padded_len(versions.len());
    let padded = versions.iter().copied().chain(std::iter::repeat(nothing));
    let values = padded
        .take(len)
        .flat_map(|of| [of.id.into(), of.after.into(), of.until.into()]);
    let places = vec!["(?, ?, ?)"; len].join(", ");
    // SQLite does not reorder the tables of a CROSS JOIN.
    let sql = format!(
        "WITH w(id, after, until) AS (VALUES {places}) SELECT w.id, e.version, e.record FROM w \
         CROSS JOIN events AS e WHERE e.subject_id = w.id AND e.version > w.after AND e.version <= w.until"
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// What a list looks for. `None` if no event can match.
pub async fn wanted(db: &Db, filter: &ListFilter) -> Result<Option<Wanted>> {
    let Some(condition) = condition(filter) else {
        return Ok(None);
    };
    let records = match (filter.subject_id, filter.lead_id) {
        (Some(id), _) => Some(vec![id]),
        (None, Some(lead_id)) => records_of_lead(db, lead_id).await?,
        (None, None) => None,
    };
    Ok(Some(Wanted {
        condition,
        records,
        time_after: filter.time_after,
        time_before: filter.time_before,
    }))
}

/// What the columns of an event must be. `None` if no event can match.
pub fn condition(filter: &ListFilter) -> Option<Condition> {
    let subjects = filter.possible_subjects();
    let mut condition = between(
        || Expr::col(Column::Time),
        filter.time_after,
        filter.time_before,
    );
    if filter.types.is_empty() {
        if subjects.is_empty() {
            return None;
        }
        if subjects.len() < Subject::ALL.len() {
            let kinds = subjects
                .iter()
                .map(|subject| Column::Type.like(format!("{}.%", subject.as_str())));
            condition = condition.add(kinds.fold(Condition::any(), Condition::add));
        }
    } else {
        let of_subject = |event_type: &&String| {
            Subject::of_type(event_type).is_some_and(|subject| subjects.contains(&subject))
        };
        let types: Vec<&str> = filter
            .types
            .iter()
            .filter(of_subject)
            .map(String::as_str)
            .collect();
        if types.is_empty() {
            return None;
        }
        condition = condition.add(Column::Type.is_in(types));
    }
    if let Some(id) = filter.subject_id {
        condition = condition.add(Column::SubjectId.eq(id));
    }
    if let Some(id) = filter.lead_id {
        condition = condition.add(Column::LeadId.eq(id));
    }
    if let Some(id) = filter.actor_id {
        condition = condition.add(Expr::cust("actor ->> 'id'").eq(id.to_string()));
    }
    if !filter.actor_kinds.is_empty() {
        let kinds = filter.actor_kinds.iter().map(|kind| kind.as_str());
        condition = condition.add(Expr::cust("actor ->> 'kind'").is_in(kinds));
    }
    Some(condition)
}

/// A lead and the records that belong to it. `None` if they are very many.
async fn records_of_lead(db: &Db, lead_id: Uuid) -> Result<Option<Vec<Uuid>>> {
    let mut ids = vec![lead_id];
    let opportunities = opportunity::Entity::find()
        .select_only()
        .column(opportunity::Column::Id)
        .filter(opportunity::Column::LeadId.eq(lead_id))
        .limit(RARE_LIMIT);
    ids.extend(opportunities.into_tuple::<Uuid>().all(db.read()).await?);
    let orders = order::Entity::find()
        .select_only()
        .column(order::Column::Id)
        .filter(order::Column::LeadId.eq(lead_id))
        .limit(RARE_LIMIT);
    ids.extend(orders.into_tuple::<Uuid>().all(db.read()).await?);
    Ok(Some(ids).filter(|ids| (ids.len() as u64) < RARE_LIMIT))
}

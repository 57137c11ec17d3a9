//! Every query about leads.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::sea_query::{
    Asterisk, Expr, ExprTrait, Order, Query, SelectStatement, UnionType, Value,
};
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbBackend,
    EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Statement,
};
use uuid::Uuid;

use super::model::{
    Address, Conversion, Deactivation, Details, Erasure, Filter, Lead, LeadState, OrderKey,
    Ordering, Position, PositionKey, Status, fold,
};
use crate::db::entities::lead::{ActiveModel, Column, CustomFields, Entity, Model};
use crate::db::json::{from_json, to_json};
use crate::db::rows::{self, Rows};
use crate::db::select::{self, Field, Fields};
use crate::db::{Patience, Tx, any_of, search, texts};
use crate::error::{Error, Result};

/// Leads by their ids, whatever their state.
pub async fn get_many(db: &impl ConnectionTrait, ids: Vec<Uuid>) -> Result<Vec<Lead>> {
    let backend = db.get_database_backend();
    let select = Entity::find().filter(any_of(Expr::col(Column::Id), ids));
    read(db, select.build(backend)).await
}

/// Leads that nobody else can change until the transaction ends, and which of them somebody else
/// holds: with patience, none. What there is not is in neither.
pub async fn hold(
    tx: &Tx,
    ids: BTreeSet<Uuid>,
    patience: Patience,
) -> Result<(Vec<Lead>, BTreeSet<Uuid>)> {
    let mut missing = ids.clone();
    let held: Vec<Lead> = match ids.is_empty() {
        true => Vec::new(),
        false => {
            let backend = tx.get_database_backend();
            let ids = ids.into_iter().collect();
            let select = Entity::find()
                .filter(any_of(Expr::col(Column::Id), ids))
                .order_by_asc(Column::Id);
            read(&**tx, patience.lock(select).build(backend)).await?
        }
    };
    for lead in &held {
        missing.remove(&lead.id);
    }
    if !missing.is_empty() {
        // Which of these are held, and which are not there?
        let asked: Vec<Uuid> = missing.iter().copied().collect();
        let there = get_many(&**tx, asked).await?;
        missing = there.into_iter().map(|lead| lead.id).collect();
    }
    Ok((held, missing))
}

/// Makes everyone else who creates a lead with one of these emails wait until the transaction ends.
/// Answers those that somebody else holds; with patience, none. SQLite has one writer anyway.
pub async fn lock_emails(
    tx: &Tx,
    emails: &BTreeSet<String>,
    patience: Patience,
) -> Result<BTreeSet<String>> {
    let names = emails
        .iter()
        .map(|email| format!("email/{email}"))
        .collect();
    let got = tx.lock_all(names, patience).await?;
    let held = emails.iter().zip(got).filter(|(_, got)| !got);
    Ok(held.map(|(email, _)| email.clone()).collect())
}

/// For each normalised email, the first lead that has it.
pub async fn with_emails(
    tx: &Tx,
    emails: BTreeSet<String>,
) -> Result<HashMap<String, Option<(Uuid, LeadState)>>> {
    let mut found: HashMap<String, Option<(Uuid, LeadState)>> = HashMap::new();
    if emails.is_empty() {
        return Ok(found);
    }
    let backend = tx.get_database_backend();
    let (from, values) = texts(backend, emails.iter().cloned().collect());
    // Not empty, said apart, so that the index, which leaves out empty ones, can be used.
    let sql = format!(
        "SELECT v.v, l.id, l.state FROM {from} JOIN leads AS l ON l.id = (SELECT f.id \
         FROM leads AS f WHERE f.email_key = v.v AND f.email_key <> '' \
         ORDER BY f.create_time LIMIT 1)"
    );
    let statement = Statement::from_sql_and_values(backend, sql, values);
    for row in tx.query_all_raw(statement).await? {
        let (email, id): (String, Uuid) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let state: String = row.try_get_by_index(2)?;
        let state = LeadState::from_word(&state)
            .ok_or_else(|| Error::internal(format!("unknown lead state {state}")))?;
        found.insert(email, Some((id, state)));
    }
    for email in emails {
        found.entry(email).or_insert(None);
    }
    Ok(found)
}

/// Writes new leads, and answers the rows of what they are found by.
pub async fn insert(tx: &Tx, leads: Vec<Lead>) -> Result<Vec<Rows>> {
    let rows: Result<Vec<ActiveModel>> = leads.iter().map(to_row).collect();
    let Some(rows) = Rows::insert(rows?)? else {
        return Ok(Vec::new());
    };
    let mut texts: HashMap<Uuid, String> = leads
        .iter()
        .map(|lead| (lead.id, lead.details.search_text()))
        .collect();
    let mut found_by = Vec::new();
    for row in rows::write_returning(tx, rows, "id, seq").await? {
        let (id, seq): (Uuid, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        found_by.push((seq, texts.remove(&id).unwrap_or_default()));
    }
    Ok(search::rows(tx.get_database_backend(), found_by)
        .into_iter()
        .collect())
}

/// The rows of leads' next versions, and of what they are found by where that changes. Each pair is
/// the stored lead and the one that takes its place.
pub fn updates(tx: &Tx, changes: Vec<(Lead, Lead)>) -> Result<Vec<Rows>> {
    let (mut versions, mut found_by) = (Vec::new(), Vec::new());
    for (before, after) in &changes {
        let row = rows::difference(&to_row(before)?, to_row(after)?);
        versions.push((before.id, before.version, row));
        let text = after.details.search_text();
        if text != before.details.search_text() {
            found_by.push((before.seq, text));
        }
    }
    let mut all = Rows::update(versions)?;
    all.extend(search::rows(tx.get_database_backend(), found_by));
    Ok(all)
}

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

impl Field for CustomFields {
    fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// The leads that a statement for whole rows finds.
pub async fn read(db: &impl ConnectionTrait, statement: Statement) -> Result<Vec<Lead>> {
    let rows = select::rows::<Entity>(db, statement, model).await?;
    rows.into_iter().map(from_row).collect()
}

/// A row from its fields, which come in the order in which they are written here and in the entity.
fn model(row: &mut Fields<'_>) -> Option<Model> {
    Some(Model {
        seq: row.take()?,
        id: row.take()?,
        version: row.take()?,
        state: row.take()?,
        first_name: row.take()?,
        last_name: row.take()?,
        company: row.take()?,
        email: row.take()?,
        phone: row.take()?,
        fax: row.take()?,
        vat_id: row.take()?,
        street: row.take()?,
        city: row.take()?,
        region: row.take()?,
        postal_code: row.take()?,
        country_code: row.take()?,
        language: row.take()?,
        owner_id: row.take()?,
        source: row.take()?,
        custom_fields: row.take()?,
        last_name_key: row.take()?,
        company_key: row.take()?,
        email_key: row.take()?,
        deactivation_time: row.take()?,
        deactivation_actor: row.take()?,
        deactivation_reason: row.take()?,
        conversion_time: row.take()?,
        conversion_actor: row.take()?,
        conversion_order_id: row.take()?,
        create_time: row.take()?,
        update_time: row.take()?,
        erasure_time: row.take()?,
        erasure_actor: row.take()?,
    })
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

fn conditions(filter: &Filter) -> Condition {
    let time = |column: Column, time: Option<DateTime<Utc>>, after: bool| {
        time.map(|time| {
            // What is stored has whole microseconds, to which PostgreSQL would cut a bound.
            let whole = time.trunc_subsecs(6);
            if after {
                column.gt(whole)
            } else if whole == time {
                column.lt(whole)
            } else {
                column.lte(whole)
            }
        })
    };
    let text = |column: Column, text: &str| (!text.is_empty()).then(|| column.eq(text));
    let owner = filter.owner_id.map(|id| id.to_string()).unwrap_or_default();
    Condition::all()
        .add_option(text(Column::OwnerId, &owner))
        // Written out: a bound value does not tell SQLite that the index without empty ones serves.
        .add_option((!owner.is_empty()).then(|| Expr::cust("owner_id <> ''")))
        .add_option(text(Column::CountryCode, &filter.country_code))
        .add_option(text(Column::Source, &filter.source))
        .add_option(time(Column::CreateTime, filter.create_time_after, true))
        .add_option(time(Column::CreateTime, filter.create_time_before, false))
        .add_option(time(Column::UpdateTime, filter.update_time_after, true))
        .add_option(time(Column::UpdateTime, filter.update_time_before, false))
}

fn to_row(lead: &Lead) -> Result<ActiveModel> {
    let details = lead.details.clone();
    let (deactivation, conversion) = match &lead.status {
        Status::Open => (None, None),
        Status::Deactivated { deactivation } => (Some(deactivation), None),
        Status::Converted { conversion } => (None, Some(conversion)),
    };
    Ok(ActiveModel {
        seq: NotSet,
        id: Set(lead.id),
        version: Set(lead.version),
        state: Set(lead.state().word().to_owned()),
        last_name_key: Set(fold(&details.last_name)),
        company_key: Set(fold(&details.company)),
        email_key: Set(details.email_key()),
        first_name: Set(details.first_name),
        last_name: Set(details.last_name),
        company: Set(details.company),
        email: Set(details.email),
        phone: Set(details.phone),
        fax: Set(details.fax),
        vat_id: Set(details.vat_id),
        street: Set(details.address.street),
        city: Set(details.address.city),
        region: Set(details.address.region),
        postal_code: Set(details.address.postal_code),
        country_code: Set(details.address.country_code),
        language: Set(details.language),
        owner_id: Set(details.owner_id),
        source: Set(details.source),
        custom_fields: Set(CustomFields(details.custom_fields)),
        deactivation_time: Set(deactivation.map(|by| by.time)),
        deactivation_actor: Set(deactivation.map(|by| to_json(&by.actor)).transpose()?),
        deactivation_reason: Set(deactivation.map(|by| by.reason.clone())),
        conversion_time: Set(conversion.map(|by| by.time)),
        conversion_actor: Set(conversion.map(|by| to_json(&by.actor)).transpose()?),
        conversion_order_id: Set(conversion.and_then(|by| by.order_id)),
        create_time: Set(lead.create_time),
        update_time: Set(lead.update_time),
        erasure_time: Set(lead.erasure.as_ref().map(|by| by.time)),
        erasure_actor: Set(match &lead.erasure {
            Some(by) => Some(to_json(&by.actor)?),
            None => None,
        }),
    })
}

/// A lead from its row.
///
/// # Errors
/// [`Error::Internal`] for a row this service cannot have written.
pub fn from_row(row: Model) -> Result<Lead> {
    let broken = || Error::internal(format!("the row of lead {} contradicts itself", row.id));
    let status = match LeadState::from_word(&row.state).ok_or_else(broken)? {
        LeadState::Open => Status::Open,
        LeadState::Deactivated => Status::Deactivated {
            deactivation: Deactivation {
                time: row.deactivation_time.ok_or_else(broken)?,
                actor: from_json(row.deactivation_actor.clone().ok_or_else(broken)?)?,
                reason: row.deactivation_reason.clone().unwrap_or_default(),
            },
        },
        LeadState::Converted => Status::Converted {
            conversion: Conversion::new(
                row.conversion_time.ok_or_else(broken)?,
                from_json(row.conversion_actor.clone().ok_or_else(broken)?)?,
                row.id,
                row.conversion_order_id,
            ),
        },
    };
    let erasure = match (row.erasure_time, row.erasure_actor.clone()) {
        (Some(time), Some(actor)) => Some(Erasure {
            time,
            actor: from_json(actor)?,
        }),
        _ => None,
    };
    Ok(Lead {
        id: row.id,
        seq: row.seq,
        version: row.version,
        status,
        erasure,
        create_time: row.create_time,
        update_time: row.update_time,
        details: Details {
            first_name: row.first_name,
            last_name: row.last_name,
            company: row.company,
            email: row.email,
            phone: row.phone,
            fax: row.fax,
            vat_id: row.vat_id,
            address: Address {
                street: row.street,
                city: row.city,
                region: row.region,
                postal_code: row.postal_code,
                country_code: row.country_code,
            },
            language: row.language,
            owner_id: row.owner_id,
            source: row.source,
            custom_fields: row.custom_fields.0,
        },
    })
}

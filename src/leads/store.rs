//! Leads in the database: read by their keys, held, written. What finds them by anything else is in
//! [`lists`](super::lists) and [`search`](mod@super::search).

use std::collections::{BTreeSet, HashMap};

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Statement,
};
use uuid::Uuid;

use super::model::{
    Address, Conversion, Deactivation, Details, Erasure, Lead, LeadState, Status, fold,
};
use crate::db::entities::lead::{ActiveModel, Column, CustomFields, Entity, Model};
use crate::db::json::{from_json, to_json};
use crate::db::rows::{self, Rows};
use crate::db::select::{self, Field, Fields, Part};
use crate::db::{Patience, Tx, any_of, search, texts, there};
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
    Ok((held, there::<Entity>(tx, Column::Id, missing).await?))
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

/// For each normalised email, the lead to go on with of those that have it: an OPEN one, else a
/// CONVERTED one, else a DEACTIVATED one, and of several the newest.
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
    let newest = |state: LeadState| {
        format!(
            "(SELECT f.id FROM leads AS f WHERE f.email_key = v.v AND f.email_key <> '' \
             AND f.state = '{state}' ORDER BY f.seq DESC LIMIT 1)"
        )
    };
    let sql = format!(
        "SELECT v.v, l.id, l.state FROM {from} JOIN leads AS l ON l.id = COALESCE({}, {}, {})",
        newest(LeadState::Open),
        newest(LeadState::Converted),
        newest(LeadState::Deactivated),
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
    let mut found_by = search::Texts::new();
    for row in rows::write_returning(tx, rows, "id, seq").await? {
        let (id, seq): (Uuid, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        found_by.insert(seq, texts.remove(&id).unwrap_or_default());
    }
    Ok(search::add(tx, found_by).await?.into_iter().collect())
}

/// The rows of leads' next versions, and of what they are found by where that changes. Each pair is
/// the stored lead and the one that takes its place.
pub async fn updates(tx: &Tx, changes: Vec<(Lead, Lead)>) -> Result<Vec<Rows>> {
    let (mut versions, mut found_by) = (Vec::new(), search::Texts::new());
    for (before, after) in &changes {
        let row = rows::difference(&to_row(before)?, to_row(after)?);
        versions.push((before.id, before.version, row));
        let text = after.details.search_text();
        if text != before.details.search_text() {
            found_by.insert(before.seq, text);
        }
    }
    let mut all = Rows::update(versions)?;
    if !found_by.is_empty() {
        all.extend(search::change(tx, found_by).await?);
    }
    Ok(all)
}

/// What leads are called, and their states.
pub async fn names(
    db: &impl ConnectionTrait,
    ids: Vec<Uuid>,
) -> Result<HashMap<Uuid, (String, LeadState)>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    type Row = (Uuid, String, String, String, String);
    let rows: Vec<Row> = Entity::find()
        .select_only()
        .columns([
            Column::Id,
            Column::State,
            Column::FirstName,
            Column::LastName,
            Column::Company,
        ])
        .filter(any_of(Expr::col(Column::Id), ids))
        .into_tuple()
        .all(db)
        .await?;
    let named = rows
        .into_iter()
        .map(|(id, state, first_name, last_name, company)| {
            let details = Details {
                first_name,
                last_name,
                company,
                ..Details::default()
            };
            let state = LeadState::from_word(&state)
                .ok_or_else(|| Error::internal(format!("unknown lead state {state}")))?;
            Ok((id, (details.display_name(), state)))
        });
    named.collect()
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

/// A page of the leads that a statement for whole rows finds, of which there are at most `limit`.
pub async fn read_page(
    db: &impl ConnectionTrait,
    statement: Statement,
    limit: u64,
) -> Result<Part<Lead>> {
    let large = [
        Column::CustomFields,
        Column::Street,
        Column::DeactivationReason,
    ];
    let part = select::page::<Entity>(db, statement, limit, &large, model).await?;
    part.map(from_row)
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

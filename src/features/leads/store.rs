//! The storage of leads: read by key, lock and write. The queries that find leads by other criteria are in
//! [`lists`](super::lists) and [`search`](mod@super::search).

mod references;
mod row;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, Keyword, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    Select, Statement,
};
use uuid::Uuid;

use super::model::{Details, Lead, LeadState, custom_key};
use crate::commit::{Record, SideStatement};
use crate::core::field_change::FieldChange;
use crate::core::text_enum::TextEnum as _;
use crate::db::entities::lead::{ActiveModel, Column, Entity};
use crate::db::rows::{self, Rows};
use crate::db::select::{self, Part};
use crate::db::{self, LockWait, Locked, Tx, any_of, existing_ids, search, texts};
use crate::error::{Error, Result};
pub use references::{references, references_statement};
pub use row::from_row;
use row::to_row;

/// Reads leads by id, in any state.
pub async fn get_many(db: &impl ConnectionTrait, ids: Vec<Uuid>) -> Result<Vec<Lead>> {
    let backend = db.get_database_backend();
    let select = Entity::find().filter(any_of(Expr::col(Column::Id), ids));
    read(db, select.build(backend)).await
}

/// Reads leads by their numbers in the order of creation.
pub async fn get_by_numbers(db: &impl ConnectionTrait, numbers: Vec<i64>) -> Result<Vec<Lead>> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let select = Entity::find().filter(Column::Seq.is_in(numbers));
    read(db, select.build(db.get_database_backend())).await
}

/// Reads leads by id, in the order of the ids, as a page that ends by its size.
pub async fn get_page(db: &impl ConnectionTrait, ids: Vec<Uuid>) -> Result<Part<Lead>> {
    let limit = ids.len() as u64;
    let select = Entity::find()
        .filter(any_of(Expr::col(Column::Id), ids))
        .order_by_asc(Column::Id);
    read_page(db, select.build(db.get_database_backend()), limit).await
}

/// The leads with a normalised email, which is not empty, newest first, below the number `before`.
pub fn select_by_email(email: &str, before: Option<i64>, limit: u64) -> Select<Entity> {
    let query = Entity::find()
        .filter(Column::EmailKey.eq(email))
        // The condition of the partial index.
        .filter(Expr::cust("email_key <> ''"))
        .order_by_desc(Column::Seq)
        .limit(limit);
    match before {
        Some(before) => query.filter(Column::Seq.lt(before)),
        None => query,
    }
}

impl Record for Lead {
    const SUBJECT: &'static str = "LEAD";
    const NAME: &'static str = "lead";
    const IS_ROOT: bool = true;
    const KEY: &'static str = "email";

    fn id(&self) -> Uuid {
        self.id
    }

    fn root_id(&self) -> Uuid {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn update_time(&self) -> DateTime<Utc> {
        self.update_time
    }

    async fn get_many<C: ConnectionTrait>(db: &C, ids: Vec<Uuid>) -> Result<Vec<Self>> {
        get_many(db, ids).await
    }

    async fn lock(tx: &Tx, ids: BTreeSet<Uuid>, wait: LockWait) -> Result<Locked<Self>> {
        let select = Entity::find()
            .filter(any_of(Expr::col(Column::Id), ids.iter().copied().collect()))
            .order_by_asc(Column::Id);
        let select = wait.lock(select).build(tx.get_database_backend());
        let records = read(&**tx, select).await?;
        let mut missing = ids;
        for lead in &records {
            missing.remove(&lead.id);
        }
        let busy = existing_ids::<Entity>(tx, Column::Id, missing).await?;
        Ok(Locked { records, busy })
    }

    async fn write(tx: &Tx, created: Vec<Self>, changed: Vec<(Self, Self)>) -> Result<Vec<Rows>> {
        let mut all = insert(tx, created).await?;
        all.extend(update(tx, changed).await?);
        Ok(all)
    }

    /// The leads that were joined to a client.
    async fn attached_to(tx: &Tx, root_id: Uuid) -> Result<BTreeSet<Uuid>> {
        db::ids_where::<Entity>(tx, Column::Id, Column::ConversionClientId.eq(root_id)).await
    }

    fn refers_to(&self) -> Option<Uuid> {
        self.joined_to()
    }

    fn is_kept_in_history(field: &str) -> bool {
        matches!(
            field,
            "state" | "owner_id" | "conversion.client_id" | "lead_ids"
        )
    }

    fn without_texts(&self, _time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        // A lead is erased by its own use case.
        None
    }

    fn key(&self) -> Option<String> {
        Some(self.details.email_key())
    }

    async fn find_by_keys(tx: &Tx, keys: BTreeSet<String>) -> Result<HashMap<String, Self>> {
        find_by_emails(tx, keys).await
    }

    fn is_erased(&self) -> bool {
        self.erasure.is_some()
    }

    fn long_texts(&self) -> Vec<&str> {
        let values = self.details.custom_fields.values();
        values.map(String::as_str).collect()
    }

    fn undo(&mut self, change: &FieldChange) {
        if let Some(key) = custom_key(&change.field) {
            let fields = &mut self.details.custom_fields;
            fields.insert(key.to_owned(), change.old_value.clone());
        }
    }
}

/// For each normalised email that a lead has, the lead that a duplicate error names: an OPEN one, else a
/// CONVERTED one, else a DEACTIVATED one; if there are several, the newest.
async fn find_by_emails(tx: &Tx, emails: BTreeSet<String>) -> Result<HashMap<String, Lead>> {
    if emails.is_empty() {
        return Ok(HashMap::new());
    }
    let backend = tx.get_database_backend();
    let (from, values) = texts(backend, emails.into_iter().collect());
    // The condition for non-empty emails is redundant, but lets the database use the partial index, which
    // does not contain empty emails.
    let newest = |state: LeadState| {
        format!(
            "(SELECT f.id FROM leads AS f WHERE f.email_key = v.v AND f.email_key <> '' \
             AND f.state = '{state}' ORDER BY f.seq DESC LIMIT 1)"
        )
    };
    let sql = format!(
        "SELECT v.v, l.id FROM {from} JOIN leads AS l ON l.id = COALESCE({}, {}, {})",
        newest(LeadState::Open),
        newest(LeadState::Converted),
        newest(LeadState::Deactivated),
    );
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let mut ids: HashMap<Uuid, String> = HashMap::new();
    for row in tx.query_all_raw(statement).await? {
        ids.insert(row.try_get_by_index(1)?, row.try_get_by_index(0)?);
    }
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let leads = get_many(&**tx, ids.keys().copied().collect()).await?;
    let found = leads
        .into_iter()
        .filter_map(|lead| Some((ids.remove(&lead.id)?, lead)));
    Ok(found.collect())
}

/// Writes new leads, and returns the rows of their search index.
async fn insert(tx: &Tx, leads: Vec<Lead>) -> Result<Vec<Rows>> {
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

/// The rows of the next versions of leads, and of their search index if their search text changes.
async fn update(tx: &Tx, changes: Vec<(Lead, Lead)>) -> Result<Vec<Rows>> {
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

/// Removes what the leads that were joined to a client carried to it, and what the client had before.
pub fn forget_carried(client_id: Uuid) -> SideStatement {
    let mut forget = Query::update();
    forget
        .table(Entity)
        .value(Column::ConversionCarried, Keyword::Null)
        .and_where(Expr::col(Column::ConversionClientId).eq(client_id))
        .and_where(Expr::col(Column::ConversionCarried).is_not_null());
    SideStatement::Update(forget)
}

/// The ids of a client and of the leads that were joined to it; `None` if there is no such client.
pub async fn ids_of_client(
    db: &impl ConnectionTrait,
    client_id: Uuid,
) -> Result<Option<Vec<Uuid>>> {
    let found = get_many(db, vec![client_id]).await?.into_iter().next();
    let client = found.filter(Lead::is_client);
    Ok(client.and_then(|client| {
        let mut ids = vec![client.id];
        ids.extend(&client.conversion()?.joined_leads);
        Some(ids)
    }))
}

/// The display names and states of leads.
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
            let state = LeadState::from_text(&state)
                .ok_or_else(|| Error::internal(format!("unknown lead state {state}")))?;
            Ok((id, (details.display_name(), state)))
        });
    named.collect()
}

/// Reads leads with a statement that selects whole rows.
pub async fn read(db: &impl ConnectionTrait, statement: Statement) -> Result<Vec<Lead>> {
    let rows = select::rows::<Entity>(db, statement).await?;
    rows.into_iter().map(from_row).collect()
}

/// Reads a page of at most `limit` leads with a statement that selects whole rows.
pub async fn read_page(
    db: &impl ConnectionTrait,
    statement: Statement,
    limit: u64,
) -> Result<Part<Lead>> {
    let large = [
        Column::CustomFields,
        Column::Street,
        Column::DeactivationReason,
        Column::ConversionCarried,
    ];
    let part = select::page::<Entity>(db, statement, limit, &large).await?;
    part.map(from_row)
}

//! Request ids: a repeat of a call gets the first success's answer, byte for byte.
//!
//! The record is written with the effect, so that there is never one without the other. Who comes
//! second while the first is still running is told so at once instead of waiting: inside one process
//! by [`InFlight`], between replicas by a lock of the request id that the first one's transaction
//! holds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use prost::Message;
use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbBackend, EntityTrait, QueryResult, Statement};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::packed;
use crate::auth::Call;
use crate::db::{Db, Tx, entities::idempotency_record, lock_number, rows};
use crate::error::{Error, Result};

/// A request id and what was asked under it.
#[derive(Clone, Copy, Debug)]
pub struct RequestKey {
    /// The caller's UUID.
    pub id: Uuid,
    /// SHA-256 of the RPC's name and its body without secrets.
    pub fingerprint: [u8; 32],
}

impl RequestKey {
    /// That of a request with this id. `bare` is the request without its secrets: a password is not
    /// part of what was asked, and nothing of it must be kept.
    pub fn of(id: Option<Uuid>, rpc: &str, bare: &impl Message) -> Option<Self> {
        let id = id?;
        let mut digest = Sha256::new();
        digest.update(rpc);
        digest.update([0]);
        digest.update(bare.encode_to_vec());
        Some(Self {
            id,
            fingerprint: digest.finalize().into(),
        })
    }
}

/// The request ids this process is working on.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<HashSet<(Uuid, Uuid)>>>);

/// Held while a request id is being worked on.
pub struct Working {
    set: InFlight,
    key: (Uuid, Uuid),
}

impl InFlight {
    /// Begins to work on a call's request id.
    ///
    /// # Errors
    /// [`Error::RequestInFlight`] when somebody does already.
    pub fn enter(&self, call: &Call) -> Result<Option<Working>> {
        let Some(request) = call.key else {
            return Ok(None);
        };
        let key = (call.principal.id, request.id);
        let mut set = self.0.lock().unwrap_or_else(|held| held.into_inner());
        if !set.insert(key) {
            return Err(Error::RequestInFlight);
        }
        Ok(Some(Working {
            set: self.clone(),
            key,
        }))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut set = self.set.0.lock().unwrap_or_else(|held| held.into_inner());
        set.remove(&self.key);
    }
}

/// What was answered to a request id before.
pub struct Kept {
    /// The lead the call was about.
    lead_id: Option<Uuid>,
    fingerprint: Vec<u8>,
    /// Empty once it is erased with the lead: no answer is. May be packed.
    response: Vec<u8>,
}

impl Kept {
    /// Puts the answer together again, if the same was asked.
    ///
    /// # Errors
    /// [`Error::LeadErased`] when it was erased with its lead.
    pub(super) async fn unpack(mut self, db: &impl ConnectionTrait, call: &Call) -> Result<Self> {
        if self.is_asked_by(call) {
            self.response = packed::unpack(db, self.lead_id, self.response).await?;
        }
        Ok(self)
    }

    fn is_asked_by(&self, call: &Call) -> bool {
        call.key
            .is_some_and(|key| self.fingerprint == key.fingerprint)
    }

    /// The answer, if the same was asked.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`] when something else was asked under the id;
    /// [`Error::LeadErased`] when the answer was erased with its lead.
    pub fn answer<R: Message + Default>(self, call: &Call) -> Result<Option<R>> {
        if call.key.is_none() {
            return Ok(None);
        }
        if !self.is_asked_by(call) {
            return Err(Error::RequestIdReused);
        }
        if let (Some(lead_id), true) = (self.lead_id, self.response.is_empty()) {
            return Err(Error::LeadErased(lead_id));
        }
        R::decode(self.response.as_slice())
            .map(Some)
            .map_err(Error::internal)
    }
}

/// The answer kept for a call's request id, if it was answered before.
///
/// # Errors
/// [`Error::RequestIdReused`] when something else was asked under it.
pub async fn replay<R: Message + Default>(db: &Db, call: &Call) -> Result<Option<R>> {
    let Some(key) = call.key else { return Ok(None) };
    let found = idempotency_record::Entity::find_by_id((call.principal.id, key.id))
        .one(db.read())
        .await?;
    let Some(record) = found else { return Ok(None) };
    db.settled().await?;
    let kept = Kept {
        lead_id: record.lead_id,
        fingerprint: record.fingerprint,
        response: record.response,
    };
    kept.unpack(db.read(), call).await?.answer(call)
}

/// The answer to a call that was to be refused before its transaction: where the first call with its
/// request id came to its end meanwhile, that one's, for the refusal may come of what it did.
///
/// # Errors
/// The refusal; those of [`replay`].
pub async fn refuse<R: Message + Default>(db: &Db, call: &Call, refusal: Error) -> Result<R> {
    replay(db, call).await?.ok_or(refusal)
}

/// What there is about a request id.
pub enum Found {
    /// Nothing, and nobody else works on it until the transaction ends.
    Nothing,
    /// Another replica works on it.
    InFlight,
    /// It was answered.
    Kept(Kept),
}

/// Whose request id, and which.
pub type Name = (Uuid, Uuid);

/// A call's request id in full.
pub fn name(call: &Call) -> Option<Name> {
    call.key.map(|key| (call.principal.id, key.id))
}

/// Looks up the responses kept for these request ids, and keeps other replicas from working on them until
/// `tx` ends. A response that another replica commits between the two is not seen. The unique key then
/// makes this transaction fail with a conflict, so that it is retried, and a refusal looks again.
pub async fn look(tx: &Tx, names: &[Name]) -> Result<Vec<Found>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let rows = if tx.get_database_backend() == DbBackend::Postgres {
        look_on_postgres(tx, names).await?
    } else {
        look_on_sqlite(tx, names).await?
    };
    let mut found: HashMap<Name, Found> = HashMap::new();
    for row in rows {
        let name = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let fingerprint: Option<Vec<u8>> = row.try_get_by_index(2)?;
        let response: Option<Vec<u8>> = row.try_get_by_index(3)?;
        let free: bool = row.try_get_by_index(4)?;
        let what = match (fingerprint, response) {
            (Some(fingerprint), Some(response)) => Found::Kept(Kept {
                lead_id: row.try_get_by_index(5)?,
                fingerprint,
                response,
            }),
            _ if free => Found::Nothing,
            _ => Found::InFlight,
        };
        found.insert(name, what);
    }
    let found = names.iter().map(|name| found.remove(name));
    Ok(found.map(|found| found.unwrap_or(Found::Nothing)).collect())
}

async fn look_on_postgres(tx: &Tx, names: &[Name]) -> Result<Vec<QueryResult>> {
    let (mut principals, mut requests, mut locks) = (Vec::new(), Vec::new(), Vec::new());
    for (principal, request) in names {
        principals.push(Value::from(*principal));
        requests.push(Value::from(*request));
        locks.push(Value::from(lock_number(&format!(
            "request/{principal}/{request}"
        ))));
    }
    let array = |r#type, values| Value::Array(r#type, Some(Box::new(values)));
    // LATERAL with a LIMIT is looked up by the index, name by name. A plain join, planned while the
    // table is small, would read all of it for each name until it is planned anew.
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT k.principal_id, k.request_id, r.fingerprint, r.response, \
         pg_try_advisory_xact_lock(k.number), r.lead_id \
         FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS k(principal_id, request_id, number) \
         LEFT JOIN LATERAL (SELECT * FROM idempotency_records \
         WHERE principal_id = k.principal_id AND request_id = k.request_id LIMIT 1) AS r ON TRUE",
        [
            array(ArrayType::Uuid, principals),
            array(ArrayType::Uuid, requests),
            array(ArrayType::BigInt, locks),
        ],
    );
    Ok(tx.query_all_raw(statement).await?)
}

/// There is one writer: nobody else works on anything.
async fn look_on_sqlite(tx: &Tx, names: &[Name]) -> Result<Vec<QueryResult>> {
    let places = rows::places(names.len());
    let sql = format!(
        "SELECT principal_id, request_id, fingerprint, response, TRUE, lead_id \
         FROM idempotency_records \
         WHERE (principal_id, request_id) IN (VALUES {})",
        vec!["(?, ?)"; places].join(", ")
    );
    let padded = names
        .iter()
        .chain(std::iter::repeat(&names[0]))
        .take(places);
    let values = padded.flat_map(|(principal, request)| [(*principal).into(), (*request).into()]);
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    Ok(tx.query_all_raw(statement).await?)
}

/// The record that keeps an answer for repeats; none for a call without a request id.
pub fn to_row(
    call: &Call,
    lead_id: Uuid,
    response: Vec<u8>,
    now: DateTime<Utc>,
) -> Option<idempotency_record::ActiveModel> {
    let key = call.key?;
    Some(idempotency_record::ActiveModel {
        principal_id: Set(call.principal.id),
        request_id: Set(key.id),
        lead_id: Set(Some(lead_id)),
        fingerprint: Set(key.fingerprint.to_vec()),
        response: Set(response),
        create_time: Set(now),
    })
}

//! Idempotency by request id: a retry gets the response of the first successful call, byte for byte.
//!
//! The response is stored in the transaction of the change, so neither exists without the other. A retry
//! that arrives while the first call is still running fails immediately instead of waiting: within one
//! process by [`InFlight`], between replicas by a lock on the request id that the transaction of the first
//! call holds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message;
use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbBackend, EntityTrait, QueryResult, Statement};
use tonic::Code;
use uuid::Uuid;

use super::{Kind, stored_response};
use crate::core::call::Call;
use crate::db::entities::{idempotency_record, idempotency_root};
use crate::db::{Connection, Db, Tx, lock_number, rows};
use crate::error::{Error, ErrorReason, Result};

/// The request ids that this process is processing.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<HashSet<(Uuid, Uuid)>>>);

/// Marks a request id as being processed until it is dropped.
pub struct InFlightGuard {
    set: InFlight,
    key: (Uuid, Uuid),
}

impl InFlight {
    /// Marks the call's request id as being processed.
    ///
    /// # Errors
    /// `REQUEST_IN_FLIGHT` if it is already being processed.
    pub fn enter(&self, call: &Call) -> Result<Option<InFlightGuard>> {
        let Some(request) = call.request_key else {
            return Ok(None);
        };
        let key = (call.principal.id, request.id);
        let mut set = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if !set.insert(key) {
            return Err(in_flight());
        }
        Ok(Some(InFlightGuard {
            set: self.clone(),
            key,
        }))
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut set = self
            .set
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        set.remove(&self.key);
    }
}

/// The response stored under a request id.
pub struct StoredResponse {
    /// The root that the call was about.
    root_id: Option<Uuid>,
    fingerprint: Vec<u8>,
    /// Empty after it was erased with the root; no response is empty. May be packed.
    response: Vec<u8>,
}

impl StoredResponse {
    /// Reconstructs the response if the request is the same.
    ///
    /// # Errors
    /// `LEAD_ERASED` if it was erased with its root.
    pub(super) async fn unpack(
        mut self,
        db: Connection<'_>,
        kinds: &[Kind],
        call: &Call,
    ) -> Result<Self> {
        if self.is_same_request(call) {
            let root_name = kinds.iter().find_map(|kind| kind.root_name);
            if let (Some(name), Some(id)) = (root_name, self.root_id) {
                call.notes.about_root(name, id);
            }
            self.response = stored_response::unpack(db, kinds, self.root_id, self.response).await?;
        }
        Ok(self)
    }

    fn is_same_request(&self, call: &Call) -> bool {
        call.request_key
            .is_some_and(|key| self.fingerprint == key.fingerprint)
    }

    /// Returns the response if the request is the same.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` if the id was used for another request; `LEAD_ERASED` if the response was erased
    /// with its root.
    pub fn response<R>(self, call: &Call, decode: fn(&[u8]) -> Result<R>) -> Result<Option<R>> {
        if call.request_key.is_none() {
            return Ok(None);
        }
        if !self.is_same_request(call) {
            return Err(reused());
        }
        if let (Some(root_id), true) = (self.root_id, self.response.is_empty()) {
            return Err(response_erased(root_id));
        }
        decode(&self.response).map(Some)
    }
}

/// Returns the response stored for a call's request id, if there is one.
///
/// # Errors
/// See [`StoredResponse::response`].
pub(super) async fn replay<R: Message + Default>(
    db: &Db,
    kinds: &[Kind],
    call: &Call,
) -> Result<Option<R>> {
    let Some(key) = call.request_key else {
        return Ok(None);
    };
    let found = idempotency_record::Entity::find_by_id((call.principal.id, key.id))
        .one(db.read())
        .await?;
    let Some(record) = found else { return Ok(None) };
    db.replication_barrier().await?;
    let stored = StoredResponse {
        root_id: record.lead_id,
        fingerprint: record.fingerprint,
        response: record.response,
    };
    let stored = stored
        .unpack(Connection::Reader(db.read()), kinds, call)
        .await?;
    stored.response(call, |bytes| R::decode(bytes).map_err(Error::internal))
}

pub(super) fn in_flight() -> Error {
    let message = "The first call with this request id is still running. Retry in a moment to get its response.";
    Error::new(Code::Aborted, ErrorReason::RequestInFlight, message)
        .retry_after(Duration::from_millis(100))
}

fn reused() -> Error {
    let message = "This request id was already used with a different request. Use a new UUID.";
    Error::new(Code::InvalidArgument, ErrorReason::RequestIdReused, message)
        .field("request_id", "was already used with a different request")
}

/// The contract names the reason after the only kind of root.
pub(super) fn response_erased(root_id: Uuid) -> Error {
    let message = format_args!(
        "This call was already made and is not made again; its response was erased with the personal data of the \
         lead {root_id}. Get the lead to see its remaining data."
    );
    Error::new(Code::FailedPrecondition, ErrorReason::LeadErased, message)
        .with("lead_id", root_id)
        .precondition(root_id)
}

/// The state of a request id.
pub enum Lookup {
    /// Not used, and locked for this transaction until it ends.
    Unused,
    /// Another replica is processing it.
    InFlight,
    /// It has a stored response.
    Stored(StoredResponse),
}

/// A request id with the id of its principal.
pub type ScopedId = (Uuid, Uuid);

/// The call's request id with the id of its principal.
pub fn scoped_id(call: &Call) -> Option<ScopedId> {
    call.request_key.map(|key| (call.principal.id, key.id))
}

/// Looks up the stored responses of these request ids, and locks the ids against other replicas until `tx`
/// ends. A response that another replica commits between the lookup and the lock is not found. In that case
/// the unique key makes this transaction fail with a conflict and it is retried; after a refusal the caller
/// looks up the id again.
pub async fn look_up(tx: &Tx, scoped_ids: &[ScopedId]) -> Result<Vec<Lookup>> {
    if scoped_ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = if tx.get_database_backend() == DbBackend::Postgres {
        look_up_on_postgres(tx, scoped_ids).await?
    } else {
        look_up_on_sqlite(tx, scoped_ids).await?
    };
    let mut found: HashMap<ScopedId, Lookup> = HashMap::new();
    for row in rows {
        let scoped_id = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let fingerprint: Option<Vec<u8>> = row.try_get_by_index(2)?;
        let response: Option<Vec<u8>> = row.try_get_by_index(3)?;
        let is_unlocked: bool = row.try_get_by_index(4)?;
        let lookup = match (fingerprint, response) {
            (Some(fingerprint), Some(response)) => Lookup::Stored(StoredResponse {
                root_id: row.try_get_by_index(5)?,
                fingerprint,
                response,
            }),
            _ if is_unlocked => Lookup::Unused,
            _ => Lookup::InFlight,
        };
        found.insert(scoped_id, lookup);
    }
    let found = scoped_ids.iter().map(|scoped_id| found.remove(scoped_id));
    Ok(found.map(|found| found.unwrap_or(Lookup::Unused)).collect())
}

async fn look_up_on_postgres(tx: &Tx, scoped_ids: &[ScopedId]) -> Result<Vec<QueryResult>> {
    let (mut principals, mut requests, mut locks) = (Vec::new(), Vec::new(), Vec::new());
    for (principal, request) in scoped_ids {
        principals.push(Value::from(*principal));
        requests.push(Value::from(*request));
        locks.push(Value::from(lock_number(&format!(
            "request/{principal}/{request}"
        ))));
    }
    let array = |r#type, values| Value::Array(r#type, Some(Box::new(values)));
    // LATERAL with a LIMIT makes PostgreSQL look up each name by the index. For a plain join that was
    // planned while the table is small, it would read the whole table for each name until it plans the
    // query again.
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

/// SQLite has a single writer, so no lock is needed.
async fn look_up_on_sqlite(tx: &Tx, scoped_ids: &[ScopedId]) -> Result<Vec<QueryResult>> {
    let len = rows::padded_len(scoped_ids.len());
    let sql = format!(
        "SELECT principal_id, request_id, fingerprint, response, TRUE, lead_id \
         FROM idempotency_records \
         WHERE (principal_id, request_id) IN (VALUES {})",
        vec!["(?, ?)"; len].join(", ")
    );
    let padded = scoped_ids
        .iter()
        .chain(std::iter::repeat(&scoped_ids[0]))
        .take(len);
    let values = padded.flat_map(|(principal, request)| [(*principal).into(), (*request).into()]);
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    Ok(tx.query_all_raw(statement).await?)
}

/// The row that stores a response for retries; `None` for a call without a request id.
pub fn to_row(
    call: &Call,
    root_id: Uuid,
    response: Vec<u8>,
    now: DateTime<Utc>,
) -> Option<idempotency_record::ActiveModel> {
    let key = call.request_key?;
    Some(idempotency_record::ActiveModel {
        principal_id: Set(call.principal.id),
        request_id: Set(key.id),
        lead_id: Set(Some(root_id)),
        fingerprint: Set(key.fingerprint.to_vec()),
        response: Set(response),
        create_time: Set(now),
    })
}

/// The rows that name the further roots of a stored response; none for a call without a request id.
pub fn roots_to_rows(call: &Call, roots: BTreeSet<Uuid>) -> Vec<idempotency_root::ActiveModel> {
    let Some(key) = call.request_key else {
        return Vec::new();
    };
    let rows = roots.into_iter().map(|id| idempotency_root::ActiveModel {
        principal_id: Set(call.principal.id),
        request_id: Set(key.id),
        lead_id: Set(id),
    });
    rows.collect()
}

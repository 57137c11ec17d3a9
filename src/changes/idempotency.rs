//! Request ids: a repeat of a call gets the first success's answer, byte for byte.
//!
//! The record is written with the effect, so that there is never one without the other. Who comes
//! second while the first is still running is told so at once instead of waiting: inside one process
//! by [`InFlight`], between replicas by a lock of the request id that the first one's transaction
//! holds.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use prost::Message;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::auth::Call;
use crate::db::{Tx, entities::idempotency_record};
use crate::error::{Error, Result};
use crate::wire::violations::Violations;

/// A request id and what was asked under it.
#[derive(Clone, Copy, Debug)]
pub struct RequestKey {
    /// The caller's UUID.
    pub id: Uuid,
    /// SHA-256 of the RPC's name and its body without secrets.
    pub fingerprint: [u8; 32],
}

impl RequestKey {
    /// Reads a request id, which may be empty. `bare` is the request without its secrets: a
    /// password is not part of what was asked, and nothing of it must be kept.
    pub fn parse(
        violations: &mut Violations,
        rpc: &str,
        request_id: &str,
        bare: &impl Message,
    ) -> Option<Self> {
        if request_id.is_empty() {
            return None;
        }
        let Ok(id) = Uuid::try_parse(request_id) else {
            violations.add("request_id", "must be a UUID of your choice, or empty");
            return None;
        };
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

/// The answer kept for a call's request id, if it was answered before.
///
/// # Errors
/// [`Error::RequestIdReused`] when something else was asked under it.
pub async fn replay<R: Message + Default>(
    db: &impl ConnectionTrait,
    call: &Call,
) -> Result<Option<R>> {
    let Some(key) = call.key else { return Ok(None) };
    let found = idempotency_record::Entity::find_by_id((call.principal.id, key.id))
        .one(db)
        .await?;
    let Some(record) = found else { return Ok(None) };
    if record.fingerprint != key.fingerprint {
        return Err(Error::RequestIdReused);
    }
    R::decode(record.response.as_slice())
        .map(Some)
        .map_err(Error::internal)
}

/// Keeps others on other replicas from working on the same request id until `tx` ends.
///
/// # Errors
/// [`Error::RequestInFlight`] when one does already.
pub async fn claim(tx: &Tx, call: &Call) -> Result<()> {
    let Some(key) = call.key else { return Ok(()) };
    let name = format!("request/{}/{}", call.principal.id, key.id);
    if tx.try_lock(&name).await? {
        Ok(())
    } else {
        Err(Error::RequestInFlight)
    }
}

/// Keeps the answer for repeats.
pub async fn keep(
    tx: &Tx,
    call: &Call,
    lead_id: Option<Uuid>,
    response: &impl Message,
) -> Result<()> {
    let Some(key) = call.key else { return Ok(()) };
    let row = idempotency_record::ActiveModel {
        principal_id: Set(call.principal.id),
        request_id: Set(key.id),
        lead_id: Set(lead_id),
        fingerprint: Set(key.fingerprint.to_vec()),
        response: Set(response.encode_to_vec()),
        create_time: Set(tx.clock.now()),
    };
    idempotency_record::Entity::insert(row)
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

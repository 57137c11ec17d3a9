//! A reserved password attempt, and how it ends.
//!
//! From the moment the verification begins, the attempt counts, whatever happens to the call, until the
//! password is found correct. So neither a database fault nor a client that disconnects gives an attacker an
//! extra guess. Before that moment the attempt does not count: see [`AttemptReservation`].
//!
//! This module must not decide whether a slot is free: [`super::attempts`] does, under the lock of the bucket.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use super::Auth;
use super::attempts::{self, Attempt, Bucket, LINGER};
use super::passwords::Passwords;
use super::store;
use crate::db::{Db, Tx, Verdict};
use crate::error::Result;

/// The delays before each try to release a dropped reservation.
const RELEASE_DELAYS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// One slot in each bucket, reserved before the password is verified. A reservation that is dropped before the
/// verification began, or after the password was found correct, is released in the background: an operator who
/// retries a call while the database is unstable must not be locked out by it.
#[derive(Debug)]
pub struct AttemptReservation {
    slots: Vec<Slot>,
    db: Db,
    state: State,
}

/// What happens to the slots when the reservation is dropped.
///
/// | State | Entered when | On drop |
/// |---|---|---|
/// | `Reserved` | the slots were reserved; the password was correct; the hash could not be verified | released |
/// | `Verifying` | the verification begins | the attempt counts |
/// | `Counted` | the password was wrong | the attempt counts |
/// | `Released` | the slots were released | nothing to do |
#[derive(Clone, Copy, Debug)]
enum State {
    Reserved,
    Verifying,
    Counted,
    Released,
}

/// A slot in one bucket.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub id: Uuid,
    pub bucket: Bucket,
    pub claim_time: DateTime<Utc>,
    /// Whether other attempts were being verified when the slot was reserved.
    pub contended: bool,
    /// Whether the bucket is full with it.
    pub is_last: bool,
}

impl AttemptReservation {
    pub(super) fn new(db: Db, slots: Vec<Slot>) -> Self {
        Self {
            slots,
            db,
            state: State::Reserved,
        }
    }

    /// Whether `hash` was made from `password`. A caller that gives up during the verification has used the
    /// attempt.
    ///
    /// # Errors
    /// As [`Passwords::permit`].
    pub async fn verify(
        &mut self,
        passwords: &Passwords,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool> {
        let permit = passwords.permit().await?;
        self.state = State::Verifying;
        let matches = permit.verify(password, hash).await;
        self.state = match matches {
            Ok(false) => State::Counted,
            Ok(true) | Err(_) => State::Reserved,
        };
        matches
    }

    /// Records that the password was wrong. The attempt continues to count. Returns whether it was the last one that
    /// a bucket allows.
    ///
    /// # Errors
    /// If the database is unavailable. The attempt counts all the same.
    pub async fn failed(mut self) -> Result<bool> {
        self.state = State::Counted;
        let slots = self.slots.clone();
        let recorded = self.db.write_with_retry(move |tx| {
            let slots = slots.clone();
            Box::pin(async move {
                for slot in slots {
                    store::mark_attempt_failed(tx, slot.id).await?;
                }
                Ok(Verdict::Done(()))
            })
        });
        recorded.await?;
        Ok(self.slots.iter().any(|slot| slot.is_last))
    }

    /// Releases the slots, because the password was correct.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn succeeded(self, auth: &Auth) -> Result<()> {
        self.succeeded_with(auth, |_| Box::pin(ready(Ok(())))).await
    }

    /// Releases the slots, because the password was correct, and does `work` in the same transaction. `work`
    /// must be idempotent, because the transaction may run twice.
    ///
    /// # Errors
    /// Those of `work`; and if the database is unavailable.
    pub async fn succeeded_with<F>(mut self, auth: &Auth, work: F) -> Result<()>
    where
        F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, Result<()>> + Send + Sync + 'static,
    {
        let _guards = self.lock_stripes(auth).await;
        release(&self.db, &self.slots, work).await?;
        self.state = State::Released;
        Ok(())
    }

    /// Waits until no other attempt at the same password is being reserved or released in this process.
    async fn lock_stripes<'a>(&self, auth: &'a Auth) -> Vec<MutexGuard<'a, ()>> {
        let buckets = self.slots.iter().map(|slot| &slot.bucket);
        let locks = &auth.attempt_locks;
        locks.lock(locks.stripes(buckets)).await
    }
}

impl Drop for AttemptReservation {
    fn drop(&mut self) {
        match self.state {
            State::Reserved => {
                let (db, slots) = (self.db.clone(), std::mem::take(&mut self.slots));
                tokio::spawn(release_later(db, slots));
            }
            State::Verifying | State::Counted | State::Released => {}
        }
    }
}

async fn release_later(db: Db, slots: Vec<Slot>) {
    for delay in RELEASE_DELAYS {
        tokio::time::sleep(delay).await;
        let released = release(&db, &slots, |_| Box::pin(ready(Ok(()))));
        if released.await.is_ok() {
            return;
        }
    }
    tracing::warn!("failed to release a password attempt: it counts until it expires");
}

async fn release<F>(db: &Db, slots: &[Slot], work: F) -> Result<()>
where
    F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, Result<()>> + Send + Sync + 'static,
{
    let (slots, work) = (slots.to_vec(), Arc::new(work));
    let written = db.write_with_retry(move |tx| {
        let (slots, work) = (slots.clone(), Arc::clone(&work));
        Box::pin(async move {
            let names = slots.iter().map(|slot| slot.bucket.name.clone());
            let (counting, now) = attempts::lock_buckets(tx, names.collect()).await?;
            for slot in slots {
                let until = slot.counts_until(&counting, now);
                store::set_attempt_expiry(tx, slot.id, until).await?;
            }
            work(tx).await?;
            Ok(Verdict::Done(()))
        })
    });
    written.await
}

impl Slot {
    /// How long the slot counts after its release: not at all, unless the bucket is full and other attempts
    /// overlapped with this one.
    fn counts_until(&self, counting: &[Attempt], now: DateTime<Utc>) -> DateTime<Utc> {
        let same_bucket = || counting.iter().filter(|one| one.bucket == self.bucket.name);
        let is_full = same_bucket().count() >= self.bucket.limit;
        let is_contended = self.contended || same_bucket().any(|other| self.overlaps(other));
        if is_full && is_contended {
            now + LINGER
        } else {
            now
        }
    }

    /// Whether another attempt was in progress after this one began.
    fn overlaps(&self, other: &Attempt) -> bool {
        other.id != self.id && (!other.failed || other.claim_time >= self.claim_time)
    }
}

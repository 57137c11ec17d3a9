//! Counts password attempts, so that guessing a password ends after a few attempts.
//!
//! An attempt is reserved in a transaction of its own before the password is verified, under a lock of its
//! bucket. So 200 parallel guesses over several replicas get as many verifications as the bucket allows, and
//! the count survives whatever happens to the call. A reservation counts for 15 minutes, even if its
//! verification never finished. A reservation whose verification never began, because the database or the
//! hashing was unavailable, is released: the caller learned nothing from it.
//!
//! A correct password releases its reservation. If the bucket is full and other attempts overlapped with it,
//! the reservation counts for two more seconds. So a flood of guesses gains no extra verification from a
//! correct password among them, and a busy operator is not locked out, even after a typing error.
//!
//! This module must not verify passwords: it only counts. How one reservation ends is in
//! [`super::reservation`].

use std::collections::BTreeSet;
use std::net::IpAddr;

use chrono::{DateTime, Duration, Utc};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::Auth;
use super::peer::network;
use super::reservation::{AttemptReservation, Slot};
use super::store;
use crate::db::{LockWait, Tx, Verdict};
use crate::error::Result;

/// How long an attempt counts.
pub const WINDOW: Duration = Duration::minutes(15);
/// How long a released reservation still counts in a full bucket, if other attempts overlapped with it.
pub(super) const LINGER: Duration = Duration::seconds(2);
pub(super) const PER_OPERATOR: usize = 5;
pub(super) const PER_USERNAME_AND_ADDRESS: usize = 5;
pub(super) const PER_USERNAME: usize = 50;
/// Over all usernames.
const PER_ADDRESS: usize = 100;

/// Serialises the attempts at one password inside this process. They would wait for each other in the database
/// anyway, but each would hold a connection, and a flood of guesses would use up the pool.
#[derive(Debug)]
pub struct StripedLock([Mutex<()>; 64]);

impl Default for StripedLock {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl StripedLock {
    /// The stripes of these buckets. Buckets that share a stripe wait for each other, which is harmless.
    pub(super) fn stripes<'a>(&self, buckets: impl Iterator<Item = &'a Bucket>) -> BTreeSet<usize> {
        let stripe = |bucket: &Bucket| {
            let digest = Sha256::digest(bucket.subject.as_bytes());
            usize::from(digest[0]) % self.0.len()
        };
        buckets.map(stripe).collect()
    }

    /// Locks these stripes in ascending order, so that no deadlock is possible.
    pub(super) async fn lock(&self, stripes: BTreeSet<usize>) -> Vec<MutexGuard<'_, ()>> {
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            guards.push(self.0[stripe].lock().await);
        }
        guards
    }
}

/// A group of attempts that share one limit.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// What is serialised by [`StripedLock`]: an operator, a username from any address, or an address.
    subject: String,
    /// The name in the database. It contains a username only as a hash, because people type passwords into
    /// the wrong field.
    pub(super) name: String,
    pub(super) limit: usize,
}

impl Bucket {
    /// The operator's own password inside a session. Only the operator can fill this bucket.
    pub fn current_password(operator: Uuid) -> Vec<Self> {
        vec![Self {
            subject: current_password_name(operator),
            name: current_password_name(operator),
            limit: PER_OPERATOR,
        }]
    }

    /// Sign-in with a username, by its key, from an address. The username need not exist.
    pub fn sign_in(username: &str, address: Option<IpAddr>) -> Vec<Self> {
        let name = sign_in_name(username);
        let address = address.map(network);
        let address = address.map_or_else(|| "local".to_owned(), |address| address.to_string());
        let from = format!("sign_in_from/{address}");
        vec![
            Self {
                subject: name.clone(),
                name: format!("{name}/{address}"),
                limit: PER_USERNAME_AND_ADDRESS,
            },
            Self {
                subject: name.clone(),
                name,
                limit: PER_USERNAME,
            },
            Self {
                subject: from.clone(),
                name: from,
                limit: PER_ADDRESS,
            },
        ]
    }
}

pub(super) fn current_password_name(operator: Uuid) -> String {
    format!("current_password/{operator}")
}

pub(super) fn sign_in_name(username: &str) -> String {
    use base64::Engine;
    let hash = Sha256::digest(username.as_bytes());
    let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash);
    format!("sign_in/{hash}")
}

/// Reserves a slot in each bucket.
///
/// # Errors
/// `PASSWORD_ATTEMPTS_EXCEEDED` if a bucket is full; then no slot is reserved in any bucket.
pub async fn reserve(auth: &Auth, buckets: Vec<Bucket>) -> Result<AttemptReservation> {
    let locks = &auth.attempt_locks;
    let _guards = locks.lock(locks.stripes(buckets.iter())).await;
    let db = auth.db.clone();
    let reserve = auth.db.write_with_retry(move |tx| {
        let (db, buckets) = (db.clone(), buckets.clone());
        Box::pin(async move {
            // The reservation is built in the transaction, so that its drop releases it in two cases: the
            // caller no longer waits for the commit, or the transaction runs a second time because its
            // outcome was unknown.
            Ok(match reserve_slots(tx, buckets).await? {
                Ok(slots) => Verdict::Done(AttemptReservation::new(db, slots)),
                Err(full) => Verdict::Refused(full),
            })
        })
    });
    reserve.await
}

/// Reserves a slot in each bucket, or returns the error of a full bucket.
async fn reserve_slots(tx: &Tx, buckets: Vec<Bucket>) -> Result<Result<Vec<Slot>>> {
    let names = buckets.iter().map(|bucket| bucket.name.clone()).collect();
    let (counting, now) = lock_buckets(tx, names).await?;
    let mut slots = Vec::new();
    for bucket in buckets {
        let counting = counting
            .iter()
            .filter(|attempt| attempt.bucket == bucket.name);
        let counting: Vec<&Attempt> = counting.collect();
        if counting.len() >= bucket.limit {
            let free = counting.iter().map(|attempt| attempt.frees_at(now)).min();
            let wait = free.map_or(WINDOW, |time| time - now);
            let retry_after = wait.to_std().unwrap_or_default();
            return Ok(Err(super::errors::password_attempts_exceeded(retry_after)));
        }
        slots.push(Slot {
            id: tx.clock.new_id(),
            contended: counting.iter().any(|attempt| !attempt.failed),
            is_last: counting.len() + 1 == bucket.limit,
            claim_time: now,
            bucket,
        });
    }
    store::insert_attempts(tx, &slots, now + WINDOW).await?;
    Ok(Ok(slots))
}

/// Locks the buckets with these names until `tx` ends. Returns the attempts that count in them, and the
/// current time.
pub(super) async fn lock_buckets(
    tx: &Tx,
    names: Vec<String>,
) -> Result<(Vec<Attempt>, DateTime<Utc>)> {
    tx.lock_all(names.clone(), LockWait::Block).await?;
    // The time is read after the lock is acquired, because attempts are compared by their times.
    let now = tx.time().await?;
    Ok((store::attempts(tx, names, now).await?, now))
}

/// An attempt that counts against the limit of its bucket.
pub struct Attempt {
    /// The id of its slot.
    pub id: Uuid,
    /// The name of its bucket.
    pub bucket: String,
    /// When its slot was reserved.
    pub claim_time: DateTime<Utc>,
    /// When it stops counting.
    pub expire_time: DateTime<Utc>,
    /// Whether the password was wrong. False while the verification is in progress.
    pub failed: bool,
}

impl Attempt {
    /// When its slot may become free. While the verification is in progress, that may be soon.
    fn frees_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.failed {
            self.expire_time
        } else {
            self.expire_time.min(now + LINGER)
        }
    }
}

//! Counting password attempts, so that guessing ends after a few.
//!
//! An attempt is claimed in a transaction of its own before the password is looked at, under a lock
//! of its bucket: 200 guesses in parallel over several replicas get as many verifications as the
//! bucket allows, and the count survives whatever happens to the call. A claim counts for 15
//! minutes, and so does one whose verification never came to an end. One whose verification never began,
//! because the database or the hashing was not to be had, is given back: nobody learnt anything by it.
//!
//! A right password gives its claim back. If the bucket is full and others were at it at the same
//! time, the claim counts for two seconds more: a flood of guesses gets no extra verification because
//! the right one was among them, and a busy operator is not locked out, not even one who mistyped.

use std::net::IpAddr;

use chrono::{DateTime, Duration, Utc};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::claim::{Claim, Place};
use super::store;
use crate::changes::desk::Desk;
use crate::db::{Tx, Verdict};
use crate::error::{Error, Result};
use crate::seeded::{Bug, sown};

const WINDOW: Duration = Duration::minutes(15);
/// For how long a claim that is given back counts, where others were at it at the same time.
pub(super) const LINGER: Duration = Duration::seconds(2);
const PER_OPERATOR: usize = 5;
const PER_USERNAME_AND_ADDRESS: usize = 5;
const PER_USERNAME: usize = 50;

/// Makes attempts at one password take their turns inside this process. They would wait for each
/// other in the database anyway, but each with a connection in its hand, and a flood of guesses
/// would leave none for anybody else.
#[derive(Debug)]
pub struct Turns([Mutex<()>; 64]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Turns {
    /// Waits for the turn of this bucket. Two that share a place only wait for each other.
    pub(super) async fn take(&self, bucket: Option<&Bucket>) -> Option<MutexGuard<'_, ()>> {
        let digest = Sha256::digest(bucket?.subject.as_bytes());
        Some(self.0[usize::from(digest[0]) % self.0.len()].lock().await)
    }
}

/// What attempts are counted by.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Whose password: the operator or the username, whatever the address.
    subject: String,
    /// Its name in the database. A username is in it only as a hash: people type passwords into the
    /// wrong field.
    pub(super) name: String,
    pub(super) limit: usize,
}

impl Bucket {
    /// An operator's own password inside a session: a stranger cannot fill it.
    pub fn current_password(operator: Uuid) -> Vec<Self> {
        vec![Self {
            subject: current_password_name(operator),
            name: current_password_name(operator),
            limit: PER_OPERATOR,
        }]
    }

    /// Signing in with a username, known or not, by its key, from an address.
    pub fn sign_in(username: &str, address: Option<IpAddr>) -> Vec<Self> {
        let name = sign_in_name(username);
        let address = address.map_or_else(|| "local".to_owned(), |address| address.to_string());
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
        ]
    }
}

fn current_password_name(operator: Uuid) -> String {
    format!("current_password/{operator}")
}

fn sign_in_name(username: &str) -> String {
    use base64::Engine;
    let hash = Sha256::digest(username.as_bytes());
    let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash);
    format!("sign_in/{hash}")
}

/// Takes a place in each bucket.
///
/// # Errors
/// [`Error::PasswordAttemptsExceeded`] when one is full; then none is taken.
pub async fn claim(desk: &Desk, buckets: Vec<Bucket>) -> Result<Claim> {
    let _turn = desk.turns.take(buckets.first()).await;
    let db = desk.db.clone();
    let take = desk.db.write_again(move |tx| {
        let (db, buckets) = (db.clone(), buckets.clone());
        Box::pin(async move {
            let mut places = Vec::new();
            for bucket in buckets {
                places.push(bucket.take_place(tx).await?);
            }
            // Made in here, so that one that is committed when nobody waits for it any more, or that is
            // taken a second time because nobody knows whether it was, is given back.
            Ok(Verdict::Done(Claim::new(db, places)))
        })
    });
    take.await
}

impl Bucket {
    async fn take_place(self, tx: &Tx) -> Result<Place> {
        tx.lock(&self.name).await?;
        let now = tx.clock.now();
        let mut counting = store::attempts(tx, &self.name, now).await?;
        counting.retain(|attempt| attempt.failed || !sown(Bug::ClaimAfterwards));
        if counting.len() >= self.limit {
            let free = counting.iter().map(|attempt| attempt.frees_at(now)).min();
            let wait = free.map_or(WINDOW, |time| time - now);
            return Err(Error::PasswordAttemptsExceeded {
                retry_after: wait.to_std().unwrap_or_default(),
            });
        }
        let id = tx.clock.new_id();
        store::insert_attempt(tx, id, &self.name, now, now + WINDOW).await?;
        Ok(Place {
            id,
            bucket: self,
            claim_time: now,
            crowded: counting.iter().any(|attempt| !attempt.failed),
        })
    }
}

/// Forgets every attempt that counts against an operator.
pub async fn unlock(db: &crate::db::Db, operator: Uuid, username: &str) -> Result<()> {
    let names = (current_password_name(operator), sign_in_name(username));
    db.write(move |tx| {
        Box::pin(async move {
            store::delete_attempts(tx, &names.0).await?;
            store::delete_attempts(tx, &names.1).await?;
            Ok(Verdict::Done(()))
        })
    })
    .await
}

/// An attempt that counts.
pub struct Attempt {
    /// Which.
    pub id: Uuid,
    /// When its place was taken.
    pub claim_time: DateTime<Utc>,
    /// When it stops counting.
    pub expire_time: DateTime<Utc>,
    /// Whether the password was found wrong.
    pub failed: bool,
}

impl Attempt {
    /// When its place may be free: soon, as long as its verification is under way.
    fn frees_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.failed {
            self.expire_time
        } else {
            self.expire_time.min(now + LINGER)
        }
    }
}

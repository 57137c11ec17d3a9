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

use std::collections::BTreeSet;
use std::net::IpAddr;

use chrono::{DateTime, Duration, Utc};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::claim::{Claim, Place};
use super::peer::network;
use super::store;
use crate::changes::desk::Desk;
use crate::db::{Patience, Tx, Verdict};
use crate::error::{Error, Result};

/// How long an attempt counts.
pub const WINDOW: Duration = Duration::minutes(15);
/// For how long a claim that is given back counts, where others were at it at the same time.
pub(super) const LINGER: Duration = Duration::seconds(2);
const PER_OPERATOR: usize = 5;
const PER_USERNAME_AND_ADDRESS: usize = 5;
const PER_USERNAME: usize = 50;
/// Over all usernames.
const PER_ADDRESS: usize = 100;

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
    /// The places of these buckets. Two that share one only wait for each other.
    pub(super) fn places<'a>(&self, buckets: impl Iterator<Item = &'a Bucket>) -> BTreeSet<usize> {
        let place = |bucket: &Bucket| {
            let digest = Sha256::digest(bucket.subject.as_bytes());
            usize::from(digest[0]) % self.0.len()
        };
        buckets.map(place).collect()
    }

    /// Waits for the turns of these places, in their order, so that no two wait for each other.
    pub(super) async fn take(&self, places: BTreeSet<usize>) -> Vec<MutexGuard<'_, ()>> {
        let mut turns = Vec::with_capacity(places.len());
        for place in places {
            turns.push(self.0[place].lock().await);
        }
        turns
    }
}

/// What attempts are counted by.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Whose attempts take turns: the operator's, the username's whatever the address, the address's.
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
    let _turn = desk.turns.take(desk.turns.places(buckets.iter())).await;
    let db = desk.db.clone();
    let take = desk.db.write_again(move |tx| {
        let (db, buckets) = (db.clone(), buckets.clone());
        Box::pin(async move {
            // Made in here, so that one that is committed when nobody waits for it any more, or that is
            // taken a second time because nobody knows whether it was, is given back.
            Ok(match take_places(tx, buckets).await? {
                Ok(places) => Verdict::Done(Claim::new(db, places)),
                Err(full) => Verdict::Refused(full),
            })
        })
    });
    take.await
}

/// A place in each bucket, or why there is none.
async fn take_places(tx: &Tx, buckets: Vec<Bucket>) -> Result<Result<Vec<Place>>> {
    let names = buckets.iter().map(|bucket| bucket.name.clone()).collect();
    let (counting, now) = lock(tx, names).await?;
    let mut places = Vec::new();
    for bucket in buckets {
        let counting = counting
            .iter()
            .filter(|attempt| attempt.bucket == bucket.name);
        let counting: Vec<&Attempt> = counting.collect();
        if counting.len() >= bucket.limit {
            let free = counting.iter().map(|attempt| attempt.frees_at(now)).min();
            let wait = free.map_or(WINDOW, |time| time - now);
            return Ok(Err(Error::PasswordAttemptsExceeded {
                retry_after: wait.to_std().unwrap_or_default(),
            }));
        }
        places.push(Place {
            id: tx.clock.new_id(),
            crowded: counting.iter().any(|attempt| !attempt.failed),
            claim_time: now,
            bucket,
        });
    }
    store::insert_attempts(tx, &places, now + WINDOW).await?;
    Ok(Ok(places))
}

/// Locks the buckets of these names until `tx` ends. The attempts that count in them now, and the time.
pub(super) async fn lock(tx: &Tx, names: Vec<String>) -> Result<(Vec<Attempt>, DateTime<Utc>)> {
    tx.lock_all(names.clone(), Patience::Waits).await?;
    // Not before they are locked: attempts are compared by their times.
    let now = tx.time().await?;
    Ok((store::attempts(tx, names, now).await?, now))
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
    /// The name of its bucket.
    pub bucket: String,
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

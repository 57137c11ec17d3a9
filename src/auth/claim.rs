//! A claimed attempt at a password, and how it ends. Once the password is being looked at it counts,
//! whatever becomes of the call, until the password is found right: so neither a fault of the database
//! nor a caller who hangs up gives a guesser one more. Before that it does not: see [`Claim`].

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use super::attempts::{self, Attempt, Bucket, LINGER};
use super::passwords::Passwords;
use super::store;
use crate::changes::desk::Desk;
use crate::db::{Db, Tx, Verdict};
use crate::error::Result;

/// After how long a claim that could not be given back is tried to be; each once.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// A place in each bucket, taken before the password is verified. Dropped before that began, or after
/// the password was found right, it is given back in the background: an operator who repeats a call
/// while the database comes and goes must not be locked out by it.
#[derive(Debug)]
pub struct Claim {
    places: Vec<Place>,
    db: Db,
    /// The password is being looked at, or was wrong, or the places are given back already.
    settled: bool,
}

/// A place in one bucket.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub id: Uuid,
    pub bucket: Bucket,
    pub claim_time: DateTime<Utc>,
    /// Whether others were being verified when it was taken.
    pub crowded: bool,
}

impl Claim {
    pub(super) fn new(db: Db, places: Vec<Place>) -> Self {
        Self {
            places,
            db,
            settled: false,
        }
    }

    /// Whether the password is what the hash was made from. Who gives up while it is looked at has
    /// used the attempt.
    ///
    /// # Errors
    /// As [`Passwords::core`].
    pub async fn verify(
        &mut self,
        passwords: &Passwords,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool> {
        let core = passwords.core().await?;
        self.settled = true;
        let right = core.verify(password, hash).await;
        self.settled = matches!(right, Ok(false));
        right
    }

    /// The password was wrong: the claim goes on counting.
    ///
    /// # Errors
    /// When the database is away. It counts all the same.
    pub async fn failed(mut self) -> Result<()> {
        self.settled = true;
        let places = self.places.clone();
        let note = self.db.write_again(move |tx| {
            let places = places.clone();
            Box::pin(async move {
                for place in places {
                    store::attempt_failed(tx, place.id).await?;
                }
                Ok(Verdict::Done(()))
            })
        });
        note.await
    }

    /// The password was right: the claim stops counting.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn succeeded(self, desk: &Desk) -> Result<()> {
        self.succeeded_with(desk, |_| Box::pin(ready(Ok(())))).await
    }

    /// The password was right: the claim stops counting, in one transaction with what `work` does,
    /// which must come to the same whether it is done once or twice.
    ///
    /// # Errors
    /// What `work` answers; when the database is away.
    pub async fn succeeded_with<F>(mut self, desk: &Desk, work: F) -> Result<()>
    where
        F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, Result<()>> + Send + Sync + 'static,
    {
        let _turn = self.turn(desk).await;
        give_back(&self.db, &self.places, work).await?;
        self.settled = true;
        Ok(())
    }

    /// Waits until no other attempt at the same password is being claimed or given back here.
    async fn turn<'a>(&self, desk: &'a Desk) -> Vec<MutexGuard<'a, ()>> {
        let places = self.places.iter().map(|place| &place.bucket);
        desk.turns.take(desk.turns.places(places)).await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let (db, places) = (self.db.clone(), std::mem::take(&mut self.places));
        tokio::spawn(async move {
            for pause in PAUSES {
                tokio::time::sleep(pause).await;
                let given = give_back(&db, &places, |_| Box::pin(ready(Ok(()))));
                if given.await.is_ok() {
                    return;
                }
            }
            tracing::warn!("a password attempt that nothing came of counts all the same");
        });
    }
}

async fn give_back<F>(db: &Db, places: &[Place], work: F) -> Result<()>
where
    F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, Result<()>> + Send + Sync + 'static,
{
    let (places, work) = (places.to_vec(), Arc::new(work));
    let written = db.write_again(move |tx| {
        let (places, work) = (places.clone(), Arc::clone(&work));
        Box::pin(async move {
            let names = places.iter().map(|place| place.bucket.name.clone());
            let (counting, now) = attempts::lock(tx, names.collect()).await?;
            for place in places {
                let until = place.counts_until(&counting, now);
                store::attempt_expires(tx, place.id, until).await?;
            }
            work(tx).await?;
            Ok(Verdict::Done(()))
        })
    });
    written.await
}

impl Place {
    /// Until when it counts though it is given back: until now, unless the bucket is full and others
    /// were at it at the same time.
    fn counts_until(&self, counting: &[Attempt], now: DateTime<Utc>) -> DateTime<Utc> {
        let ours = || counting.iter().filter(|one| one.bucket == self.bucket.name);
        let full = ours().count() >= self.bucket.limit;
        let crowded = self.crowded || ours().any(|other| self.met(other));
        if full && crowded { now + LINGER } else { now }
    }

    /// Whether another attempt was under way after this one began.
    fn met(&self, other: &Attempt) -> bool {
        other.id != self.id && (!other.failed || other.claim_time >= self.claim_time)
    }
}

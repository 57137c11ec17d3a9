//! The queue of changes that wait for the next batch.
//!
//! If no batch is running, a change starts one immediately. Changes that arrive in the meantime form the
//! next batch. So the batch size grows with the load, and no change waits for a batch to fill.
//!
//! A change whose records are locked by another transaction waits outside a transaction: it is deferred and
//! retried in a later batch, up to a maximum wait. So a lock that is held for long delays only the changes
//! that need it, and a waiting change holds neither a connection nor a lock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sea_orm::DbBackend;
use tokio::sync::oneshot;

use super::Kind;
use super::pending::AnyPending;
use super::worker::{Worker, fail};
use crate::config::Limits;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::metrics::{Limit, Metrics};
use crate::telemetry::traces::Caller;

/// The maximum number of concurrent batches on PostgreSQL: while one is synced to disk, the next is
/// decided. SQLite has a single writer.
const WORKERS_ON_POSTGRES: usize = 2;
/// The delay before a deferred change is retried.
const LOCK_POLL: Duration = Duration::from_millis(10);
/// The maximum number of waiting changes.
const MAX_WAITING: usize = 2_000;

/// The changes that wait for a batch.
#[derive(Clone)]
pub(super) struct Queue {
    state: Arc<Mutex<State>>,
    pub(super) kinds: &'static [Kind],
    workers: usize,
    /// The maximum time that a change waits for a batch, and again for locks.
    pub(super) max_wait: Duration,
    pub(super) metrics: Arc<Metrics>,
}

#[derive(Default)]
pub(super) struct State {
    pub waiting: VecDeque<Queued>,
    /// The number of the next change.
    next: u64,
    /// The number of running workers.
    pub running: usize,
}

/// A change that waits for a batch or is part of one.
pub(super) struct Queued {
    pub change: Box<dyn AnyPending>,
    number: u64,
    pub caller: Caller,
    since: Instant,
    /// The time at which it first met a lock.
    pub blocked_since: Option<Instant>,
}

impl Queued {
    /// How long it has waited in the queue.
    pub fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// How long it has waited for locks.
    fn blocked_for(&self) -> Duration {
        self.blocked_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Queue {
    /// Creates an empty queue for this database. On PostgreSQL, half of a call's maximum wait for the
    /// database is for a batch (including a connection), and half is for locks.
    pub fn new(db: &Db, limits: &Limits, kinds: &'static [Kind]) -> Self {
        let postgres = db.backend() == DbBackend::Postgres;
        Self {
            state: Arc::default(),
            kinds,
            workers: if postgres { WORKERS_ON_POSTGRES } else { 1 },
            max_wait: if postgres {
                limits.connection_wait / 2
            } else {
                limits.sqlite_write_wait
            },
            metrics: Arc::clone(db.metrics()),
        }
    }

    /// Queues a change and waits for its response.
    ///
    /// # Errors
    /// The error of the change; `SERVER_OVERLOADED` if the queue is full; `DATABASE_UNAVAILABLE` if no
    /// batch starts in time; `WRITE_CONFLICT` if its locks are not released in time.
    pub(super) async fn run<R>(
        &self,
        db: &Db,
        change: Box<dyn AnyPending>,
        mut response: oneshot::Receiver<Result<R>>,
    ) -> Result<R> {
        let number = self.enqueue(db, change)?;
        loop {
            match tokio::time::timeout(self.max_wait, &mut response).await {
                Ok(response) => {
                    let dropped = |_| Error::internal("a change was dropped, by a panic");
                    return response.map_err(dropped)?;
                }
                // If it cannot be withdrawn, a batch is running it, or it may still wait for locks.
                Err(_) => {
                    if let Some(error) = self.withdraw(number) {
                        return Err(error);
                    }
                }
            }
        }
    }

    pub(super) fn no_batch_in_time(&self) -> Error {
        let waited = self.max_wait.as_secs_f64();
        Error::database_unavailable(format_args!("no batch took the change within {waited} s"))
    }

    /// Removes a change that no batch has taken and that has reached its maximum wait. The returned error
    /// depends on whether it waited for a batch or for a lock.
    fn withdraw(&self, number: u64) -> Option<Error> {
        let mut state = self.lock();
        let is_same = |pending: &Queued| pending.number == number;
        let index = state.waiting.iter().position(is_same)?;
        let error = match state.waiting[index].blocked_since {
            None => self.no_batch_in_time(),
            Some(since) if since.elapsed() > self.max_wait => Error::write_conflict(),
            Some(_) => return None,
        };
        state.waiting.remove(index);
        self.note_length(&state);
        Some(error)
    }

    fn enqueue(&self, db: &Db, change: Box<dyn AnyPending>) -> Result<u64> {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            self.metrics.limits.refused(Limit::QueuedChanges);
            return Err(Error::server_overloaded());
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push_back(Queued {
            change,
            number,
            caller: Caller::current(),
            since: Instant::now(),
            blocked_since: None,
        });
        self.note_length(&state);
        self.start_worker(&mut state, db);
        Ok(number)
    }

    /// Records the length of the queue.
    pub(super) fn note_length(&self, state: &State) {
        let limits = &self.metrics.limits;
        limits.set(Limit::QueuedChanges, state.waiting.len(), MAX_WAITING);
    }

    /// Starts a worker, unless the maximum number is running.
    pub(super) fn start_worker(&self, state: &mut State, db: &Db) {
        if state.running == self.workers {
            return;
        }
        state.running += 1;
        db.spawn(Worker::new(self.clone(), db.clone()).run());
    }

    /// Requeues changes that met a lock after `started`, with a short delay. Changes that have waited too long
    /// for locks fail.
    pub(super) fn defer(&self, db: &Db, mut deferred: Vec<Queued>, started: Instant) {
        for pending in &mut deferred {
            pending.blocked_since.get_or_insert(started);
        }
        let is_expired = |pending: &mut Queued| pending.blocked_for() > self.max_wait;
        let expired: Vec<Queued> = deferred.extract_if(.., is_expired).collect();
        fail(expired, &Error::write_conflict());
        if deferred.is_empty() {
            return;
        }
        let (queue, database) = (self.clone(), db.clone());
        db.spawn(async move {
            tokio::time::sleep(LOCK_POLL).await;
            let mut state = queue.lock();
            state.waiting.extend(deferred);
            queue.note_length(&state);
            queue.start_worker(&mut state, &database);
        });
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

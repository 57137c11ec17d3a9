//! Where changes wait for the next batch.
//!
//! If no batch is running, a change starts one immediately, alone; changes that arrive meanwhile go
//! together in the next one. So a batch grows with the load and nobody ever waits for one to fill.
//!
//! A change whose records are locked by somebody outside waits without a transaction: it is put off
//! for a moment and tried again in a later batch, until it has waited for as long as it may. So a
//! record that is locked for long holds up those who want it and nobody else, however many such
//! records there are, and a change that waits holds neither a connection nor a lock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Lock, MutexGuard};
use std::time::{Duration, Instant};

use sea_orm::DbBackend;
use tokio::sync::oneshot;

use super::batch::Job;
use super::lane::{Lane, fail};
use crate::config::Limits;
use crate::db::Db;
use crate::error::{Error, Result};

/// How many batches are under way at once on PostgreSQL: while one is synced to disk, the next is
/// decided. SQLite has one writer.
const LANES_ON_POSTGRES: usize = 2;
/// After how long a change that met a lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(10);
/// How many changes may wait.
const QUEUE: usize = 2_000;

/// Changes that wait for their turn.
#[derive(Clone, Debug)]
pub struct Queue {
    state: Arc<Lock<State>>,
    lanes: usize,
    /// How long a change may wait for its turn, and then for locks.
    pub(super) turn: Duration,
}

#[derive(Default)]
pub(super) struct State {
    pub jobs: VecDeque<Pending>,
    /// The number of the next job.
    next: u64,
    /// How many lanes are at work.
    pub busy: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting", self.jobs.len())
    }
}

/// A change that waits for its turn or is being made.
pub(super) struct Pending {
    /// The change.
    pub job: Box<dyn Job>,
    number: u64,
    /// When it first met a lock.
    pub locked: Option<Instant>,
}

impl Pending {
    /// For how long it has waited for locks.
    fn locked_for(&self) -> Duration {
        self.locked.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Queue {
    /// An empty queue before this database. On PostgreSQL half of the time that a call may wait for
    /// the database is for its turn, a connection included, and half for what others have locked.
    pub fn new(db: &Db, limits: &Limits) -> Self {
        let postgres = db.backend() == DbBackend::Postgres;
        Self {
            state: Arc::default(),
            lanes: if postgres { LANES_ON_POSTGRES } else { 1 },
            turn: if postgres {
                limits.connection_wait / 2
            } else {
                limits.sqlite_write_wait
            },
        }
    }

    /// Has a change made, and waits for its answer.
    ///
    /// # Errors
    /// What it is answered; [`Error::ServerOverloaded`] when too many wait already;
    /// [`Error::DatabaseUnavailable`] when its turn does not come; [`Error::WriteConflict`] when what
    /// it needs stays locked.
    pub(super) async fn make<R>(
        &self,
        db: &Db,
        job: Box<dyn Job>,
        mut answered: oneshot::Receiver<Result<R>>,
    ) -> Result<R> {
        let number = self.put(db, job)?;
        loop {
            match tokio::time::timeout(self.turn, &mut answered).await {
                Ok(answer) => {
                    let dropped = |_| Error::internal("a change was dropped, by a panic");
                    return answer.map_err(dropped)?;
                }
                // Otherwise it is being made, or may still wait for a lock.
                Err(_) => {
                    if let Some(error) = self.withdraw(number) {
                        return Err(error);
                    }
                }
            }
        }
    }

    pub(super) fn no_turn(&self) -> Error {
        let waited = self.turn.as_secs_f64();
        Error::DatabaseUnavailable(format!("no turn to write came within {waited} s"))
    }

    /// Takes a change back that nobody has begun and that has waited for as long as it may. The error
    /// says what for.
    fn withdraw(&self, number: u64) -> Option<Error> {
        let mut state = self.lock();
        let ours = |pending: &Pending| pending.number == number;
        let place = state.jobs.iter().position(ours)?;
        let error = match state.jobs[place].locked {
            None => self.no_turn(),
            Some(since) if since.elapsed() > self.turn => Error::WriteConflict,
            Some(_) => return None,
        };
        state.jobs.remove(place);
        Some(error)
    }

    fn put(&self, db: &Db, job: Box<dyn Job>) -> Result<u64> {
        let mut state = self.lock();
        if state.jobs.len() >= QUEUE {
            return Err(Error::ServerOverloaded);
        }
        let number = state.next;
        state.next += 1;
        state.jobs.push_back(Pending {
            job,
            number,
            locked: None,
        });
        self.start_lane(&mut state, db);
        Ok(number)
    }

    /// Starts another lane, if there may be one more.
    pub(super) fn start_lane(&self, state: &mut State, db: &Db) {
        if state.busy == self.lanes {
            return;
        }
        state.busy += 1;
        db.spawn(Lane::new(self.clone(), db.clone()).run());
    }

    /// Has changes that met a lock after `begun` tried again in a moment; those that have waited for
    /// locks for as long as they may fail.
    pub(super) fn put_off(&self, db: &Db, mut jobs: Vec<Pending>, begun: Instant) {
        for pending in &mut jobs {
            pending.locked.get_or_insert(begun);
        }
        let is_late = |pending: &mut Pending| pending.locked_for() > self.turn;
        let late: Vec<Pending> = jobs.extract_if(.., is_late).collect();
        fail(late, &Error::WriteConflict);
        if jobs.is_empty() {
            return;
        }
        let (queue, database) = (self.clone(), db.clone());
        db.spawn(async move {
            tokio::time::sleep(LOCK_POLL).await;
            let mut state = queue.lock();
            state.jobs.extend(jobs);
            queue.start_lane(&mut state, &database);
        });
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|held| held.into_inner())
    }
}

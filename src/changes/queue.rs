//! Where changes wait for the next batch.
//!
//! Who finds nobody at work begins at once with a batch of one; who comes meanwhile goes together
//! with all the others who did. So a batch grows with the load and nobody ever waits for one to
//! fill.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Lock, MutexGuard};
use std::time::Duration;

use sea_orm::DbBackend;
use tokio::sync::{Mutex, Semaphore, oneshot};

use super::batch::{self, Job, Ran};
use super::fate::{self, Fate, Trace};
use crate::config::Limits;
use crate::db::{Db, Patience, Verdict};
use crate::error::{Error, Result};

/// How many changes one transaction makes.
const TOGETHER: usize = 64;
/// How many batches are under way at once on PostgreSQL: while one is synced to disk, the next is
/// decided. SQLite has one writer.
const LANES_ON_POSTGRES: usize = 2;
/// How many batches may wait for locks at once; each holds a connection.
const WAITING: usize = 4;
/// After how long a batch whose connection died is run again; each once.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1_000),
];
/// How many changes may wait.
const QUEUE: usize = 2_000;

/// Changes that wait for their turn.
#[derive(Clone, Debug)]
pub struct Queue {
    state: Arc<Lock<State>>,
    waiting: Arc<Semaphore>,
    lanes: usize,
    turn: Duration,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(u64, Box<dyn Job>)>,
    /// The number of the next job.
    next: u64,
    /// How many lanes are at work.
    busy: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting", self.jobs.len())
    }
}

/// A batch on its way through a transaction.
struct Batch {
    jobs: Vec<Box<dyn Job>>,
    /// Those whose turn came too late; nothing was done about them.
    late: Vec<Box<dyn Job>>,
    /// Everything is written and the commit has begun: from here on an error does not tell
    /// whether it came about.
    committing: bool,
    /// What came of it.
    ran: Ran,
}

impl Queue {
    /// An empty queue before this database. On PostgreSQL half of the time that a call may wait for
    /// the database is for its turn, a connection included, and half for what others have locked.
    pub fn new(db: &Db, limits: &Limits) -> Self {
        let postgres = db.backend() == DbBackend::Postgres;
        Self {
            state: Arc::default(),
            waiting: Arc::new(Semaphore::new(WAITING)),
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
    /// [`Error::DatabaseUnavailable`] when its turn does not come.
    pub(super) async fn make<R>(
        &self,
        db: &Db,
        job: Box<dyn Job>,
        mut answered: oneshot::Receiver<Result<R>>,
    ) -> Result<R> {
        let number = self.put(db, job)?;
        let answer = match tokio::time::timeout(self.turn, &mut answered).await {
            Ok(answer) => answer,
            Err(_) if self.withdraw(number) => return Err(self.no_turn()),
            // It is being made.
            Err(_) => answered.await,
        };
        answer.map_err(|_| Error::internal("a change was dropped, by a panic"))?
    }

    fn no_turn(&self) -> Error {
        let waited = self.turn.as_secs_f64();
        Error::DatabaseUnavailable(format!("no turn to write came within {waited} s"))
    }

    /// Takes a change back that nobody has begun.
    fn withdraw(&self, number: u64) -> bool {
        let mut state = self.lock();
        let place = state.jobs.iter().position(|(other, _)| *other == number);
        place.and_then(|place| state.jobs.remove(place)).is_some()
    }

    fn put(&self, db: &Db, job: Box<dyn Job>) -> Result<u64> {
        let number = {
            let mut state = self.lock();
            if state.jobs.len() >= QUEUE {
                return Err(Error::ServerOverloaded);
            }
            let number = state.next;
            state.next += 1;
            state.jobs.push_back((number, job));
            if state.busy == self.lanes {
                return Ok(number);
            }
            state.busy += 1;
            number
        };
        db.spawn(self.clone().lane(db.clone()));
        Ok(number)
    }

    async fn lane(self, db: Db) {
        while let Some(jobs) = self.take() {
            self.settle(&db, jobs, Patience::None).await;
        }
    }

    /// The next batch; none, and one lane less, when nobody waits. Who hung up while waiting gets
    /// nothing done.
    fn take(&self) -> Option<Vec<Box<dyn Job>>> {
        let mut state = self.lock();
        let mut batch = Vec::new();
        while batch.len() < TOGETHER
            && let Some((_, job)) = state.jobs.pop_front()
        {
            if job.is_awaited() {
                batch.push(job);
            }
        }
        if batch.is_empty() {
            state.busy -= 1;
            return None;
        }
        Some(batch)
    }

    /// Runs a batch and answers its callers; again, where the connection died and nothing came of it.
    /// Whose turn came too late is told so, in place of waiting for locks as well.
    async fn settle(&self, db: &Db, mut jobs: Vec<Box<dyn Job>>, patience: Patience) {
        let mut latest = Some(self.turn);
        for pause in PAUSES.into_iter().map(Some).chain([None]) {
            let (written, batch) = write(db, jobs, patience, latest.take()).await;
            jobs = batch.jobs;
            fail(batch.late, &self.no_turn());
            match written {
                Ok(()) => return self.answer(db, jobs, batch.ran.erased),
                Err(Error::DatabaseLost(why)) => {
                    let fate = fate_of(db, &mut jobs, batch.committing, batch.ran.trace).await;
                    if fate == Some(Fate::Committed) {
                        return self.answer(db, jobs, batch.ran.erased);
                    }
                    let (Some(Fate::Gone), Some(pause)) = (fate, pause) else {
                        return fail(jobs, &Error::DatabaseLost(why));
                    };
                    tokio::time::sleep(pause).await;
                    jobs = awaited(jobs);
                    if jobs.is_empty() {
                        return;
                    }
                }
                Err(Error::Internal(_))
                    if !batch.committing && (jobs.len() > 1 || patience == Patience::None) =>
                {
                    for job in jobs {
                        self.wait(db, vec![job]);
                    }
                    return;
                }
                Err(error) => return fail(jobs, &error),
            }
        }
    }

    /// Answers the callers of a batch that is on disk; where something was `erased`, once it has left
    /// the files. Those who would have to wait for a lock go on in a batch of their own.
    fn answer(&self, db: &Db, jobs: Vec<Box<dyn Job>>, erased: bool) {
        let (answered, put_off): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| job.is_answered());
        if erased {
            // Whether those who asked still wait or not.
            let database = db.clone();
            db.spawn(async move {
                database.scrub().await;
                answered.into_iter().for_each(|mut job| job.send());
            });
        } else {
            answered.into_iter().for_each(|mut job| job.send());
        }
        if !put_off.is_empty() {
            self.wait(db, put_off);
        }
    }

    /// Runs a batch that waits for the locks it needs.
    fn wait(&self, db: &Db, jobs: Vec<Box<dyn Job>>) {
        let (queue, database) = (self.clone(), db.clone());
        db.spawn(async move {
            let Ok(_permit) = tokio::time::timeout(queue.turn, queue.waiting.acquire()).await
            else {
                return fail(jobs, &Error::WriteConflict);
            };
            let jobs = awaited(jobs);
            if !jobs.is_empty() {
                Box::pin(queue.settle(&database, jobs, Patience::Waits)).await;
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|held| held.into_inner())
    }
}

/// Runs a batch in a transaction, without those who have waited for longer than `latest`.
async fn write(
    db: &Db,
    jobs: Vec<Box<dyn Job>>,
    patience: Patience,
    latest: Option<Duration>,
) -> (Result<()>, Batch) {
    let batch = Arc::new(Mutex::new(Batch {
        jobs,
        late: Vec::new(),
        committing: false,
        ran: Ran::default(),
    }));
    let inside = Arc::clone(&batch);
    let written = db.write(move |tx| {
        Box::pin(async move {
            let mut batch = inside.lock().await;
            if let Some(latest) = latest {
                let is_late = |job: &mut Box<dyn Job>| job.waited() > latest;
                batch.late = batch.jobs.extract_if(.., is_late).collect();
            }
            if batch.jobs.is_empty() {
                return Ok(Verdict::Checked(()));
            }
            batch.ran = batch::run(tx, &mut batch.jobs, patience).await?;
            batch.committing = batch.ran.written;
            Ok(Verdict::Done(()))
        })
    });
    let written = written.await;
    let mut batch = batch.lock().await;
    let batch = Batch {
        jobs: std::mem::take(&mut batch.jobs),
        late: std::mem::take(&mut batch.late),
        committing: batch.committing,
        ran: std::mem::take(&mut batch.ran),
    };
    (written, batch)
}

/// What became of a batch whose connection died. None when nobody can tell.
async fn fate_of(
    db: &Db,
    jobs: &mut [Box<dyn Job>],
    committing: bool,
    trace: Option<Trace>,
) -> Option<Fate> {
    if !committing {
        return Some(Fate::Gone);
    }
    let awaited = || jobs.iter_mut().any(|job| job.is_awaited());
    fate::learn(db, &trace?, awaited).await
}

/// The jobs that somebody still waits for, as if they had not been decided.
fn awaited(jobs: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
    let mut jobs: Vec<_> = jobs.into_iter().filter(|job| job.is_awaited()).collect();
    for job in &mut jobs {
        job.forget();
    }
    jobs
}

fn fail(jobs: Vec<Box<dyn Job>>, error: &Error) {
    for mut job in jobs {
        job.fail(error.clone());
        job.send();
    }
}

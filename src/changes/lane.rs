//! What takes changes from the queue, batch after batch, and answers their callers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::batch::{self, Ran};
use super::fate::{self, Fate, Trace};
use super::queue::{Pending, Queue};
use crate::db::{Db, Verdict};
use crate::error::{Error, Result};

/// How many changes one transaction makes.
const TOGETHER: usize = 64;
/// After how long a batch whose connection died is run again; each once.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1_000),
];

/// A lane at work, counted for as long as it exists, however its task ends.
pub(super) struct Lane {
    queue: Queue,
    db: Db,
    is_counted: bool,
}

impl Drop for Lane {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let mut state = self.queue.lock();
        state.busy -= 1;
        // After a panic another lane takes its place.
        if std::thread::panicking() && !state.jobs.is_empty() {
            self.queue.start_lane(&mut state, &self.db);
        }
    }
}

/// A batch on its way through a transaction.
struct Batch {
    jobs: Vec<Pending>,
    /// Those whose turn came too late; nothing was done about them.
    late: Vec<Pending>,
    /// Everything is written and the commit has begun: from here on an error does not tell
    /// whether it came about.
    committing: bool,
    /// What came of it.
    ran: Ran,
}

impl Lane {
    /// One that is counted already.
    pub(super) fn new(queue: Queue, db: Db) -> Self {
        Self {
            queue,
            db,
            is_counted: true,
        }
    }

    /// Works until no change waits.
    pub(super) async fn run(mut self) {
        while let Some(jobs) = self.take() {
            self.settle(jobs, Some(self.queue.turn)).await;
        }
    }

    /// The next batch; without one the lane counts no more. A change whose caller disconnected while
    /// it waited is not made.
    fn take(&mut self) -> Option<Vec<Pending>> {
        let mut state = self.queue.lock();
        let mut batch = Vec::new();
        while batch.len() < TOGETHER
            && let Some(pending) = state.jobs.pop_front()
        {
            if pending.job.is_awaited() {
                batch.push(pending);
            }
        }
        if batch.is_empty() {
            state.busy -= 1;
            self.is_counted = false;
            return None;
        }
        Some(batch)
    }

    /// Runs a batch and answers its callers; again, where the connection died and nothing came of it.
    /// Changes that have waited for longer than `latest` fail without being made.
    async fn settle(&self, mut jobs: Vec<Pending>, mut latest: Option<Duration>) {
        for pause in PAUSES.into_iter().map(Some).chain([None]) {
            let begun = Instant::now();
            let (written, batch) = write(&self.db, jobs, latest.take()).await;
            jobs = batch.jobs;
            fail(batch.late, &self.queue.no_turn());
            match written {
                Ok(()) => return self.answer(jobs, batch.ran.erased),
                Err(Error::DatabaseLost(why)) => {
                    let fate =
                        fate_of(&self.db, &mut jobs, batch.committing, batch.ran.trace).await;
                    if fate == Some(Fate::Committed) {
                        return self.answer(jobs, batch.ran.erased);
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
                // A fault in one of them: each goes on alone.
                Err(Error::Internal(_)) if !batch.committing && jobs.len() > 1 => {
                    for job in awaited(jobs) {
                        Box::pin(self.settle(vec![job], None)).await;
                    }
                    return;
                }
                // Somebody was faster, or has locked a whole table, which was waited for.
                Err(Error::WriteConflict) if !batch.committing => {
                    return self.queue.put_off(&self.db, awaited(jobs), begun);
                }
                Err(error) => return fail(jobs, &error),
            }
        }
    }

    /// Answers the callers of a batch that is on disk; where something was `erased`, once it has left
    /// the files. Those who met a lock are put off.
    fn answer(&self, jobs: Vec<Pending>, erased: bool) {
        let (answered, put_off): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .partition(|pending| pending.job.is_answered());
        if erased {
            // Whether those who asked still wait or not.
            let db = self.db.clone();
            self.db.spawn(async move {
                db.scrub().await;
                answered
                    .into_iter()
                    .for_each(|mut pending| pending.job.send());
            });
        } else {
            answered
                .into_iter()
                .for_each(|mut pending| pending.job.send());
        }
        self.queue.put_off(&self.db, put_off, Instant::now());
    }
}

/// Runs a batch in a transaction, without those who have waited for longer than `latest`.
async fn write(db: &Db, jobs: Vec<Pending>, latest: Option<Duration>) -> (Result<()>, Batch) {
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
                let is_late = |pending: &mut Pending| {
                    pending.locked.is_none() && pending.job.waited() > latest
                };
                batch.late = batch.jobs.extract_if(.., is_late).collect();
            }
            if batch.jobs.is_empty() {
                return Ok(Verdict::Checked(()));
            }
            batch.ran = batch::run(tx, &mut batch.jobs).await?;
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
    jobs: &mut [Pending],
    committing: bool,
    trace: Option<Trace>,
) -> Option<Fate> {
    if !committing {
        return Some(Fate::Gone);
    }
    let awaited = || jobs.iter_mut().any(|pending| pending.job.is_awaited());
    fate::learn(db, &trace?, awaited).await
}

/// Those that somebody still waits for, as if they had not been decided.
fn awaited(mut jobs: Vec<Pending>) -> Vec<Pending> {
    jobs.retain(|pending| pending.job.is_awaited());
    for pending in &mut jobs {
        pending.job.forget();
    }
    jobs
}

pub(super) fn fail(jobs: Vec<Pending>, error: &Error) {
    for mut pending in jobs {
        pending.job.fail(error.clone());
        pending.job.send();
    }
}

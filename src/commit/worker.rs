//! Workers take batches of changes from the queue, commit them and send the responses.

use std::time::{Duration, Instant};

use super::batch::{self, BatchOutcome, Outcome};
use super::in_doubt::{self, CommitOutcome, CommitProbe};
use super::queue::{Queue, Queued};
use crate::core::backoff;
use crate::db::{Db, Verdict};
use crate::error::{Error, ErrorReason, Result};
use crate::telemetry::traces::Span;

/// The maximum number of changes in one transaction.
const MAX_BATCH_SIZE: usize = 64;

/// A running worker. `Drop` decrements the number of running workers, however its task ends.
pub(super) struct Worker {
    queue: Queue,
    db: Db,
    is_counted: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let mut state = self.queue.lock();
        state.running -= 1;
        // A worker that panicked is replaced, so that the queued changes do not wait for the next caller.
        if std::thread::panicking() && !state.waiting.is_empty() {
            self.queue.start_worker(&mut state, &self.db);
        }
    }
}

/// A batch while its transaction runs.
struct Batch {
    changes: Vec<Queued>,
    /// Changes that exceeded the maximum wait. Nothing was written for them.
    expired: Vec<Queued>,
    /// Everything is written and the commit begins. After this point an error does not show whether the
    /// transaction was committed.
    is_committing: bool,
    outcome: BatchOutcome,
}

impl Worker {
    /// A worker that `State::running` already includes.
    pub(super) fn new(queue: Queue, db: Db) -> Self {
        Self {
            queue,
            db,
            is_counted: true,
        }
    }

    /// Runs batches until the queue is empty.
    pub(super) async fn run(mut self) {
        while let Some(changes) = self.next_batch() {
            self.commit_batch(changes, Some(self.queue.max_wait)).await;
        }
    }

    /// Takes the next batch. If there is none, the worker stops and is no longer counted. Changes whose
    /// caller has disconnected are dropped.
    fn next_batch(&mut self) -> Option<Vec<Queued>> {
        let mut state = self.queue.lock();
        let mut batch = Vec::new();
        while batch.len() < MAX_BATCH_SIZE
            && let Some(queued) = state.waiting.pop_front()
        {
            if queued.change.is_awaited() {
                batch.push(queued);
            }
        }
        self.queue.note_length(&state);
        if batch.is_empty() {
            state.running -= 1;
            self.is_counted = false;
            return None;
        }
        drop(state);
        self.measure(&batch);
        Some(batch)
    }

    fn measure(&self, batch: &[Queued]) {
        let metrics = &self.queue.metrics;
        metrics.batch_changes.observe(batch.len() as f64);
        // A change that met a lock was taken, and measured, before.
        for queued in batch.iter().filter(|queued| queued.blocked_since.is_none()) {
            metrics.batch_wait.observe(queued.waited().as_secs_f64());
        }
    }

    /// Commits a batch and sends the responses. If the connection was lost and nothing was committed, it
    /// retries. Changes that have waited longer than `max_wait` fail and are not written.
    async fn commit_batch(&self, mut changes: Vec<Queued>, mut max_wait: Option<Duration>) {
        for pause in backoff::RECONNECT.into_iter().map(Some).chain([None]) {
            let started = Instant::now();
            let span = Span::shared("batch", changes.iter().map(|queued| &queued.caller));
            span.set("leadsmith.batch.changes", || changes.len() as i64);
            let write = self.write(changes, max_wait.take());
            let (result, batch) = span.run(write).await;
            changes = batch.changes;
            fail(batch.expired, &self.queue.no_batch_in_time());
            let error = match result {
                Ok(()) => return self.finish(changes, &batch.outcome, &span),
                Err(error) => error,
            };
            span.failed();
            if error.is_connection_lost() {
                let probe = batch.outcome.probe.as_ref();
                let outcome = self.resolve(&mut changes, batch.is_committing, probe).await;
                if outcome == Some(CommitOutcome::Committed) {
                    return self.finish(changes, &batch.outcome, &span);
                }
                let (Some(CommitOutcome::RolledBack), Some(pause)) = (outcome, pause) else {
                    return fail(changes, &error);
                };
                tokio::time::sleep(pause).await;
                changes = awaited(changes);
                if changes.is_empty() {
                    return;
                }
            } else if batch.is_committing {
                return fail(changes, &error);
            } else if error.is(ErrorReason::Internal) && changes.len() > 1 {
                // One of the changes has a bug: run each one alone, so that the others succeed.
                for change in awaited(changes) {
                    Box::pin(self.commit_batch(vec![change], None)).await;
                }
                return;
            } else if error.is(ErrorReason::WriteConflict) {
                // A concurrent transaction won, or another session holds a table lock.
                return self.queue.defer(&self.db, awaited(changes), started);
            } else {
                return fail(changes, &error);
            }
        }
    }

    /// Writes a batch in one transaction, without the changes that have waited longer than `max_wait`.
    async fn write(&self, changes: Vec<Queued>, max_wait: Option<Duration>) -> (Result<()>, Batch) {
        let kinds = self.queue.kinds;
        let batch = Batch {
            changes,
            expired: Vec::new(),
            is_committing: false,
            outcome: BatchOutcome::default(),
        };
        let write = self.db.write_with(batch, move |tx, batch| {
            Box::pin(async move {
                if let Some(max_wait) = max_wait {
                    let is_expired = |queued: &mut Queued| {
                        queued.blocked_since.is_none() && queued.change.waited() > max_wait
                    };
                    batch.expired = batch.changes.extract_if(.., is_expired).collect();
                }
                if batch.changes.is_empty() {
                    return Ok(Verdict::Checked(()));
                }
                batch.outcome = batch::run(tx, kinds, &mut batch.changes).await?;
                batch.is_committing = batch.outcome.is_written;
                Ok(Verdict::Done(()))
            })
        });
        write.await
    }

    /// Returns what happened to a batch whose connection was lost, or `None` if that is unknown.
    async fn resolve(
        &self,
        changes: &mut [Queued],
        is_committing: bool,
        probe: Option<&CommitProbe>,
    ) -> Option<CommitOutcome> {
        if !is_committing {
            return Some(CommitOutcome::RolledBack);
        }
        // `iter_mut`, because a change is `Send` but not `Sync`.
        let is_awaited = || changes.iter_mut().any(|queued| queued.change.is_awaited());
        in_doubt::resolve(&self.db, probe?, is_awaited).await
    }

    /// Sends the responses of a committed batch. If personal data was erased, the responses are sent after
    /// SQLite's files are scrubbed. Changes that met a lock are deferred.
    fn finish(&self, changes: Vec<Queued>, outcome: &BatchOutcome, span: &Span) {
        if outcome.is_written {
            self.db.events_committed();
        }
        let (mut decided, mut deferred) = (Vec::new(), Vec::new());
        let mut outcomes = outcome.changes.iter();
        for change in changes {
            match outcomes.next() {
                Some(Outcome::Deferred) => deferred.push(change),
                Some(Outcome::Decided) | None => {
                    change.caller.is_served(span);
                    decided.push(change);
                }
            }
        }
        if outcome.is_erased {
            // The scrub also runs if the callers have disconnected.
            let db = self.db.clone();
            self.db.spawn(async move {
                db.scrub().await;
                send(decided);
            });
        } else {
            send(decided);
        }
        self.queue.defer(&self.db, deferred, Instant::now());
    }
}

/// Keeps only the changes whose caller is still connected.
fn awaited(mut changes: Vec<Queued>) -> Vec<Queued> {
    changes.retain(|queued| queued.change.is_awaited());
    changes
}

fn send(changes: Vec<Queued>) {
    for mut queued in changes {
        queued.change.send();
    }
}

pub(super) fn fail(changes: Vec<Queued>, error: &Error) {
    for mut queued in changes {
        queued.change.fail(error.clone());
        queued.change.send();
    }
}

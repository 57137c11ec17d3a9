//! Commits the changes of many callers in one transaction: their records are locked and read together, the
//! changes are decided one after the other, and everything is written together. A commit costs one disk
//! sync, and a statement one round trip to the database. All changes of the batch share both.
//!
//! A batch never waits for a lock of another transaction: a change that would have to wait is deferred to a
//! later batch ([`Outcome::Deferred`]). So a lock that is held for long delays only the changes that need
//! it. Locks are still taken in a fixed order: request ids, keys, then records in the order of their kinds,
//! each sorted.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::erase::{self, ErasedRoot};
use super::idempotency::{self, Lookup};
use super::in_doubt::{CommitProbe, MarkerRow};
use super::lock_set::LockSet;
use super::pending::{AnyPending, Decided};
use super::queue::Queued;
use super::snapshot::{Kind, Snapshot};
use super::unit_of_work::{Appended, SideStatement, WriteSet};
use super::{Change, event, history, stored_response};
use crate::core::call::Call;
use crate::db::rows::{self, Rows};
use crate::db::{Connection, Tx, entities};
use crate::error::{ErrorReason, Result};
use crate::telemetry::traces::Span;

/// A change of any outcome type.
type AnyChange = dyn AnyPending;

/// The result of one change of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has a reply, which is valid once the transaction is committed.
    Decided,
    /// Another transaction holds a lock that it needs.
    Deferred,
}

/// The result of a batch.
#[derive(Default)]
pub(super) struct BatchOutcome {
    /// The result of each change, in the order of the batch.
    pub changes: Vec<Outcome>,
    /// Whether there is anything to commit.
    pub is_written: bool,
    /// Data to find out later whether the transaction was committed; `None` where that is not possible.
    pub probe: Option<CommitProbe>,
    /// Whether personal data was erased.
    pub is_erased: bool,
}

/// Decides and writes the changes of a batch.
pub(super) async fn run(tx: &Tx, kinds: &[Kind], batch: &mut [Queued]) -> Result<BatchOutcome> {
    let mut outcome = BatchOutcome {
        changes: vec![Outcome::Decided; batch.len()],
        ..BatchOutcome::default()
    };
    let mut undecided: Vec<(usize, &mut AnyChange)> = Vec::with_capacity(batch.len());
    for (index, queued) in batch.iter_mut().enumerate() {
        undecided.push((index, &mut *queued.change));
    }
    let replayed = {
        let mut changes: Vec<_> = undecided
            .iter_mut()
            .map(|(_, change)| &mut **change)
            .collect();
        replay(tx, kinds, &mut changes).await?
    };
    let mut replayed = replayed.into_iter();
    undecided.retain(|_| !replayed.next().unwrap_or_default());
    if undecided.is_empty() {
        return Ok(outcome);
    }
    let locks: Vec<LockSet> = undecided
        .iter()
        .map(|(_, change)| change.locks().clone())
        .collect();
    let mut snapshot = Snapshot::load(kinds, tx, &locks).await?;
    let mut batch_rows = BatchRows::default();
    let mut erased = Vec::new();
    let decide = Span::begin("decide");
    for (index, change) in undecided {
        if snapshot.is_busy(change.locks()) {
            outcome.changes[index] = Outcome::Deferred;
            continue;
        }
        let decided = change.decide(&snapshot, &tx.clock);
        let is_refused = matches!(
            decided,
            Decided::Refused(_) | Decided::Nothing { failed: true }
        );
        // Another replica may have committed the first call with this request id just after the lookup
        // above. In that case the refusal may be a consequence of that call, and its stored response is
        // returned instead.
        if is_refused && replay(tx, kinds, &mut [&mut *change]).await? == [true] {
            continue;
        }
        let (writes, stored) = match decided {
            Decided::Accepted(writes, stored) => (writes, stored),
            Decided::Refused(writes) => (writes, None),
            Decided::Nothing { .. } => continue,
        };
        let erased_by = idempotency::scoped_id(change.call());
        let roots = batch_rows.add(tx, change.call(), writes, &mut snapshot)?;
        erased.extend(roots.into_iter().map(|root| (root, erased_by)));
        if let Some(stored) = stored {
            let root = snapshot.any_record(stored.root_id);
            let attached = change.locks().record_with_root();
            let attached = attached.and_then(|id| Some((id, snapshot.any_record(id)?)));
            let mut more_roots: BTreeSet<Uuid> = stored.more_roots.into_iter().collect();
            more_roots.remove(&stored.root_id);
            let further = more_roots.first();
            let further = further.and_then(|id| Some((*id, snapshot.any_record(*id)?)));
            let response = match root {
                Some(root) => stored_response::pack(stored.response, root, attached, further),
                None => stored.response,
            };
            let now = tx.clock.now();
            let row = idempotency::to_row(change.call(), stored.root_id, response, now);
            batch_rows.responses.extend(row);
            let rows = idempotency::roots_to_rows(change.call(), more_roots);
            batch_rows.response_roots.extend(rows);
        }
    }
    drop(decide);
    (outcome.is_written, outcome.probe) = batch_rows.finish(tx, &mut snapshot).await?;
    outcome.is_erased = !erased.is_empty();
    // Last, because rows that this batch wrote earlier about these roots must be erased too.
    for (root, erased_by) in erased {
        snapshot.erase_related_rows(tx, root.id).await?;
        erase::erase_past(tx, root, erased_by).await?;
    }
    Ok(outcome)
}

/// Sets the reply of each change whose request id was already used: the stored response, or the error that
/// another replica is processing it. Returns for each change whether it has a reply now.
async fn replay(tx: &Tx, kinds: &[Kind], changes: &mut [&mut AnyChange]) -> Result<Vec<bool>> {
    let scoped_ids: Vec<_> = changes
        .iter()
        .filter_map(|change| idempotency::scoped_id(change.call()))
        .collect();
    let mut found = idempotency::look_up(tx, &scoped_ids).await?.into_iter();
    let (mut replayed, mut is_any_stored) = (Vec::with_capacity(changes.len()), false);
    for change in changes {
        let found = match change.call().request_key {
            Some(_) => found.next().unwrap_or(Lookup::Unused),
            None => Lookup::Unused,
        };
        replayed.push(!matches!(found, Lookup::Unused));
        match found {
            Lookup::Unused => {}
            Lookup::InFlight => change.fail(idempotency::in_flight()),
            Lookup::Stored(stored) => {
                is_any_stored = true;
                match stored
                    .unpack(Connection::Tx(tx), kinds, change.call())
                    .await
                {
                    Ok(stored) => change.replay(stored),
                    Err(error) if error.is(ErrorReason::LeadErased) => change.fail(error),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    if is_any_stored {
        tx.replication_barrier().await?;
    }
    Ok(replayed)
}

/// The rows that a batch writes in addition to the records.
#[derive(Default)]
struct BatchRows {
    history: Vec<entities::history::ActiveModel>,
    events: Vec<entities::event::ActiveModel>,
    responses: Vec<entities::idempotency_record::ActiveModel>,
    response_roots: Vec<entities::idempotency_root::ActiveModel>,
    appended: Vec<Appended>,
    statements: Vec<SideStatement>,
}

impl BatchRows {
    /// Adds the rows of one change and applies it to the records. Returns the roots that it erases.
    fn add(
        &mut self,
        tx: &Tx,
        call: &Call,
        writes: WriteSet,
        snapshot: &mut Snapshot,
    ) -> Result<Vec<ErasedRoot>> {
        for change in writes.changes {
            self.record(tx, call, change)?;
        }
        self.appended.extend(writes.appended);
        self.statements.extend(writes.statements);
        for put in writes.puts {
            snapshot.apply(put)?;
        }
        Ok(writes.erased)
    }

    fn record(&mut self, tx: &Tx, call: &Call, change: Change) -> Result<()> {
        self.history.push(history::to_row(tx, call, &change)?);
        self.events.push(event::to_row(tx, call, change)?);
        Ok(())
    }

    /// Writes all rows. Returns whether there were any, and how to find out later whether the transaction
    /// was committed.
    async fn finish(self, tx: &Tx, snapshot: &mut Snapshot) -> Result<(bool, Option<CommitProbe>)> {
        let marker = self.marker();
        let mut all = snapshot.write(tx).await?;
        all.extend(group_by_table(self.appended));
        all.extend(Rows::insert(self.history)?);
        all.extend(Rows::insert(self.events)?);
        all.extend(Rows::insert(self.responses)?);
        all.extend(Rows::insert(self.response_roots)?);
        let is_written = !all.is_empty();
        let transaction = rows::write(tx, all).await?;
        for statement in self.statements {
            statement.run(tx).await?;
        }
        let probe = transaction
            .zip(marker)
            .map(|(transaction, marker)| CommitProbe {
                transaction,
                marker,
            });
        Ok((is_written, probe))
    }

    fn marker(&self) -> Option<MarkerRow> {
        let history = self.history.first().and_then(|row| row.id.try_as_ref());
        let response = self.responses.first().and_then(|row| {
            let principal = row.principal_id.try_as_ref()?;
            Some((*principal, *row.request_id.try_as_ref()?))
        });
        let appended = self.appended.first().map(|row| MarkerRow::Appended {
            table: row.rows.table().to_owned(),
            id: row.id,
        });
        history
            .map(|id| MarkerRow::History(*id))
            .or(appended)
            .or(response.map(MarkerRow::Response))
    }
}

/// Groups the appended rows by table.
fn group_by_table(appended: Vec<Appended>) -> Vec<Rows> {
    let mut all: Vec<Rows> = Vec::new();
    for Appended { rows, .. } in appended {
        match all.iter_mut().find(|other| other.table() == rows.table()) {
            Some(other) => other.append(rows),
            None => all.push(rows),
        }
    }
    all
}

//! Where a reader of the event log is. Pure: it knows neither the database nor who reads.
//!
//! The log has no single number by which it is ordered: a transaction gets its id, and its events their `seq`, before it
//! commits, so what commits later may have lower numbers. So a position says which transactions are read
//! ([`Cover`]): all below a bound, except those that were still running. What a reader has not read is read in windows. A
//! window is everything that one snapshot of the database shows beyond the position, in the order of `seq`.
//!
//! Why no event precedes one that it depends on: a change is numbered after it holds the locks of its records. If it
//! depends on another change, that one was committed before. So the other change is in an earlier window, or in the
//! same one with a lower number.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

/// A set of transactions: all with an id below `bound`, except `unfinished`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    /// The lowest id that is not covered, apart from `unfinished`.
    pub bound: i64,
    /// The ids below `bound` that are not covered.
    pub unfinished: BTreeSet<i64>,
}

impl Cover {
    /// Every transaction with an id below this bound.
    pub fn below(bound: i64) -> Self {
        Self {
            bound,
            unfinished: BTreeSet::new(),
        }
    }

    /// Whether it has this transaction.
    pub fn has(&self, transaction: i64) -> bool {
        transaction < self.bound && !self.unfinished.contains(&transaction)
    }

    /// Whether it has all transactions of `other`.
    pub fn includes(&self, other: &Self) -> bool {
        let mut missing = self.unfinished.range(..other.bound);
        other.bound <= self.bound && missing.all(|id| other.unfinished.contains(id))
    }

    /// The transactions of either.
    pub fn union(&self, other: &Self) -> Self {
        let candidates = self.unfinished.union(&other.unfinished);
        Self {
            bound: self.bound.max(other.bound),
            unfinished: candidates
                .copied()
                .filter(|id| !self.has(*id) && !other.has(*id))
                .collect(),
        }
    }

    /// Whether it has every transaction with an id up to this one.
    fn has_all_up_to(&self, transaction: i64) -> bool {
        let first = self.unfinished.first();
        transaction < self.bound && first.is_none_or(|first| *first > transaction)
    }

    /// The same transactions below `bound`.
    fn truncated(&self, bound: i64) -> Self {
        Self {
            bound,
            unfinished: self.unfinished.range(..bound).copied().collect(),
        }
    }
}

/// The place of an event in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventRef {
    /// The transaction that wrote it; on SQLite its `seq`.
    pub transaction: i64,
    /// Its number.
    pub seq: i64,
    /// Its id.
    pub id: Uuid,
}

/// What retention has deleted. Every transaction up to `transaction` had ended when it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The highest number of a deleted event; 0 if none was deleted.
    pub seq: i64,
    /// The highest transaction of a deleted event.
    pub transaction: i64,
}

/// What a reader has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The transactions whose events are all read.
    pub read: Arc<Cover>,
    /// The window that is read in part.
    pub window: Option<Window>,
    /// The event with the highest transaction and number among those that were read: the log is another one if it is
    /// missing.
    pub newest: Option<EventRef>,
}

/// A window of which a part is read: the events of `end` that are not in `Position::read`, up to the number `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The transactions that the window's snapshot shows.
    pub end: Arc<Cover>,
    /// The events up to this number are read.
    pub after: i64,
}

impl Position {
    /// The position that has read everything that `snapshot` shows. `newest` is the last event in it.
    pub fn at(snapshot: &Cover, newest: Option<EventRef>, deleted: Deleted) -> Self {
        Self::default().completed(snapshot, newest, deleted)
    }

    /// The position before the events of a snapshot with a higher number than `after`. The others count as read.
    pub fn before(snapshot: Cover, after: i64) -> Self {
        Self {
            window: Some(Window {
                end: Arc::new(snapshot),
                after,
            }),
            ..Self::default()
        }
    }

    /// The position after the event with this number, where the numbers are the order of the commits.
    pub fn after_seq(seq: i64) -> Self {
        Self {
            read: Arc::new(Cover::below(seq + 1)),
            ..Self::default()
        }
    }

    /// Whether this event is read.
    pub fn has(&self, transaction: i64, seq: i64) -> bool {
        let in_window = |window: &Window| window.end.has(transaction) && seq <= window.after;
        self.read.has(transaction) || self.window.as_ref().is_some_and(in_window)
    }

    /// Whether an event that is not read may have been deleted.
    pub fn is_expired(&self, deleted: Deleted) -> bool {
        let in_window = |window: &Window| {
            window.end.has_all_up_to(deleted.transaction) && deleted.seq <= window.after
        };
        let has_all = self.read.has_all_up_to(deleted.transaction)
            || self.window.as_ref().is_some_and(in_window);
        deleted.seq > 0 && !has_all
    }

    /// The positions after each of these events, which follow this position in the window that ends with the snapshot
    /// `end`, in the order of their numbers. `is_complete` says that the window has no more. The last position is that
    /// after all of them, also where there are none.
    pub fn advance(
        &self,
        events: &[EventRef],
        end: &Arc<Cover>,
        deleted: Deleted,
        is_complete: bool,
    ) -> (Vec<Self>, Self) {
        let mut newest = self.newest;
        let mut positions = Vec::with_capacity(events.len());
        for event in events {
            newest = newest.max(Some(*event));
            positions.push(Self {
                read: Arc::clone(&self.read),
                window: Some(Window {
                    end: Arc::clone(end),
                    after: event.seq,
                }),
                newest,
            });
        }
        let after = match (is_complete, positions.last()) {
            (true, _) => self.completed(end, newest, deleted),
            (false, Some(last)) => last.clone(),
            (false, None) => self.clone(),
        };
        if is_complete && let Some(last) = positions.last_mut() {
            last.clone_from(&after);
        }
        (positions, after)
    }

    /// What is covered when everything is read that this snapshot shows. `newest` is the highest transaction with an event,
    /// of those that the snapshot shows and that are not read.
    ///
    /// It ends with the events, and not with the snapshot, because higher ids may be used again: those of transactions
    /// that were rolled back, after a failover, and all, after a restore of the database to an earlier time.
    pub fn end_of_window(&self, snapshot: &Cover, newest: Option<i64>, deleted: Deleted) -> Cover {
        let deleted = (deleted.seq > 0).then_some(deleted.transaction);
        let ends = [newest, deleted].into_iter().flatten().map(|id| id + 1);
        snapshot.truncated(ends.fold(self.read.bound, i64::max))
    }

    /// The position after everything that the snapshot shows.
    fn completed(&self, snapshot: &Cover, newest: Option<EventRef>, deleted: Deleted) -> Self {
        let newest_transaction = newest.map(|newest| newest.transaction);
        let read = self.end_of_window(snapshot, newest_transaction, deleted);
        Self {
            read: match read == *self.read {
                true => Arc::clone(&self.read),
                false => Arc::new(read),
            },
            window: None,
            newest,
        }
    }

    /// The position of a reader that has read what both have read. `other` has no window.
    pub fn union(&self, other: &Self) -> Self {
        let (covered, newest) = (&other.read, self.newest.max(other.newest));
        Self {
            read: Arc::new(self.read.union(covered)),
            window: self.window.as_ref().map(|window| Window {
                end: Arc::new(window.end.union(covered)),
                after: window.after,
            }),
            newest,
        }
    }
}

#[cfg(test)]
mod tests;

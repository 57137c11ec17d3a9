//! Readers of a simulated log: transactions that commit in another order than they began, in which events depend on
//! events of others.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A step of the simulation.
#[derive(Clone, Debug)]
enum Step {
    /// Begins a transaction.
    Begin,
    /// Changes a record in one of the running transactions, which locks the record until it ends.
    Change { transaction: usize, record: usize },
    /// Commits one of the running transactions.
    Commit(usize),
    /// Rolls one of them back.
    Abort(usize),
    /// Rolls all of them back. Ids that no committed transaction has are used again.
    FailOver,
    /// Reads a page of at most this many events.
    Read(usize),
    /// The reader stops, and another one continues after its last event.
    Resume,
    /// Deletes the first events of ended transactions, at most this many.
    Delete(usize),
}

const RECORDS: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Begin),
        6 => (0..8_usize, 0..RECORDS)
            .prop_map(|(transaction, record)| Step::Change { transaction, record }),
        3 => (0..8_usize).prop_map(Step::Commit),
        1 => (0..8_usize).prop_map(Step::Abort),
        1 => Just(Step::FailOver),
        3 => (1..4_usize).prop_map(Step::Read),
        1 => Just(Step::Resume),
        1 => (1..3_usize).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..120)
}

/// An event, the record that it changed, and the record's version after it.
#[derive(Clone, Copy, Debug)]
struct Stored {
    place: EventRef,
    record: usize,
    version: u64,
}

#[derive(Default)]
struct Database {
    next_transaction: i64,
    next_seq: i64,
    running: BTreeMap<i64, Vec<Stored>>,
    locked: BTreeMap<usize, i64>,
    versions: [u64; RECORDS],
    visible: Vec<Stored>,
    deleted: Deleted,
}

impl Database {
    fn snapshot(&self) -> Cover {
        Cover {
            bound: self.next_transaction,
            unfinished: self.running.keys().copied().collect(),
        }
    }

    fn nth(&self, index: usize) -> Option<i64> {
        let count = self.running.len();
        (count > 0).then(|| self.running.keys().nth(index % count).copied())?
    }

    fn change(&mut self, transaction: i64, record: usize) {
        if *self.locked.entry(record).or_insert(transaction) != transaction {
            return;
        }
        self.next_seq += 1;
        let events = self.running.entry(transaction).or_default();
        let own = events.iter().filter(|event| event.record == record).count();
        events.push(Stored {
            place: EventRef {
                transaction,
                seq: self.next_seq,
                id: Uuid::from_u128(u128::try_from(self.next_seq).unwrap()),
            },
            record,
            version: self.versions[record] + own as u64 + 1,
        });
    }

    fn end(&mut self, transaction: i64, is_committed: bool) {
        let events = self.running.remove(&transaction).unwrap_or_default();
        self.locked.retain(|_, holder| *holder != transaction);
        if is_committed {
            for event in &events {
                self.versions[event.record] = event.version;
            }
            self.visible.extend(events);
            self.visible.sort_by_key(|event| event.place.seq);
        }
    }

    fn fail_over(&mut self, committed: &[Stored]) {
        self.running.clear();
        self.locked.clear();
        let ids = committed.iter().map(|event| event.place.transaction);
        self.next_transaction = ids.max().unwrap_or(0) + 1;
    }

    fn delete(&mut self, count: usize) {
        let oldest = self.running.keys().next().copied();
        let oldest = oldest.unwrap_or(self.next_transaction);
        let ended = |event: &&Stored| event.place.transaction < oldest;
        let first: Vec<_> = self
            .visible
            .iter()
            .filter(ended)
            .take(count)
            .copied()
            .collect();
        for event in first {
            self.deleted.seq = self.deleted.seq.max(event.place.seq);
            self.deleted.transaction = self.deleted.transaction.max(event.place.transaction);
            self.visible.retain(|other| other.place != event.place);
        }
    }

    /// A page as the store reads it: a window in parts if it has more than `limit` events.
    fn read(&self, position: &Position, limit: usize) -> (Vec<(Stored, Position)>, Position) {
        let mut start = position.clone();
        let end = match &position.window {
            Some(window) => Arc::clone(&window.end),
            None => {
                let snapshot = self.snapshot();
                let ids = self.visible.iter().map(|event| event.place.transaction);
                let newest = ids.filter(|id| !position.read.has(*id)).max();
                Arc::new(position.end_of_window(&snapshot, newest, self.deleted))
            }
        };
        let in_window = |event: &&Stored| {
            let (transaction, seq) = (event.place.transaction, event.place.seq);
            end.has(transaction) && !position.has(transaction, seq)
        };
        let found: Vec<_> = self.visible.iter().filter(in_window).copied().collect();
        let is_complete = found.len() <= limit;
        if position.window.is_none() && !is_complete {
            start.window = Some(Window {
                end: Arc::clone(&end),
                after: 0,
            });
        }
        let page = &found[..found.len().min(limit)];
        let places: Vec<_> = page.iter().map(|event| event.place).collect();
        let (positions, after) = start.advance(&places, &end, self.deleted, is_complete);
        (page.iter().copied().zip(positions).collect(), after)
    }
}

#[derive(Default)]
struct Reader {
    position: Position,
    /// The position after the last event, from which another reader resumes.
    token: Position,
    delivered: Vec<Stored>,
    is_expired: bool,
}

impl Reader {
    fn read(&mut self, database: &Database, limit: usize) -> usize {
        if self.position.is_expired(database.deleted) {
            self.is_expired = true;
            return 0;
        }
        let (page, after) = database.read(&self.position, limit);
        let count = page.len();
        for (event, position) in page {
            self.delivered.push(event);
            self.token = position;
        }
        self.position = after;
        count
    }
}

fn run(steps: Vec<Step>) -> (Database, Reader, Vec<Stored>) {
    let mut database = Database {
        next_transaction: 1,
        ..Database::default()
    };
    let mut reader = Reader::default();
    let mut all = Vec::new();
    for step in steps {
        match step {
            Step::Begin => {
                database
                    .running
                    .insert(database.next_transaction, Vec::new());
                database.next_transaction += 1;
            }
            Step::Change {
                transaction,
                record,
            } => {
                if let Some(transaction) = database.nth(transaction) {
                    database.change(transaction, record);
                }
            }
            Step::Commit(index) => {
                if let Some(transaction) = database.nth(index) {
                    all.extend(database.running[&transaction].iter().copied());
                    database.end(transaction, true);
                }
            }
            Step::Abort(index) => {
                if let Some(transaction) = database.nth(index) {
                    database.end(transaction, false);
                }
            }
            Step::Read(limit) => {
                reader.read(&database, limit);
            }
            Step::Resume => reader.position = reader.token.clone(),
            Step::FailOver => database.fail_over(&all),
            Step::Delete(count) => database.delete(count),
        }
    }
    while let Some(transaction) = database.nth(0) {
        all.extend(database.running[&transaction].iter().copied());
        database.end(transaction, true);
    }
    while reader.read(&database, 2) > 0 {}
    (database, reader, all)
}

proptest! {
    #[test]
    fn nothing_committed_is_skipped_or_repeated_and_each_record_is_in_order(steps in steps()) {
        let (_, reader, all) = run(steps);
        let delivered: Vec<_> = reader.delivered.iter().map(|event| event.place.seq).collect();
        let unique: BTreeSet<_> = delivered.iter().copied().collect();
        prop_assert_eq!(unique.len(), delivered.len(), "twice: {:?}", &delivered);
        if !reader.is_expired {
            let committed: BTreeSet<_> = all.iter().map(|event| event.place.seq).collect();
            prop_assert_eq!(&unique, &committed);
        }
        let mut versions = [0; RECORDS];
        for event in &reader.delivered {
            prop_assert_eq!(event.version, versions[event.record] + 1, "{:?}", event);
            versions[event.record] = event.version;
        }
    }

    #[test]
    fn a_union_has_what_either_has(
        bounds in (0..20_i64, 0..20_i64),
        unfinished in (prop::collection::btree_set(0..20_i64, 0..6), prop::collection::btree_set(0..20_i64, 0..6)),
    ) {
        let cover = |bound, unfinished: BTreeSet<i64>| {
            Cover { bound: 20, unfinished }.truncated(bound)
        };
        let (one, other) = (cover(bounds.0, unfinished.0), cover(bounds.1, unfinished.1));
        let both = one.union(&other);
        for id in 0..25 {
            prop_assert_eq!(both.has(id), one.has(id) || other.has(id), "{}", id);
        }
        prop_assert!(both.includes(&one) && both.includes(&other));
        let is_subset = (0..25).all(|id| !other.has(id) || one.has(id));
        // A bound above every id that it has is a part of a cover too.
        prop_assert!(!one.includes(&other) || is_subset);
    }
}

#[test]
fn an_id_that_is_used_again_after_a_failover_is_not_taken_for_a_read_one() {
    use Step::*;
    let change = |transaction, record| Change {
        transaction,
        record,
    };
    // The first transaction has two events. The next three are rolled back, and a page shows the first event.
    let mut steps = vec![Begin, change(0, 0), change(0, 1), Commit(0)];
    steps.extend([Begin, Begin, Begin, Abort(0), Abort(0), Abort(0), Read(1)]);
    // Their ids come again. The higher one is committed first, and read with the rest of the page's window.
    steps.extend([
        FailOver,
        Begin,
        change(0, 2),
        Begin,
        change(1, 3),
        Commit(1),
        Read(5),
    ]);
    let (_, reader, all) = run(steps);
    let numbers = |events: &[Stored]| events.iter().map(|event| event.place.seq).collect();
    let (delivered, committed): (BTreeSet<_>, BTreeSet<_>) =
        (numbers(&reader.delivered), numbers(&all));
    assert_eq!(delivered, committed);
}

#[test]
fn a_position_is_expired_only_if_something_that_it_lacks_may_be_deleted() {
    let deleted = Deleted {
        seq: 7,
        transaction: 5,
    };
    let position = |bound, unfinished: &[i64]| Position {
        read: Arc::new(Cover {
            bound,
            unfinished: unfinished.iter().copied().collect(),
        }),
        ..Position::default()
    };
    assert!(!Position::default().is_expired(Deleted::default()));
    assert!(Position::default().is_expired(deleted));
    assert!(position(5, &[]).is_expired(deleted));
    assert!(!position(6, &[]).is_expired(deleted));
    assert!(position(9, &[4]).is_expired(deleted));
    assert!(!position(9, &[6]).is_expired(deleted));
    assert!(!Position::before(Cover::below(9), 7).is_expired(deleted));
    assert!(Position::before(Cover::below(9), 6).is_expired(deleted));
    assert!(Position::before(Cover::below(5), 7).is_expired(deleted));
}

#[test]
fn the_ids_of_transactions_without_events_are_not_covered() {
    let newest = EventRef {
        transaction: 4,
        seq: 9,
        id: Uuid::nil(),
    };
    let snapshot = Cover {
        bound: 90,
        unfinished: BTreeSet::from([2, 50]),
    };
    let position = Position::at(&snapshot, Some(newest), Deleted::default());
    assert_eq!(
        *position.read,
        Cover {
            bound: 5,
            unfinished: BTreeSet::from([2])
        }
    );
}

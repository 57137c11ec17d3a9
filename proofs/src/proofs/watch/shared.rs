//! What the writers, the readers and the faults of a run know of each other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use sea_orm::prelude::Uuid;
use tonic::Status;

use crate::harness::client::reason_or_code;

/// The errors that a restart or a failover causes. Without a reason, the code is that of the client library.
pub const OUTAGE: &[&str] = &[
    "Unavailable",
    "Unknown",
    "Cancelled",
    "Internal",
    "DATABASE_UNAVAILABLE",
    "SERVER_OVERLOADED",
    "DEADLINE_EXCEEDED",
];

/// A run.
///
/// Marks divide it: the versions of one lead, of which only `marks` makes new ones. A mark is in every stream, whatever its
/// filters.
#[derive(Default)]
pub struct Shared {
    /// The servers. They keep their addresses over a restart.
    pub addresses: Vec<String>,
    pub key: String,
    /// The lead whose versions are the marks.
    pub marked: String,
    /// Whether writers and faults end.
    stopped: AtomicBool,
    /// The last mark; 0 until it is made. A stream that has it has everything.
    last: AtomicI64,
    /// All events up to this mark are deleted.
    deleted: AtomicI64,
    /// How many bytes the steady readers have received.
    received: AtomicU64,
    /// For each reader that must not lose events, the mark up to which it does not go back.
    kept: Mutex<BTreeMap<&'static str, i64>>,
    /// The last mark of each reader that has not received the last one.
    reading: Mutex<BTreeMap<&'static str, i64>>,
    /// The leads that a steady reader has received, for those who wait for one.
    seen: Mutex<BTreeMap<Uuid, i64>>,
    problems: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, usize>>,
}

impl Shared {
    pub fn new(addresses: Vec<String>, key: String, marked: String) -> Self {
        Self {
            addresses,
            key,
            marked,
            ..Self::default()
        }
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub fn set_last(&self, mark: i64) {
        self.last.store(mark, Ordering::SeqCst);
    }

    /// The last mark, when it is made.
    pub fn last(&self) -> Option<i64> {
        Some(self.last.load(Ordering::SeqCst)).filter(|last| *last > 0)
    }

    pub fn set_deleted(&self, mark: i64) {
        self.deleted.fetch_max(mark, Ordering::SeqCst);
    }

    pub fn deleted(&self) -> i64 {
        self.deleted.load(Ordering::SeqCst)
    }

    pub fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    /// A reader that must not lose events needs none before this mark any more.
    pub fn keep_from(&self, reader: &'static str, mark: i64) {
        let mut kept = lock(&self.kept);
        let known = kept.entry(reader).or_default();
        *known = mark.max(*known);
    }

    /// The mark from which on some reader may need events.
    pub fn kept_from(&self) -> i64 {
        lock(&self.kept).values().copied().min().unwrap_or(0)
    }

    /// The last mark that a reader has received; `None` when it has the last one.
    pub fn has_read(&self, reader: &'static str, mark: Option<i64>) {
        let mut reading = lock(&self.reading);
        match mark {
            Some(mark) => reading.insert(reader, mark),
            None => reading.remove(reader),
        };
    }

    /// The readers that have not received the last mark, with the last one that they have.
    pub fn still_reading(&self) -> BTreeMap<&'static str, i64> {
        lock(&self.reading).clone()
    }

    pub fn see(&self, record: Uuid, version: i64) {
        lock(&self.seen).insert(record, version);
    }

    /// The version of a record that a steady reader has received.
    pub fn seen(&self, record: Uuid) -> i64 {
        lock(&self.seen).get(&record).copied().unwrap_or(0)
    }

    pub fn problem(&self, what: String) {
        lock(&self.problems).push(what);
    }

    pub fn problems(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.problems))
    }

    pub fn count(&self, what: &str) {
        *lock(&self.counts).entry(what.to_owned()).or_default() += 1;
    }

    pub fn counted(&self, what: &str) -> usize {
        lock(&self.counts).get(what).copied().unwrap_or(0)
    }

    pub fn counts(&self) -> BTreeMap<String, usize> {
        lock(&self.counts).clone()
    }

    /// Counts an error of an outage. Any other is a problem.
    pub fn outage(&self, who: &str, status: &Status) {
        let reason = reason_or_code(status);
        match OUTAGE.contains(&reason.as_str()) {
            true => self.count("calls and streams that an outage ended"),
            false => self.problem(format!("{who} failed with {reason}: {}", status.message())),
        }
    }
}

pub fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

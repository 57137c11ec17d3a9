//! Combines concurrent lookups of single records into one query.
//!
//! A database answers one query for 64 records much faster than 64 queries for one record each. If
//! no query is running, a lookup starts one immediately, so a lookup on an idle server does not
//! wait. Lookups that arrive while queries are running are collected for the next one. A lookup is
//! only answered by a query that starts after it was requested, so a caller reads its own writes.
//!
//! The loader knows nothing of the records: the feature supplies the query. It is written by hand
//! because no library that the project uses batches lookups.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Db;
use super::reader::Reader;
use crate::error::{Error, Result};
use crate::telemetry::traces::{Caller, Span};

/// The maximum number of ids in one query.
pub const MAX_BATCH: usize = 64;
/// The maximum number of queries of a loader that run at the same time. While one runs, the batch of
/// the next one fills.
const WORKERS: usize = 2;

/// Loads many records by their ids.
pub type LoadFn<V> = fn(Reader, Vec<Uuid>) -> BoxFuture<'static, Result<HashMap<Uuid, V>>>;

/// Loads records of one type.
pub struct BatchLoader<V> {
    load: LoadFn<V>,
    max_workers: usize,
    queue: Arc<Mutex<Queue<V>>>,
}

impl<V> std::fmt::Debug for BatchLoader<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BatchLoader")
    }
}

struct Request<V> {
    id: Uuid,
    caller: Caller,
    reply: oneshot::Sender<Result<Option<V>>>,
}

/// Its length is bounded by the limit on concurrent calls.
struct Queue<V> {
    waiting: Vec<Request<V>>,
    workers: usize,
}

impl<V: Clone + Send + 'static> BatchLoader<V> {
    /// A loader that runs `load` for each batch.
    pub fn new(load: LoadFn<V>) -> Self {
        let queue = Queue {
            waiting: Vec::new(),
            workers: 0,
        };
        Self {
            load,
            max_workers: WORKERS,
            queue: Arc::new(Mutex::new(queue)),
        }
    }

    /// The same with one query at a time: it takes no second connection from more frequent lookups.
    #[must_use]
    pub fn one_at_a_time(self) -> Self {
        Self {
            max_workers: 1,
            ..self
        }
    }

    /// The current record with this id.
    ///
    /// # Errors
    /// The error of the query; `INTERNAL` when it panicked.
    pub async fn get(&self, db: &Db, id: Uuid) -> Result<Option<V>> {
        let (reply, response) = oneshot::channel();
        let is_needed = {
            let mut queue = lock(&self.queue);
            let caller = Caller::current();
            queue.waiting.push(Request { id, caller, reply });
            let is_needed = queue.workers < self.max_workers;
            queue.workers += usize::from(is_needed);
            is_needed
        };
        if is_needed {
            let worker = Worker {
                db: db.clone(),
                load: self.load,
                queue: Arc::clone(&self.queue),
                is_counted: true,
            };
            // In a task of its own: this caller may disconnect while the others still wait.
            tokio::spawn(worker.run());
        }
        response.await.map_err(Error::internal)?
    }
}

/// A worker of a loader. It is counted until it is dropped, however its task ends.
struct Worker<V: Clone + Send + 'static> {
    db: Db,
    load: LoadFn<V>,
    queue: Arc<Mutex<Queue<V>>>,
    is_counted: bool,
}

impl<V: Clone + Send + 'static> Worker<V> {
    async fn run(mut self) {
        while let Some(mut requests) = self.next() {
            requests.sort_unstable_by_key(|request| request.id);
            let mut ids: Vec<Uuid> = requests.iter().map(|request| request.id).collect();
            ids.dedup();
            let span = Span::shared("look-up", requests.iter().map(|request| &request.caller));
            // On a panic the reply channels are dropped, which their callers receive as an error.
            let load = (self.load)(self.db.read().clone(), ids);
            let found = span.run(load).await;
            for request in &requests {
                request.caller.is_served(&span);
            }
            send_replies(requests, found);
        }
    }

    /// The next batch. If there is none, the worker stops counting as running. Both happen under
    /// one lock, so the next request starts a new worker.
    fn next(&mut self) -> Option<Vec<Request<V>>> {
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() {
            queue.workers -= 1;
            self.is_counted = false;
            return None;
        }
        let rest = queue.waiting.len().min(MAX_BATCH);
        let rest = queue.waiting.split_off(rest);
        Some(mem::replace(&mut queue.waiting, rest))
    }
}

impl<V: Clone + Send + 'static> Drop for Worker<V> {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let mut queue = lock(&self.queue);
        if !std::thread::panicking() || queue.waiting.is_empty() {
            queue.workers -= 1;
            return;
        }
        drop(queue);
        // A replacement worker serves the waiting requests. They must not wait until the next
        // request arrives.
        let successor = Self {
            db: self.db.clone(),
            load: self.load,
            queue: Arc::clone(&self.queue),
            is_counted: true,
        };
        tokio::spawn(successor.run());
    }
}

fn send_replies<V: Clone>(requests: Vec<Request<V>>, found: Result<HashMap<Uuid, V>>) {
    match found {
        Ok(mut found) => {
            let mut requests = requests.into_iter().peekable();
            while let Some(Request { id, reply, .. }) = requests.next() {
                // The last request for an id gets the record itself, the others get a clone.
                let record = match requests.peek() {
                    Some(next) if next.id == id => found.get(&id).cloned(),
                    _ => found.remove(&id),
                };
                // Sending fails when the caller has disconnected.
                let _ = reply.send(Ok(record));
            }
        }
        Err(error) => {
            for request in requests {
                let _ = request.reply.send(Err(error.clone()));
            }
        }
    }
}

fn lock<V>(queue: &Mutex<Queue<V>>) -> std::sync::MutexGuard<'_, Queue<V>> {
    queue
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

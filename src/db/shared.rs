//! Callers who each want one record by its id share a query.
//!
//! A database answers one question about 64 records much faster than 64 questions about one. Who
//! finds nobody asking asks at once, alone, so that nothing waits when little is going on; who
//! comes meanwhile is asked for together with all the others who did. A question is only ever
//! answered by a query that begins after it was put, so that callers see what they wrote.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Db;
use super::reader::Reader;
use crate::error::{Error, Result};

/// How many questions one query answers.
pub const TOGETHER: usize = 64;
/// How many queries are under way at once: while one is answered, the next fills.
const WORKERS: usize = 2;

/// Looks many records up by their ids.
pub type Look<V> = fn(Reader, Vec<Uuid>) -> BoxFuture<'static, Result<HashMap<Uuid, V>>>;

/// Looks records of one kind up.
pub struct Shared<V> {
    look: Look<V>,
    questions: Arc<Mutex<Questions<V>>>,
}

impl<V> std::fmt::Debug for Shared<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

type Question<V> = (Uuid, oneshot::Sender<Result<Option<V>>>);

/// Bounded by the number of calls worked on at once.
struct Questions<V> {
    waiting: Vec<Question<V>>,
    workers: usize,
}

impl<V: Clone + Send + 'static> Shared<V> {
    /// Looks up by `look`.
    pub fn new(look: Look<V>) -> Self {
        let questions = Questions {
            waiting: Vec::new(),
            workers: 0,
        };
        Self {
            look,
            questions: Arc::new(Mutex::new(questions)),
        }
    }

    /// The record with this id, as it is now.
    ///
    /// # Errors
    /// What the look-up fails with; [`Error::Internal`] when it panicked.
    pub async fn get(&self, db: &Db, id: Uuid) -> Result<Option<V>> {
        let (answer, answered) = oneshot::channel();
        let is_needed = {
            let mut questions = lock(&self.questions);
            questions.waiting.push((id, answer));
            let is_needed = questions.workers < WORKERS;
            questions.workers += usize::from(is_needed);
            is_needed
        };
        if is_needed {
            let worker = Worker {
                db: db.clone(),
                look: self.look,
                questions: Arc::clone(&self.questions),
                is_counted: true,
            };
            // In a task of its own: this caller may disconnect, the others want their answers.
            tokio::spawn(worker.run());
        }
        answered.await.map_err(Error::internal)?
    }
}

/// One of the [`WORKERS`], counted for as long as it exists, however its task ends.
struct Worker<V: Clone + Send + 'static> {
    db: Db,
    look: Look<V>,
    questions: Arc<Mutex<Questions<V>>>,
    is_counted: bool,
}

impl<V: Clone + Send + 'static> Worker<V> {
    async fn run(mut self) {
        while let Some(mut asked) = self.next() {
            asked.sort_unstable_by_key(|(id, _)| *id);
            let mut ids: Vec<Uuid> = asked.iter().map(|(id, _)| *id).collect();
            ids.dedup();
            // A panic in there is answered by the senders that are dropped with it.
            let found = (self.look)(self.db.read().clone(), ids).await;
            answer(asked, found);
        }
    }

    /// The next questions; without any the worker counts no more. Under one lock, so that who asks
    /// next starts another.
    fn next(&mut self) -> Option<Vec<Question<V>>> {
        let mut questions = lock(&self.questions);
        if questions.waiting.is_empty() {
            questions.workers -= 1;
            self.is_counted = false;
            return None;
        }
        let rest = questions.waiting.len().min(TOGETHER);
        let rest = questions.waiting.split_off(rest);
        Some(mem::replace(&mut questions.waiting, rest))
    }
}

impl<V: Clone + Send + 'static> Drop for Worker<V> {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let mut questions = lock(&self.questions);
        if !std::thread::panicking() || questions.waiting.is_empty() {
            questions.workers -= 1;
            return;
        }
        drop(questions);
        // Another takes its place: those who wait must not wait for the next who asks.
        let successor = Self {
            db: self.db.clone(),
            look: self.look,
            questions: Arc::clone(&self.questions),
            is_counted: true,
        };
        tokio::spawn(successor.run());
    }
}

fn answer<V: Clone>(asked: Vec<Question<V>>, found: Result<HashMap<Uuid, V>>) {
    match found {
        Ok(mut found) => {
            let mut asked = asked.into_iter().peekable();
            while let Some((id, answer)) = asked.next() {
                // The last who asks gets the record itself.
                let record = match asked.peek() {
                    Some((next, _)) if *next == id => found.get(&id).cloned(),
                    _ => found.remove(&id),
                };
                // A client that disconnected is not told.
                let _ = answer.send(Ok(record));
            }
        }
        Err(error) => {
            for (_, answer) in asked {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

fn lock<V>(questions: &Mutex<Questions<V>>) -> std::sync::MutexGuard<'_, Questions<V>> {
    questions.lock().unwrap_or_else(|held| held.into_inner())
}

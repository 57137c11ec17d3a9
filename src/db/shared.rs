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
use sea_orm::DatabaseConnection;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Db;
use crate::error::{Error, Result};

/// How many questions one query answers.
pub const TOGETHER: usize = 64;
/// How many queries are under way at once: while one is answered, the next fills.
const ASKERS: usize = 2;

/// Looks many records up by their ids.
pub type Look<V> =
    fn(DatabaseConnection, Vec<Uuid>) -> BoxFuture<'static, Result<HashMap<Uuid, V>>>;

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

/// Bounded by the number of calls worked on at once.
struct Questions<V> {
    waiting: Vec<(Uuid, oneshot::Sender<Result<Option<V>>>)>,
    askers: usize,
}

impl<V: Clone + Send + 'static> Shared<V> {
    /// Looks up by `look`.
    pub fn new(look: Look<V>) -> Self {
        let questions = Questions {
            waiting: Vec::new(),
            askers: 0,
        };
        Self {
            look,
            questions: Arc::new(Mutex::new(questions)),
        }
    }

    /// The record with this id, as it is now.
    pub async fn get(&self, db: &Db, id: Uuid) -> Result<Option<V>> {
        let (answer, answered) = oneshot::channel();
        let asks = {
            let mut questions = lock(&self.questions);
            questions.waiting.push((id, answer));
            let asks = questions.askers < ASKERS;
            questions.askers += usize::from(asks);
            asks
        };
        if asks {
            // In a task of its own: this caller may hang up, the others want their answers.
            tokio::spawn(ask(db.clone(), self.look, Arc::clone(&self.questions)));
        }
        answered.await.map_err(Error::internal)?
    }
}

async fn ask<V: Clone + Send + 'static>(
    db: Db,
    look: Look<V>,
    questions: Arc<Mutex<Questions<V>>>,
) {
    loop {
        let mut asked = {
            let mut questions = lock(&questions);
            if questions.waiting.is_empty() {
                questions.askers -= 1;
                return;
            }
            let rest = questions.waiting.len().min(TOGETHER);
            let rest = questions.waiting.split_off(rest);
            mem::replace(&mut questions.waiting, rest)
        };
        asked.sort_unstable_by_key(|(id, _)| *id);
        let mut ids: Vec<Uuid> = asked.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        // A panic in there is answered too: by the senders that are dropped with it.
        match look(db.read().clone(), ids).await {
            Ok(mut found) => {
                let mut asked = asked.into_iter().peekable();
                while let Some((id, answer)) = asked.next() {
                    // The last who asks gets the record itself.
                    let record = match asked.peek() {
                        Some((next, _)) if *next == id => found.get(&id).cloned(),
                        _ => found.remove(&id),
                    };
                    // Who hung up is not told.
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
}

fn lock<V>(questions: &Mutex<Questions<V>>) -> std::sync::MutexGuard<'_, Questions<V>> {
    questions.lock().unwrap_or_else(|held| held.into_inner())
}

//! Group commit: the only way in which an RPC makes a change.

use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::idempotency::{self, InFlight};
use super::pending::{Codec, Observer, Pending};
use super::queue::Queue;
use super::{Kind, Mutation};
use crate::config::Limits;
use crate::core::call::Call;
use crate::core::call_notes::Effect;
use crate::db::Db;
use crate::error::{Error, Result};

/// Commits the changes of many callers in one transaction.
#[derive(Clone)]
pub struct GroupCommit {
    db: Db,
    queue: Queue,
    in_flight: InFlight,
    kinds: &'static [Kind],
    observer: Option<Observer>,
}

impl GroupCommit {
    /// Commits changes of these kinds of records, which are listed in lock order.
    pub fn new(db: &Db, limits: &Limits, kinds: &'static [Kind]) -> Self {
        Self {
            db: db.clone(),
            queue: Queue::new(db, limits, kinds),
            in_flight: InFlight::default(),
            kinds,
            observer: None,
        }
    }

    /// Calls `observer` with the name and id of each record that this server has changed: after the commit, before the
    /// caller gets the response, and also if the caller has disconnected. A change whose commit failed, or is in doubt,
    /// is reported too. The observer must not wait.
    #[must_use]
    pub fn observed_by(
        self,
        observer: impl Fn(&'static str, Uuid) + Send + Sync + 'static,
    ) -> Self {
        Self {
            observer: Some(Arc::new(observer)),
            ..self
        }
    }

    /// Makes a change and stores its response under the call's request id. A retry gets the stored
    /// response, and its decision does not run. If the caller disconnects, the change is still made, unless
    /// no batch has taken it yet. Returns `None` if the change must be prepared again.
    ///
    /// # Errors
    /// The error of the decision; `REQUEST_IN_FLIGHT`, `REQUEST_ID_REUSED`, `SERVER_OVERLOADED`,
    /// `DATABASE_UNAVAILABLE`, `WRITE_CONFLICT`.
    pub async fn run<T, R>(
        &self,
        call: Call,
        mutation: Mutation<T>,
        render: impl Fn(T) -> R + Send + 'static,
    ) -> Result<Option<R>>
    where
        T: 'static,
        R: Message + Default + 'static,
    {
        let codec = Codec {
            encode: R::encode_to_vec,
            decode: |bytes| R::decode(bytes).map_err(Error::internal),
        };
        self.enqueue(call, mutation, render, codec).await
    }

    /// Makes a change without storing its response, and returns its outcome; `None` if the change must be
    /// prepared again.
    ///
    /// # Errors
    /// See [`GroupCommit::run`].
    pub async fn run_once<T: Send + 'static>(
        &self,
        call: Call,
        mutation: Mutation<T>,
    ) -> Result<Option<T>> {
        let call = Call {
            request_key: None,
            ..call
        };
        let codec = Codec {
            encode: |_| Vec::new(),
            decode: |_| Err(Error::internal("a response was kept without a request id")),
        };
        self.enqueue(call, mutation, |outcome| outcome, codec).await
    }

    async fn enqueue<T, R>(
        &self,
        call: Call,
        mutation: Mutation<T>,
        render: impl Fn(T) -> R + Send + 'static,
        codec: Codec<R>,
    ) -> Result<Option<R>>
    where
        T: 'static,
        R: Send + 'static,
    {
        for (kind, id) in mutation.locks.named() {
            call.notes.about(kind, id);
        }
        let in_flight_guard = self.in_flight.enter(&call)?;
        let (caller, response) = oneshot::channel();
        let now = Instant::now();
        let started = now.checked_sub(call.waited).unwrap_or(now);
        let pending = Pending::new(
            call,
            mutation,
            render,
            codec,
            caller,
            started,
            in_flight_guard,
        )
        .observed_by(self.observer.clone());
        self.queue.run(&self.db, Box::new(pending), response).await
    }

    /// Returns the response stored under a call's request id, if there is one.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` if it was used for another request; `LEAD_ERASED` if the response was erased.
    pub async fn replay<R: Message + Default>(&self, call: &Call) -> Result<Option<R>> {
        let stored = idempotency::replay(&self.db, self.kinds, call).await?;
        if stored.is_some() {
            call.notes.effect(Effect::Replayed);
        }
        Ok(stored)
    }
}

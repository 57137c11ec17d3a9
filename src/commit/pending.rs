//! A change and its caller, from the request until the response is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::Change;
use super::idempotency::{InFlightGuard, StoredResponse};
use super::lock_set::LockSet;
use super::snapshot::Snapshot;
use super::unit_of_work::{Decision, Mutation, UnitOfWork, WriteSet};
use crate::core::call::Call;
use crate::core::call_notes::Effect;
use crate::core::clock::Clock;
use crate::core::text_enum::TextEnum as _;
use crate::error::{Error, Result};

/// A [`Pending`] of any outcome type.
pub(super) trait AnyPending: Send {
    fn call(&self) -> &Call;
    fn locks(&self) -> &LockSet;
    /// Runs the decision and keeps the reply until [`AnyPending::send`].
    fn decide(&mut self, snapshot: &Snapshot, clock: &Clock) -> Decided;
    /// Uses a stored response as the reply.
    fn replay(&mut self, stored: StoredResponse);
    /// Uses an error as the reply.
    fn fail(&mut self, error: Error);
    /// Whether the caller is still connected.
    fn is_awaited(&self) -> bool;
    /// How long the caller has waited.
    fn waited(&self) -> Duration;
    /// Sends the reply to the caller.
    fn send(&mut self);
}

/// The result of a decision.
pub(super) enum Decided {
    /// Write the changes. The response is stored under the request id, if there is one.
    Accepted(WriteSet, Option<ReplyToStore>),
    /// Write only the record of the refusal.
    Refused(WriteSet),
    /// Write nothing.
    Nothing {
        /// Whether the decision failed.
        failed: bool,
    },
}

/// A response to store.
pub(super) struct ReplyToStore {
    pub root_id: Uuid,
    /// Further roots that it is about.
    pub more_roots: Vec<Uuid>,
    pub response: Vec<u8>,
}

/// A reply, or `None` if the change must be prepared again.
type Reply<R> = Result<Option<R>>;

/// How responses are encoded for storage.
pub(super) struct Codec<R> {
    pub encode: fn(&R) -> Vec<u8>,
    pub decode: fn(&[u8]) -> Result<R>,
}

/// What is called with each record that a change has changed, by its name and id.
pub(super) type Observer = Arc<dyn Fn(&'static str, Uuid) + Send + Sync>;

/// A change and the caller that waits for it.
pub(super) struct Pending<T, R, F> {
    call: Call,
    mutation: Mutation<T>,
    render: F,
    codec: Codec<R>,
    reply: Option<Reply<R>>,
    effect: Effect,
    /// The records that the change changes, once it is decided.
    changed: Vec<(&'static str, Uuid)>,
    caller: Option<oneshot::Sender<Reply<R>>>,
    started: Instant,
    in_flight_guard: Option<InFlightGuard>,
    observer: Option<Observer>,
}

impl<T, R, F> Pending<T, R, F> {
    pub fn new(
        call: Call,
        mutation: Mutation<T>,
        render: F,
        codec: Codec<R>,
        caller: oneshot::Sender<Reply<R>>,
        started: Instant,
        in_flight_guard: Option<InFlightGuard>,
    ) -> Self {
        Self {
            call,
            mutation,
            render,
            codec,
            reply: None,
            effect: Effect::None,
            changed: Vec::new(),
            caller: Some(caller),
            started,
            in_flight_guard,
            observer: None,
        }
    }

    /// Calls `observer` with each changed record.
    pub fn observed_by(self, observer: Option<Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Notes what the change did, for the line of its call in the log. If the call has ended already, because its
    /// client disconnected or its deadline passed, the change gets a line of its own.
    fn note_effect(&self) {
        let notes = &self.call.notes;
        if self.effect != Effect::Changed {
            return notes.effect(self.effect);
        }
        if let Some(late) = notes.changed(self.changed.iter().copied()) {
            let principal = &self.call.principal;
            tracing::info!(
                rpc = self.call.rpc,
                principal_kind = principal.kind.as_str(),
                principal_id = %principal.id,
                principal = principal.name,
                peer = notes.peer().map(display),
                request_id = late.request_id.map(display),
                trace_id = notes.trace_id().map(display),
                effect = late.effect.as_str(),
                records = %late.records,
                "change committed after its call ended"
            );
        }
    }
}

impl<T, R, F> AnyPending for Pending<T, R, F>
where
    R: Send,
    F: Fn(T) -> R + Send,
{
    fn call(&self) -> &Call {
        &self.call
    }

    fn locks(&self) -> &LockSet {
        &self.mutation.locks
    }

    fn decide(&mut self, snapshot: &Snapshot, clock: &Clock) -> Decided {
        (self.effect, self.changed) = (Effect::None, Vec::new());
        let mut unit = UnitOfWork::new(&self.call, clock, snapshot);
        let decision = (self.mutation.decide)(&mut unit);
        let writes = unit.writes;
        match decision {
            Ok(Decision::Commit(outcome)) => {
                let root_id = (self.mutation.root)(&outcome);
                let more_roots = (self.mutation.more_roots)(&outcome);
                let response = (self.render)(outcome);
                let stored = self.call.request_key.map(|_| ReplyToStore {
                    root_id,
                    more_roots,
                    response: (self.codec.encode)(&response),
                });
                self.reply = Some(Ok(Some(response)));
                // An update that changes no value writes nothing.
                if !writes.changes.is_empty() {
                    self.effect = Effect::Changed;
                    self.changed = writes.changes.iter().map(Change::record).collect();
                }
                Decided::Accepted(writes, stored)
            }
            Ok(Decision::Refuse(error)) => {
                self.reply = Some(Err(error));
                Decided::Refused(writes)
            }
            Ok(Decision::Preview(outcome)) => {
                self.reply = Some(Ok(Some((self.render)(outcome))));
                self.effect = Effect::Validated;
                Decided::Nothing { failed: false }
            }
            Ok(Decision::Stale) => {
                self.reply = Some(Ok(None));
                Decided::Nothing { failed: false }
            }
            Err(error) => {
                self.reply = Some(Err(error));
                Decided::Nothing { failed: true }
            }
        }
    }

    fn replay(&mut self, stored: StoredResponse) {
        self.reply = Some(stored.response(&self.call, self.codec.decode));
        self.effect = Effect::Replayed;
    }

    fn fail(&mut self, error: Error) {
        self.reply = Some(Err(error));
    }

    fn is_awaited(&self) -> bool {
        let caller = self.caller.as_ref();
        caller.is_some_and(|caller| !caller.is_closed())
    }

    fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    fn send(&mut self) {
        // Before the reply is sent: the caller may retry, or use what it changed, as soon as it has the reply.
        self.in_flight_guard = None;
        if let Some(observer) = &self.observer {
            // Also after an error: the change may be committed all the same.
            for &(kind, id) in &self.changed {
                observer(kind, id);
            }
        }
        if matches!(self.reply, Some(Ok(Some(_)))) {
            self.note_effect();
        }
        if let (Some(caller), Some(reply)) = (self.caller.take(), self.reply.take()) {
            // The send fails if the caller has disconnected.
            let _ = caller.send(reply);
        }
    }
}

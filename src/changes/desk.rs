//! What every room works with, and the one way an RPC makes a change.

use std::time::{Duration, Instant};

use prost::Message;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::batch::{Decided, Job};
use super::draft::{Draft, Needs, Records};
use super::idempotency::{InFlight, Kept, Working};
use super::queue::Queue;
use crate::auth::Call;
use crate::auth::attempts::Turns;
use crate::auth::known::Known;
use crate::auth::passwords::Passwords;
use crate::clock::Clock;
use crate::db::shared::Shared;
use crate::db::{Db, Verdict};
use crate::error::{Error, Result};
use crate::leads::model::Lead;
use crate::wire::page::PageTokens;

/// What every room works with.
#[derive(Debug)]
pub struct Desk {
    /// The database.
    pub db: Db,
    /// Time and ids.
    pub clock: Clock,
    /// Verifies passwords.
    pub passwords: Passwords,
    /// Makes attempts at one password take their turns.
    pub turns: Turns,
    /// Who called lately.
    pub known: Known,
    /// Seals and opens page tokens.
    pub page_tokens: PageTokens,
    /// The request ids being worked on.
    pub in_flight: InFlight,
    /// Looks leads up by their ids.
    pub leads: Shared<Lead>,
    /// Changes that wait for their turn.
    pub queue: Queue,
}

/// How a change is answered: made from the outcome inside the transaction, because it is kept there
/// for repeats of the call.
pub struct Answering<T, R> {
    /// Makes the answer.
    pub render: fn(T) -> R,
    /// The lead the change belongs to.
    pub lead: fn(&T) -> Uuid,
}

impl Desk {
    /// Makes a change: `decide` is given what the change `needs` and notes what is to be written,
    /// and its answer is kept under the call's request id. A repeat gets the kept answer and nothing
    /// is decided. The change comes about even if the caller stops waiting, unless that was before
    /// its turn.
    ///
    /// `decide` may be asked several times; only the last time counts.
    ///
    /// # Errors
    /// What `decide` answers; [`Error::RequestInFlight`], [`Error::RequestIdReused`],
    /// [`Error::ServerOverloaded`], [`Error::DatabaseUnavailable`].
    pub async fn change<T, R, F>(
        &self,
        call: Call,
        needs: Needs,
        answering: Answering<T, R>,
        decide: F,
    ) -> Result<R>
    where
        T: 'static,
        R: Message + Default + 'static,
        F: Fn(&mut Draft<'_>) -> Result<Verdict<T>> + Send + 'static,
    {
        let working = self.in_flight.enter(&call)?;
        let (caller, answered) = oneshot::channel();
        let now = Instant::now();
        let waiting = Waiting {
            since: now.checked_sub(call.waited).unwrap_or(now),
            call,
            needs,
            answering,
            decide,
            answer: None,
            caller: Some(caller),
            working,
        };
        self.queue.make(&self.db, Box::new(waiting), answered).await
    }
}

/// A change and who waits for it.
struct Waiting<T, R, F> {
    call: Call,
    needs: Needs,
    answering: Answering<T, R>,
    decide: F,
    answer: Option<Result<R>>,
    caller: Option<oneshot::Sender<Result<R>>>,
    since: Instant,
    working: Option<Working>,
}

impl<T, R, F> Job for Waiting<T, R, F>
where
    R: Message + Default,
    F: Fn(&mut Draft<'_>) -> Result<Verdict<T>> + Send,
{
    fn call(&self) -> &Call {
        &self.call
    }

    fn needs(&self) -> &Needs {
        &self.needs
    }

    fn decide(&mut self, records: &Records, clock: &Clock) -> Option<Decided> {
        let mut draft = Draft::new(&self.call, clock, records);
        let decided = (self.decide)(&mut draft);
        let writes = draft.writes;
        match decided {
            Ok(Verdict::Done(outcome)) => {
                let lead = (self.answering.lead)(&outcome);
                let response = (self.answering.render)(outcome);
                let kept = self.call.key.map(|_| (lead, response.encode_to_vec()));
                self.answer = Some(Ok(response));
                Some(Decided { writes, kept })
            }
            Ok(Verdict::Refused(error)) => {
                self.answer = Some(Err(error));
                Some(Decided { writes, kept: None })
            }
            Ok(Verdict::Checked(outcome)) => {
                self.answer = Some(Ok((self.answering.render)(outcome)));
                None
            }
            Err(error) => {
                self.answer = Some(Err(error));
                None
            }
        }
    }

    fn replay(&mut self, kept: Kept) {
        self.answer = kept.answer(&self.call).transpose();
    }

    fn fail(&mut self, error: Error) {
        self.answer = Some(Err(error));
    }

    fn forget(&mut self) {
        self.answer = None;
    }

    fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    fn is_refused(&self) -> bool {
        matches!(self.answer, Some(Err(_)))
    }

    fn is_awaited(&self) -> bool {
        self.caller
            .as_ref()
            .is_some_and(|caller| !caller.is_closed())
    }

    fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    fn send(&mut self) {
        // Before its caller can repeat it.
        self.working = None;
        if let (Some(caller), Some(answer)) = (self.caller.take(), self.answer.take()) {
            // Who hung up is not told.
            let _ = caller.send(answer);
        }
    }
}

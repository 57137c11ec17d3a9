//! What every room works with, and the one way an RPC makes a change.

use futures_util::future::BoxFuture;
use prost::Message;
use uuid::Uuid;

use super::idempotency::{self, InFlight};
use crate::auth::Call;
use crate::auth::attempts::Turns;
use crate::auth::passwords::Passwords;
use crate::clock::Clock;
use crate::db::{Db, Tx, Verdict};
use crate::error::Result;
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
    /// Seals and opens page tokens.
    pub page_tokens: PageTokens,
    /// The request ids being worked on.
    pub in_flight: InFlight,
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
    /// Makes a change: `work` decides and writes, and its answer is kept under the call's request
    /// id. A repeat gets the kept answer and `work` does not run.
    ///
    /// # Errors
    /// What `work` answers; [`crate::error::Error::RequestInFlight`],
    /// [`crate::error::Error::RequestIdReused`].
    pub async fn change<T, R, F>(
        &self,
        call: Call,
        answering: Answering<T, R>,
        work: F,
    ) -> Result<R>
    where
        T: Send + 'static,
        R: Message + Default + 'static,
        F: for<'a> FnOnce(&'a Tx, &'a Call) -> BoxFuture<'a, Result<Verdict<T>>> + Send + 'static,
    {
        let working = self.in_flight.enter(&call)?;
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let _working = working;
                    idempotency::claim(tx, &call).await?;
                    if let Some(kept) = idempotency::replay(&**tx, &call).await? {
                        return Ok(Verdict::Checked(kept));
                    }
                    Ok(match work(tx, &call).await? {
                        Verdict::Done(outcome) => {
                            let lead = (answering.lead)(&outcome);
                            let response = (answering.render)(outcome);
                            idempotency::keep(tx, &call, Some(lead), &response).await?;
                            Verdict::Done(response)
                        }
                        Verdict::Checked(outcome) => Verdict::Checked((answering.render)(outcome)),
                        Verdict::Refused(error) => Verdict::Refused(error),
                    })
                })
            })
            .await
    }
}

//! Operators and service accounts as the command line knows them: by their names, with errors as sentences. Every
//! change is made by the use cases of the RPCs, and stands in the history with the user of the operating system.
//!
//! It must not parse arguments or print, so that the demo and the tests can use it.

mod operators;
mod service_accounts;

use std::sync::Arc;

use uuid::Uuid;

use super::process;
use crate::auth::Auth;
use crate::auth::passwords::Passwords;
use crate::commit::{GroupCommit, Mutation};
use crate::config::{Limits, StartupError};
use crate::core::call::Call;
use crate::core::clock::Clock;
use crate::core::page::PageInput;
use crate::db::Db;
use crate::error::{Error, Result as CallResult};
use crate::features::RECORDS;
use crate::features::operators::Operators;
use crate::features::service_accounts::ServiceAccounts;

/// How often a change is prepared if its records change concurrently.
const MAX_ATTEMPTS: usize = 3;
/// The number of records that are read at once.
const PAGE: u64 = 1_000;

type Result<T> = std::result::Result<T, StartupError>;

/// Makes changes as the user who runs the command.
pub struct Console {
    auth: Arc<Auth>,
    commit: GroupCommit,
    operators: Operators,
    accounts: ServiceAccounts,
    user: String,
}

impl Console {
    /// Makes changes in this database.
    pub fn new(db: &Db, passwords: Passwords) -> Self {
        let clock = Clock::default();
        let auth = Arc::new(Auth::new(db.clone(), clock, passwords));
        Self {
            commit: GroupCommit::new(db, &Limits::default(), RECORDS),
            operators: Operators::new(Arc::clone(&auth)),
            accounts: ServiceAccounts::new(Arc::clone(&auth)),
            auth,
            user: process::user(),
        }
    }

    /// Makes a change as a command.
    async fn apply<T, P>(&self, command: &'static str, prepare: impl Fn() -> P) -> Result<T>
    where
        T: Send + 'static,
        P: Future<Output = CallResult<Mutation<T>>>,
    {
        for _ in 0..MAX_ATTEMPTS {
            let call = Call::of_command(command, &self.user);
            if let Some(outcome) = self.commit.run_once(call, prepare().await?).await? {
                return Ok(outcome);
            }
        }
        Err(Error::write_conflict().into())
    }
}

fn page(after: Option<Uuid>) -> PageInput<Uuid> {
    PageInput {
        principal: Uuid::nil(),
        after,
        limit: PAGE,
    }
}

/// A change that needs no preparation.
async fn done<T>(mutation: Mutation<T>) -> CallResult<Mutation<T>> {
    Ok(mutation)
}

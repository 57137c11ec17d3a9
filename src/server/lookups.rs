//! Looks up credentials that the identity cache does not have. All calls with one token wait for one
//! query.
//!
//! To send tokens that are not valid costs nothing, so the queries for tokens that were never found valid are
//! limited: by address, in number at once, and by a memory of the tokens that were refused. A token whose
//! cached identity has only become too old does not wait behind them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::auth::known::Asked;
use crate::auth::tokens::TokenHash;
use crate::auth::{self, Credential, Identity};
use crate::changes::desk::Desk;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::keyed::{KeyedSemaphore, Ticket};

/// For how long a refused token is refused without a query, counted from before the query. A
/// credential that becomes valid after it was tried is taken by every server within this time; a new
/// token, which nobody has tried, at once.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How many refused tokens are remembered; those least used are dropped.
const TOKENS: usize = 10_000;
/// How many queries of one address may run at once.
const OF_ONE_ADDRESS: usize = 2;

/// Held while an unverified token is looked up.
struct Permits<'a> {
    _ticket: Ticket<IpAddr>,
    _query: SemaphorePermit<'a>,
}

type Lookup = Shared<BoxFuture<'static, Result<Identity>>>;

/// Looks up credentials.
pub struct Lookups {
    refused: Cache<TokenHash, Instant>,
    /// Calls with one token wait for one query, unless it may have been revoked since the query began.
    under_way: Mutex<HashMap<TokenHash, (Asked, Lookup)>>,
    /// By address: a queue of unverified tokens to look up.
    addresses: Arc<KeyedSemaphore<IpAddr>>,
    /// Queries for unverified tokens at once.
    queries: Semaphore,
    /// Calls with unverified tokens at once, those that wait included.
    calls: Semaphore,
    max_calls: usize,
    /// How long a call may wait for its query and the query's result.
    patience: Duration,
}

impl Lookups {
    pub fn new(limits: &Limits, queries: usize) -> Arc<Self> {
        Arc::new(Self {
            refused: Cache::new(TOKENS),
            under_way: Mutex::default(),
            addresses: KeyedSemaphore::new(OF_ONE_ADDRESS, limits.max_calls.div_ceil(4)),
            queries: Semaphore::new(queries),
            calls: Semaphore::new(limits.max_calls),
            max_calls: limits.max_calls,
            patience: limits.connection_wait / 2,
        })
    }

    /// Calls with unverified tokens that wait now.
    pub fn waiting(&self) -> usize {
        self.max_calls - self.calls.available_permits()
    }

    /// Finds out whose a credential is that was valid when it was last looked up.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`]; [`Error::DatabaseUnavailable`].
    pub async fn identify_again(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        credential: Credential,
    ) -> Result<Identity> {
        self.lookup(desk, None, credential)?.await
    }

    /// Finds out whose an unverified credential is, which a caller at `address` sent.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`]; [`Error::ServerOverloaded`] when too many of this address wait
    /// already, or the query did not begin in time; [`Error::DatabaseUnavailable`].
    pub async fn identify(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        address: IpAddr,
        credential: Credential,
    ) -> Result<Identity> {
        let refused = self.refused.get(credential.hash());
        if refused.is_some_and(|asked| asked.elapsed() < REMEMBERED) {
            return Err(Error::TokenInvalid);
        }
        let call = self.calls.try_acquire();
        let _call = call.map_err(|_| Error::ServerOverloaded)?;
        self.lookup(desk, Some(address), credential)?.await
    }

    /// The query for a credential: the one under way, or a new one. An unverified one waits in the queue of
    /// its `address`.
    fn lookup(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        address: Option<IpAddr>,
        credential: Credential,
    ) -> Result<Lookup> {
        let hash = *credential.hash();
        let mut under_way = self.under_way();
        if let Some((asked, lookup)) = under_way.get(&hash)
            && desk.known.is_current(*asked)
        {
            return Ok(lookup.clone());
        }
        let ticket = match address {
            Some(address) => {
                let ticket = self.addresses.enter(address);
                Some(ticket.ok_or(Error::ServerOverloaded)?)
            }
            None => None,
        };
        let asked = desk.known.ask();
        let guard = UnderWay(Arc::clone(self), hash, asked);
        let (found, lookup) = oneshot::channel();
        let lookup = lookup.map(|found| found.map_err(Error::internal)?);
        let lookup = lookup.boxed().shared();
        under_way.insert(hash, (asked, lookup.clone()));
        drop(under_way);
        let desk = Arc::clone(desk);
        // In a task of its own: the caller it began for may disconnect, the others wait for it.
        tokio::spawn(async move {
            let identity = guard.0.query(&desk, ticket, &credential).await;
            // Nobody waits any more where this fails.
            let _ = found.send(identity);
        });
        Ok(lookup)
    }

    async fn query(
        &self,
        desk: &Desk,
        ticket: Option<Ticket<IpAddr>>,
        credential: &Credential,
    ) -> Result<Identity> {
        let last = Instant::now() + self.patience;
        let permits = timeout_at(last, self.permits(ticket)).await;
        let _permits = permits.map_err(|_| Error::ServerOverloaded)??;
        let asked = Instant::now();
        let found = timeout_at(last, auth::look_up(desk, credential)).await;
        let found = found.unwrap_or_else(|_| Err(auth::unanswered()));
        if let Err(Error::TokenInvalid) = found {
            // Only then: each time discards the answers to other questions under way.
            if desk.known.was_good(credential.hash()) {
                desk.known.forget(credential.hash());
            }
            self.refused.insert(*credential.hash(), asked);
        }
        found
    }

    /// Waits for what the query for an unverified token needs.
    async fn permits(&self, ticket: Option<Ticket<IpAddr>>) -> Result<Option<Permits<'_>>> {
        let Some(mut ticket) = ticket else {
            return Ok(None);
        };
        ticket.acquire().await.map_err(Error::internal)?;
        let query = self.queries.acquire().await.map_err(Error::internal)?;
        Ok(Some(Permits {
            _ticket: ticket,
            _query: query,
        }))
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<TokenHash, (Asked, Lookup)>> {
        let under_way = self.under_way.lock();
        under_way.unwrap_or_else(|held| held.into_inner())
    }
}

/// A query, which is under way until this is dropped.
struct UnderWay(Arc<Lookups>, TokenHash, Asked);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.0.under_way();
        // Not one that began after it.
        if under_way
            .get(&self.1)
            .is_some_and(|(asked, _)| *asked == self.2)
        {
            under_way.remove(&self.1);
        }
    }
}

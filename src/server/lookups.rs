//! Looks up credentials that are not in the identity cache. Concurrent calls with the same token share one query.
//!
//! A client can send invalid tokens at no cost. So the queries for tokens that were never found valid are limited: for
//! each address, in the number of concurrent queries, and by remembering the tokens that were rejected. A token whose
//! cached identity has only expired does not wait behind them. The module depends on authentication and on the
//! concurrency limits, and must not know calls or services.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::auth::Auth;
use crate::auth::identity_cache::LookupEpoch;
use crate::auth::{self, Credential, Identity};
use crate::config::Limits;
use crate::core::call::TokenHash;
use crate::core::keyed::{KeyedSemaphore, Ticket};
use crate::error::{Error, ErrorReason, Result};

/// For how long a rejected token is rejected again without a query, counted from before its query. A credential that
/// becomes valid after it was tried is accepted by every server after this time at the latest; a new token, which was
/// never tried, is accepted immediately.
const REJECTION_TTL: Duration = Duration::from_secs(1);
/// How many rejected tokens are remembered. The least used are evicted first.
const MAX_REJECTED_TOKENS: usize = 10_000;
/// How many queries for one address may run concurrently.
const QUERIES_PER_ADDRESS: usize = 2;

/// Held while an unverified token is looked up.
struct Permits<'a> {
    _ticket: Ticket<IpAddr>,
    _query: SemaphorePermit<'a>,
}

type Lookup = Shared<BoxFuture<'static, Result<Identity>>>;

/// The lookups in progress and their limits.
pub struct Lookups {
    /// Rejected tokens and when their query began.
    rejected: Cache<TokenHash, Instant>,
    /// The queries in progress. A call does not join a query when its token may have been revoked since the query
    /// began.
    in_progress: Mutex<HashMap<TokenHash, (LookupEpoch, Lookup)>>,
    /// For each address, a queue of unverified tokens.
    addresses: Arc<KeyedSemaphore<IpAddr>>,
    /// Concurrent queries for unverified tokens.
    queries: Semaphore,
    /// Concurrent calls with unverified tokens, including those that wait.
    calls: Semaphore,
    max_calls: usize,
    /// How long a call may wait for its query to start and to finish.
    max_wait: Duration,
}

impl Lookups {
    pub fn new(limits: &Limits, queries: usize) -> Arc<Self> {
        Arc::new(Self {
            rejected: Cache::new(MAX_REJECTED_TOKENS),
            in_progress: Mutex::default(),
            addresses: KeyedSemaphore::new(QUERIES_PER_ADDRESS, limits.max_calls.div_ceil(4)),
            queries: Semaphore::new(queries),
            calls: Semaphore::new(limits.max_calls),
            max_calls: limits.max_calls,
            max_wait: limits.connection_wait / 2,
        })
    }

    /// The number of calls with unverified tokens that wait.
    pub fn waiting(&self) -> usize {
        self.max_calls - self.calls.available_permits()
    }

    /// Identifies a credential that was valid when it was last looked up.
    ///
    /// # Errors
    /// `TOKEN_INVALID`; `DATABASE_UNAVAILABLE`.
    pub async fn revalidate(
        self: &Arc<Self>,
        auth: &Arc<Auth>,
        credential: Credential,
    ) -> Result<Identity> {
        self.lookup(auth, None, credential)?.await
    }

    /// Identifies an unverified credential that was sent from `address`.
    ///
    /// # Errors
    /// `TOKEN_INVALID`; `SERVER_OVERLOADED` when too many tokens of this address wait already, or the query did not
    /// begin in time; `DATABASE_UNAVAILABLE`.
    pub async fn identify(
        self: &Arc<Self>,
        auth: &Arc<Auth>,
        address: IpAddr,
        credential: Credential,
    ) -> Result<Identity> {
        let rejected = self.rejected.get(credential.hash());
        if rejected.is_some_and(|started| started.elapsed() < REJECTION_TTL) {
            return Err(Error::token_invalid());
        }
        let permit = self.calls.try_acquire();
        let _permit = permit.map_err(|_| Error::server_overloaded())?;
        self.lookup(auth, Some(address), credential)?.await
    }

    /// The query for a credential: the one in progress, or a new one. The query for an unverified credential waits in
    /// the queue of its `address`.
    fn lookup(
        self: &Arc<Self>,
        auth: &Arc<Auth>,
        address: Option<IpAddr>,
        credential: Credential,
    ) -> Result<Lookup> {
        let hash = *credential.hash();
        let mut in_progress = self.in_progress();
        if let Some((epoch, lookup)) = in_progress.get(&hash)
            && auth.identities.is_current(*epoch)
        {
            return Ok(lookup.clone());
        }
        let ticket = match address {
            Some(address) => {
                let ticket = self.addresses.enter(address);
                Some(ticket.ok_or_else(Error::server_overloaded)?)
            }
            None => None,
        };
        let epoch = auth.identities.begin_lookup();
        let guard = InProgress(Arc::clone(self), hash, epoch);
        let (result, lookup) = oneshot::channel();
        let lookup = lookup.map(|result| result.map_err(Error::internal)?);
        let lookup = lookup.boxed().shared();
        in_progress.insert(hash, (epoch, lookup.clone()));
        drop(in_progress);
        let auth = Arc::clone(auth);
        // In a task of its own: the client whose call started it may disconnect while other calls wait for the result.
        tokio::spawn(async move {
            let identity = guard.0.query(&auth, ticket, &credential).await;
            // Sending fails when no call waits any longer.
            let _ = result.send(identity);
        });
        Ok(lookup)
    }

    async fn query(
        &self,
        auth: &Auth,
        ticket: Option<Ticket<IpAddr>>,
        credential: &Credential,
    ) -> Result<Identity> {
        let deadline = Instant::now() + self.max_wait;
        let permits = timeout_at(deadline, self.permits(ticket)).await;
        let _permits = permits.map_err(|_| Error::server_overloaded())??;
        let started = Instant::now();
        let result = timeout_at(deadline, auth::look_up(auth, credential)).await;
        let result = result.unwrap_or_else(|_| Err(auth::lookup_timed_out()));
        if let Err(error) = &result
            && error.is(ErrorReason::TokenInvalid)
        {
            // Only for a known token: each invalidation also discards the results of other queries in progress.
            if auth.identities.was_valid(credential.hash()) {
                auth.identities.invalidate(credential.hash());
            }
            self.rejected.insert(*credential.hash(), started);
        }
        result
    }

    /// Waits for the permits that the query for an unverified token needs.
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

    fn in_progress(&self) -> MutexGuard<'_, HashMap<TokenHash, (LookupEpoch, Lookup)>> {
        let in_progress = self.in_progress.lock();
        in_progress.unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Registers a query as in progress until dropped.
struct InProgress(Arc<Lookups>, TokenHash, LookupEpoch);

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut in_progress = self.0.in_progress();
        // A later query for the same token may have replaced this one: it stays.
        if in_progress
            .get(&self.1)
            .is_some_and(|(epoch, _)| *epoch == self.2)
        {
            in_progress.remove(&self.1);
        }
    }
}

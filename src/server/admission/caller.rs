//! The admission checks that depend on the caller: authentication, authorisation, and the limits for each principal
//! and each address.

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::body::Body;
use uuid::Uuid;

use super::call_line::CallLine;
use super::{Admission, SIGN_OUT};
use crate::auth::policy::Access;
use crate::auth::{self, Credential};
use crate::core::call::Call;
use crate::error::{Error, ErrorReason, Result};
use crate::metrics::Limit;
use crate::server::concurrency_limit::ConcurrencyPermit;
use crate::server::connection::ConnectInfo;
use crate::server::{errors, headers};

/// The capacity that a call occupies.
#[expect(dead_code, reason = "a permit is held only to be dropped")]
pub(super) enum CallPermit {
    Authenticated(OwnedSemaphorePermit),
    Anonymous(ConcurrencyPermit<IpAddr>),
}

/// A call that may go on to its service.
pub(super) struct Admitted {
    pub(super) request: Request<Body>,
    pub(super) permit: CallPermit,
    pub(super) principal_permit: Option<ConcurrencyPermit<Uuid>>,
}

impl Admission {
    /// A permit for a call of an authenticated principal.
    fn call_permit(&self, method: Option<(&str, Access)>) -> Result<CallPermit> {
        let acquire = |limit: &Arc<Semaphore>| Arc::clone(limit).try_acquire_owned().ok();
        let permit = match method {
            Some((SIGN_OUT, _)) => {
                acquire(&self.call_limit).or_else(|| acquire(&self.sign_out_reserve))
            }
            _ => acquire(&self.call_limit),
        };
        let permit = permit.map(CallPermit::Authenticated);
        self.refused(Limit::Calls, permit.ok_or_else(Error::server_overloaded))
    }

    /// Admits a call to an RPC that needs no authentication.
    pub(super) fn admit_anonymous(
        &self,
        mut request: Request<Body>,
        connection: Option<ConnectInfo>,
        address: IpAddr,
        line: &CallLine<'_>,
    ) -> Result<Admitted> {
        let permit = self.anonymous_limit.try_acquire(address);
        let permit = permit.ok_or_else(Error::server_overloaded);
        let permit = self.refused(Limit::AnonymousCalls, permit)?;
        // Attempts to sign in are counted by address.
        if let Some(connection) = connection {
            request.extensions_mut().insert(connection.peer);
        }
        request.extensions_mut().insert(line.notes.clone());
        Ok(Admitted {
            request,
            permit: CallPermit::Anonymous(permit),
            principal_permit: None,
        })
    }

    /// Authenticates and authorises the call, and checks that its principal is within its limits. Every
    /// authenticated call counts against the rate limit, also one that is rejected afterwards.
    pub(super) async fn admit(
        &self,
        mut request: Request<Body>,
        method: Option<(&'static str, Access)>,
        connection: Option<ConnectInfo>,
        address: IpAddr,
        line: &mut CallLine<'_>,
    ) -> Result<Admitted> {
        let token = headers::token(request.headers());
        let certificate = connection.and_then(|connection| connection.peer.certificate);
        let credential = Credential::of(token, certificate).ok_or_else(Error::token_invalid)?;
        let started = Instant::now();
        let mut permit = None;
        let identity = match auth::cached(&self.auth, &credential) {
            Some(identity) => identity,
            None if self.auth.identities.was_valid(credential.hash()) => {
                permit = Some(self.call_permit(method)?);
                self.lookups.revalidate(&self.auth, credential).await?
            }
            None => {
                let lookups = &self.lookups;
                let found = lookups.identify(&self.auth, address, credential).await;
                found.inspect_err(|error| {
                    if error.is(ErrorReason::ServerOverloaded) {
                        self.log.metrics.limits.refused(Limit::TokenLookups);
                    }
                })?
            }
        };
        let principal = identity.principal.id;
        line.principal = Some(Arc::clone(&identity.principal));
        let limited = method.is_none_or(|(rpc, _)| rpc != SIGN_OUT);
        if limited {
            let checked = self.rate_limit.check(principal);
            self.refused(Limit::CallRate, checked)?;
        }
        // After authentication: an anonymous caller must not learn which RPCs exist.
        let (rpc, access) = method.ok_or_else(errors::method_unknown)?;
        if let Access::AtLeast(required) = access
            && identity.role < required
        {
            return Err(auth::errors::role_insufficient(identity.role, required));
        }
        let permit = match permit {
            Some(permit) => permit,
            None => self.call_permit(method)?,
        };
        let mut principal_permit = None;
        if limited {
            let checked = self.unread_bytes.check(principal);
            self.refused(Limit::UnreadBytes, checked)?;
            let acquired = self.per_principal_limit.try_acquire(principal);
            let acquired = acquired.ok_or_else(Error::server_overloaded);
            principal_permit = Some(self.refused(Limit::CallsOfPrincipal, acquired)?);
        }
        request.extensions_mut().insert(Call {
            principal: identity.principal,
            role: identity.role,
            rpc,
            session: identity.session,
            request_key: None,
            waited: started.elapsed(),
            notes: line.notes.clone(),
        });
        Ok(Admitted {
            request,
            permit,
            principal_permit,
        })
    }
}

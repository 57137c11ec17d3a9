//! Finds out whose a credential is: from the identity cache, or from the database.
//!
//! This module decides only who the caller is. What the caller may do is in [`super::policy`], and how many
//! lookups may run at once is decided by the server.

use std::sync::Arc;

use super::identity_cache::Lookup;
use super::peer::Certificate;
use super::sessions::{self, needs_extension};
use super::tokens::{self, TokenKind};
use super::{Auth, store};
use crate::core::call::{Principal, TokenHash};
use crate::core::role::Role;
use crate::error::{Error, ErrorReason, Result};

/// The owner of a credential.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The operator or service account.
    pub principal: Arc<Principal>,
    /// The role, which determines the allowed RPCs.
    pub role: Role,
    /// The session, if the credential is a session token.
    pub session: Option<TokenHash>,
}

impl Identity {
    fn of_service_account(found: Option<(Principal, Role)>) -> Result<Self> {
        let (principal, role) = found.ok_or_else(Error::token_invalid)?;
        Ok(Self {
            principal: Arc::new(principal),
            role,
            session: None,
        })
    }
}

/// What a caller authenticates with.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A session token or an API key, by its hash.
    Token(TokenKind, TokenHash),
    /// A client certificate that is registered for a service account.
    Certificate(Arc<Certificate>),
}

impl Credential {
    /// A token takes precedence over a certificate, because a backend with a certificate may forward an
    /// operator's token. None if there is neither, or if the token has the wrong format.
    pub fn of(token: Option<&str>, certificate: Option<Arc<Certificate>>) -> Option<Self> {
        match token {
            Some(token) => tokens::parse(token).map(|(kind, hash)| Self::Token(kind, hash)),
            None => certificate.map(Self::Certificate),
        }
    }

    /// The hash that identifies the credential in the cache and in the database.
    pub fn hash(&self) -> &TokenHash {
        match self {
            Self::Token(_, hash) => hash,
            Self::Certificate(certificate) => &certificate.fingerprint,
        }
    }
}

/// The cached identity of a credential, if it is still valid. An entry that is due for a refresh is looked up
/// again in the background, so that the caller does not wait.
pub fn cached(auth: &Arc<Auth>, credential: &Credential) -> Option<Identity> {
    match auth.identities.get(credential.hash(), auth.clock.now()) {
        Lookup::Miss => {
            auth.db.metrics().identity_misses.inc();
            None
        }
        Lookup::Hit {
            identity,
            refresh_due,
        } => {
            if refresh_due {
                let (auth, credential) = (Arc::clone(auth), credential.clone());
                tokio::spawn(async move {
                    match look_up(&auth, &credential).await {
                        Ok(_) => {}
                        Err(error) if error.is(ErrorReason::TokenInvalid) => {
                            auth.identities.invalidate(credential.hash())
                        }
                        // While the database is unavailable, the entry stays valid until its TTL ends.
                        Err(_) => auth.identities.retry_refresh(credential.hash()),
                    }
                });
            }
            auth.db.metrics().identity_hits.inc();
            Some(identity)
        }
    }
}

/// The error of a lookup that did not finish in time.
pub fn lookup_timed_out() -> Error {
    Error::database_unavailable("no query said in time who makes the call")
}

/// Looks up the owner of a credential in the database, caches the identity, and extends the session if it is
/// a session token.
///
/// # Errors
/// `TOKEN_INVALID` for every credential that is not valid now, whatever the cause.
pub async fn look_up(auth: &Auth, credential: &Credential) -> Result<Identity> {
    let (epoch, now) = (auth.identities.begin_lookup(), auth.clock.now());
    let hash = *credential.hash();
    let (identity, expire_time) = match credential {
        Credential::Token(TokenKind::Session, _) => {
            let found = store::session(auth.db.read(), &hash, now).await?;
            let store::ValidSession {
                operator,
                expire_time,
                last_use_time,
            } = found.ok_or_else(Error::token_invalid)?;
            auth.last_use
                .note(TokenKind::Session, hash, now, last_use_time);
            if needs_extension(expire_time - now) {
                tokio::spawn(sessions::extend(auth.db.clone(), hash));
            }
            let identity = Identity {
                principal: Arc::new(operator.principal()),
                role: operator.role,
                session: Some(hash),
            };
            (identity, Some(expire_time))
        }
        Credential::Token(TokenKind::ApiKey, _) => {
            let found = store::api_key(auth.db.read(), &hash).await?;
            let (owner, last_use_time) = found.ok_or_else(Error::token_invalid)?;
            auth.last_use
                .note(TokenKind::ApiKey, hash, now, last_use_time);
            (Identity::of_service_account(Some(owner))?, None)
        }
        Credential::Certificate(certificate) => {
            let found = store::certificate(auth.db.read(), &certificate.names).await?;
            (Identity::of_service_account(found)?, None)
        }
    };
    auth.identities
        .insert(hash, identity.clone(), expire_time, epoch);
    Ok(identity)
}

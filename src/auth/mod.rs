//! Authentication and authorisation: who the caller is, and what the caller may do.
//!
//! This module knows neither the gRPC server nor a feature, so that the server and the features can both use it.
//!
//! - A token is 256 random bits, so its SHA-256 is stored and looked up. A slow hash would add nothing.
//!   Looked-up identities are cached for a few seconds ([`identity_cache`]).
//! - A password is chosen by a person, so it is hashed with argon2id ([`passwords`]). Every attempt at one is
//!   reserved before the password is verified ([`attempts`], [`reservation`]).

pub mod attempts;
pub mod errors;
pub mod identity_cache;
pub mod last_use;
pub mod locks;
pub mod operators;
pub mod passwords;
pub mod peer;
pub mod policy;
pub mod reservation;
pub mod sessions;
pub mod stream;
pub mod tokens;

mod identity;
mod own_password;
mod store;

use std::sync::Arc;

use uuid::Uuid;

use crate::core::call::Call;
use crate::core::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Result};
use attempts::StripedLock;
use identity_cache::IdentityCache;
use last_use::LastUse;
use passwords::Passwords;

pub use identity::{Credential, Identity, cached, look_up, lookup_timed_out};
pub use own_password::verify_own_password;
pub(crate) use sessions::begin_session;
pub use sessions::{
    MAX_CLOCK_SKEW, NewSession, SESSION_LIFETIME, check_sign_in, sign_in, sign_out,
};

/// The state that authentication shares between calls.
#[derive(Debug)]
pub struct Auth {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// Hashes and verifies passwords.
    pub passwords: Passwords,
    /// The identities of recent callers.
    pub identities: IdentityCache,
    /// The recent uses of credentials that are not stored yet.
    pub last_use: LastUse,
    attempt_locks: StripedLock,
}

impl Auth {
    /// Authentication against this database.
    pub fn new(db: Db, clock: Clock, passwords: Passwords) -> Self {
        Self {
            passwords: passwords.measured(Arc::clone(db.metrics())),
            db,
            clock,
            identities: IdentityCache::default(),
            last_use: LastUse::default(),
            attempt_locks: StripedLock::default(),
        }
    }
}

/// The id of the calling operator.
///
/// # Errors
/// `OPERATOR_REQUIRED` if the caller is a service account.
pub fn require_operator(call: &Call) -> Result<Uuid> {
    call.operator().ok_or_else(Error::operator_required)
}

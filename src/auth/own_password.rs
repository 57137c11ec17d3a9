//! Verifies the calling operator's own password.
//!
//! Features use this before changes that need the current password. It must not depend on any of them: they
//! pass the call and the password.

use secrecy::SecretString;

use super::attempts::{self, Bucket};
use super::{Auth, errors, require_operator, store};
use crate::core::call::Call;
use crate::error::Result;

/// Verifies the calling operator's own password, after reserving the attempt. Returns the hash that it was
/// verified against.
///
/// # Errors
/// `OPERATOR_REQUIRED`, `CURRENT_PASSWORD_REQUIRED`,
/// `CURRENT_PASSWORD_INVALID`, `PASSWORD_ATTEMPTS_EXCEEDED`.
pub async fn verify_own_password(
    auth: &Auth,
    call: &Call,
    password: Option<&SecretString>,
) -> Result<String> {
    let operator = require_operator(call)?;
    let password = password.ok_or_else(errors::current_password_required)?;
    let mut reservation = attempts::reserve(auth, Bucket::current_password(operator)).await?;
    let hash = store::password_hash(auth.db.read(), operator).await?;
    let verify = reservation.verify(&auth.passwords, password.clone(), hash.clone());
    let matches = verify.await?;
    let Some(hash) = hash.filter(|_| matches) else {
        if reservation.failed().await? {
            call.notes.locked_out();
        }
        return Err(errors::current_password_invalid());
    };
    reservation.succeeded(auth).await?;
    Ok(hash)
}

//! Verifies and changes the calling operator's own password.
//!
//! Features use this before changes that need the current password. It must not depend on any of them: they
//! pass the call and the password.

use secrecy::SecretString;

use super::attempts::{self, Bucket};
use super::{Auth, errors, operators, require_operator, store};
use crate::core::call::Call;
use crate::core::call_notes::Effect;
use crate::db::Verdict;
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

/// Changes the calling operator's own password and ends the operator's other sessions. With `validate_only`,
/// the current password is only verified.
///
/// # Errors
/// As [`verify_own_password`].
pub async fn change_password(
    auth: &Auth,
    call: &Call,
    current: SecretString,
    new: SecretString,
    validate_only: bool,
) -> Result<()> {
    let operator = require_operator(call)?;
    let current = verify_own_password(auth, call, Some(&current)).await?;
    if validate_only {
        call.notes.effect(Effect::Validated);
        return Ok(());
    }
    let new = auth.passwords.hash(new).await?;
    let session = call.session;
    let change = auth.db.write_with_retry(move |tx| {
        let (current, new) = (current.clone(), new.clone());
        Box::pin(async move {
            // If an administrator has set another password meanwhile, that one stays. The new hash may be
            // there already, because this transaction can run twice.
            let found = store::lock_password_hash(tx, operator).await?;
            if found.is_none_or(|found| found != current && found != new) {
                return Err(errors::current_password_invalid());
            }
            operators::store::set_password_hash(tx, operator, new).await?;
            operators::store::end_sessions(tx, operator, session).await?;
            Ok(Verdict::Done(()))
        })
    });
    change.await?;
    auth.identities.invalidate_principal(operator);
    call.notes.effect(Effect::Changed);
    call.notes.about("operator", operator);
    Ok(())
}

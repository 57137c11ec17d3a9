//! Sign-in, sign-out and the lifetime of sessions.
//!
//! This module receives a username and a password as plain values. It knows nothing of the wire, so that the
//! server, the demo and the tests begin sessions in the same way.

use std::net::IpAddr;

use chrono::{DateTime, Duration, Utc};
use secrecy::SecretString;

use super::attempts::{self, Bucket};
use super::operators::{Operator, Username};
use super::reservation::AttemptReservation;
use super::store::{self, SessionRow};
use super::tokens::{self, Secret, TokenKind};
use super::{Auth, errors};
use crate::core::call::{Call, TokenHash};
use crate::core::call_notes::{CallNotes, Effect};
use crate::db::{Db, Verdict};
use crate::error::{Error, Result};

/// How long a session lasts after its last use.
pub const SESSION_LIFETIME: Duration = Duration::hours(12);
/// A session is extended only when this much of its lifetime has passed, so that not every call writes to the
/// database.
const EXTEND_AFTER: Duration = Duration::minutes(15);
/// A session that would last longer than [`SESSION_LIFETIME`] by more than this is shortened: the clock of
/// the server that began or extended it was wrong.
pub const MAX_CLOCK_SKEW: Duration = Duration::minutes(1);

/// A new session.
pub struct Session {
    /// The token. It is sent to the operator once and is not stored.
    pub token: Secret,
    begin_time: DateTime<Utc>,
    /// When the session ends, unless it is used before.
    pub expire_time: DateTime<Utc>,
    /// The operator who signed in.
    pub operator: Operator,
}

impl Session {
    fn new(operator: Operator, now: DateTime<Utc>) -> Self {
        Self {
            token: tokens::generate(TokenKind::Session),
            begin_time: now,
            expire_time: now + SESSION_LIFETIME,
            operator,
        }
    }

    fn row(&self) -> SessionRow {
        SessionRow {
            hash: self.token.hash(),
            operator_id: self.operator.id,
            create_time: self.begin_time,
            expire_time: self.expire_time,
        }
    }
}

/// Verifies a username and a password, and begins a session. An unknown or disabled operator takes the same
/// time and gets the same error as a wrong password, so that usernames cannot be probed.
///
/// # Errors
/// `SIGN_IN_FAILED`, `PASSWORD_ATTEMPTS_EXCEEDED`.
pub async fn sign_in(
    auth: &Auth,
    username: &str,
    password: SecretString,
    address: Option<IpAddr>,
    notes: &CallNotes,
) -> Result<Session> {
    let verified = verify_sign_in(auth, username, password, address, notes).await?;
    let (reservation, operator, hash) = verified;
    let session = Session::new(operator, auth.clock.now());
    let row = session.row();
    let begin = reservation.succeeded_with(auth, move |tx| {
        let hash = hash.clone();
        Box::pin(async move {
            // An administrator may have set another password meanwhile, which ended all sessions.
            if store::lock_password_hash(tx, row.operator_id).await? != Some(hash) {
                return Err(errors::sign_in_failed());
            }
            store::insert_session(tx, row).await
        })
    });
    begin.await?;
    notes.signed_in(|| session.operator.principal());
    Ok(session)
}

/// Performs the checks of [`sign_in`] without beginning a session.
///
/// # Errors
/// As [`sign_in`].
pub async fn check_sign_in(
    auth: &Auth,
    username: &str,
    password: SecretString,
    address: Option<IpAddr>,
    notes: &CallNotes,
) -> Result<Operator> {
    let verified = verify_sign_in(auth, username, password, address, notes).await?;
    let (reservation, operator, _) = verified;
    reservation.succeeded(auth).await?;
    notes.effect(Effect::Validated);
    Ok(operator)
}

/// Returns the reservation of the attempt, the operator, and the hash that the password was verified against.
async fn verify_sign_in(
    auth: &Auth,
    username: &str,
    password: SecretString,
    address: Option<IpAddr>,
    notes: &CallNotes,
) -> Result<(AttemptReservation, Operator, String)> {
    let username = Username::new(username);
    let mut reservation = attempts::reserve(auth, Bucket::sign_in(&username.key, address)).await?;
    let found = store::operator_by_username(auth.db.read(), &username).await?;
    // Never the username: people type passwords into the wrong field.
    if let Some((operator, _)) = &found {
        notes.about("operator", operator.id);
    }
    let hash = found.as_ref().map(|(_, hash)| hash.clone());
    let matches = reservation.verify(&auth.passwords, password, hash).await?;
    let Some((operator, hash)) = found.filter(|_| matches) else {
        if reservation.failed().await? {
            notes.locked_out();
        }
        return Err(errors::sign_in_failed());
    };
    Ok((reservation, operator, hash))
}

/// Begins a session without a password, for the demo.
pub(crate) async fn begin_session(auth: &Auth, operator: Operator) -> Result<Session> {
    let session = Session::new(operator, auth.clock.now());
    let row = session.row();
    let begin = auth.db.write_with_retry(move |tx| {
        Box::pin(async move { Ok(Verdict::Done(store::insert_session(tx, row).await?)) })
    });
    begin.await?;
    Ok(session)
}

/// Ends the session of the call. With `validate_only`, the session is only checked.
///
/// # Errors
/// `OPERATOR_REQUIRED` if the call has no session.
pub async fn sign_out(auth: &Auth, call: &Call, validate_only: bool) -> Result<()> {
    let hash = call.session.ok_or_else(Error::operator_required)?;
    if validate_only {
        call.notes.effect(Effect::Validated);
        return Ok(());
    }
    auth.db
        .write_with_retry(move |tx| {
            Box::pin(async move { Ok(Verdict::Done(store::delete_session(tx, &hash).await?)) })
        })
        .await?;
    auth.identities.invalidate(&hash);
    call.notes.effect(Effect::Changed);
    Ok(())
}

/// Whether the expiry of a session with this much time left must be set again: it was used, or it is too far
/// in the future because a clock was wrong.
pub(super) fn needs_extension(left: Duration) -> bool {
    left < SESSION_LIFETIME - EXTEND_AFTER || left > SESSION_LIFETIME + MAX_CLOCK_SKEW
}

/// Extends a session. A failure is only logged: the session then ends earlier than it could.
pub(super) async fn extend(db: Db, hash: TokenHash) {
    let written = db
        .write(move |tx| {
            Box::pin(async move { Ok(Verdict::Done(store::extend_session(tx, &hash).await?)) })
        })
        .await;
    if let Err(error) = written {
        tracing::warn!(error = error.detail(), "failed to extend a session");
    }
}

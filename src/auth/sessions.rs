//! Sign-in, sign-out and the lifetime of sessions.
//!
//! This module receives a username and a password as plain values. It knows nothing of the wire, so that the
//! server, the demo and the tests begin sessions in the same way.

mod store;

use std::net::IpAddr;

use chrono::{DateTime, Duration, Utc};
use secrecy::SecretString;
use tonic::Code;
use uuid::Uuid;

use super::attempts::{self, Bucket};
use super::operators::{Operator, Username};
use super::reservation::AttemptReservation;
use super::store::lock_operator;
use super::tokens::{self, Secret, TokenKind};
use super::{Auth, errors};
use crate::commit::SideStatement;
use crate::core::call::{Call, TokenHash};
use crate::core::call_notes::{CallNotes, Effect};
use crate::core::page::PageInput;
use crate::db::select::Part;
use crate::db::{Db, Verdict};
use crate::error::{Error, ErrorReason, Result};
use store::SessionRow;

/// How long a session lasts after its last use.
pub const SESSION_LIFETIME: Duration = Duration::hours(12);
/// A session is extended only when this much of its lifetime has passed, so that not every call writes to the
/// database.
const EXTEND_AFTER: Duration = Duration::minutes(15);
/// A session that would last longer than [`SESSION_LIFETIME`] by more than this is shortened: the clock of
/// the server that began or extended it was wrong.
pub const MAX_CLOCK_SKEW: Duration = Duration::minutes(1);

/// A new session.
pub struct NewSession {
    /// The token. It is sent to the operator once and is not stored.
    pub token: Secret,
    begin_time: DateTime<Utc>,
    /// When the session ends, unless it is used before.
    pub expire_time: DateTime<Utc>,
    /// The operator who signed in.
    pub operator: Operator,
    peer_address: Option<IpAddr>,
}

impl NewSession {
    fn new(operator: Operator, now: DateTime<Utc>, peer_address: Option<IpAddr>) -> Self {
        Self {
            token: tokens::generate(TokenKind::Session),
            begin_time: now,
            expire_time: now + SESSION_LIFETIME,
            operator,
            peer_address,
        }
    }

    fn row(&self) -> SessionRow {
        SessionRow {
            hash: self.token.hash(),
            operator_id: self.operator.id,
            create_time: self.begin_time,
            expire_time: self.expire_time,
            peer_address: self.peer_address,
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
) -> Result<NewSession> {
    let verified = verify_sign_in(auth, username, password, address, notes).await?;
    let (reservation, operator, hash) = verified;
    let session = NewSession::new(operator, auth.clock.now(), address);
    let row = session.row();
    let begin = reservation.succeeded_with(auth, move |tx| {
        let hash = hash.clone();
        Box::pin(async move {
            // An administrator may have disabled the operator or set another password meanwhile, which ended
            // all sessions.
            let operator = lock_operator(tx, row.operator_id).await?;
            if !operator.is_some_and(|now| now.is_enabled() && now.password_hash.0 == hash) {
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
    let found = super::store::operator_by_username(auth.db.read(), &username).await?;
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
pub(crate) async fn begin_session(auth: &Auth, operator: Operator) -> Result<NewSession> {
    let session = NewSession::new(operator, auth.clock.now(), None);
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

/// A session in a list, without its token.
#[derive(Clone, Debug)]
pub struct Session {
    /// Identifies it. `None` for a session of the previous version until its use is recorded.
    pub id: Option<Uuid>,
    /// When the operator signed in.
    pub create_time: DateTime<Utc>,
    /// When it ends, unless it is used before.
    pub expire_time: DateTime<Utc>,
    /// When it was last used, up to a minute late.
    pub last_use_time: DateTime<Utc>,
    /// The address that the operator signed in from.
    pub peer_address: Option<String>,
    /// What identifies it in the database.
    pub hash: TokenHash,
}

impl Session {
    /// The position of the session in a list.
    pub fn position(&self) -> Position {
        Position(self.create_time, self.id)
    }
}

/// The position of a session in a list: by the time of creation, then by id.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Position(DateTime<Utc>, Option<Uuid>);

/// Which sessions of an operator to end.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// All.
    All,
    /// All but this one.
    AllExcept(TokenHash),
    /// This one.
    One(Uuid),
}

/// The sessions of an operator that have not expired, newest first.
///
/// # Errors
/// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
pub async fn list(auth: &Auth, operator: Uuid, page: PageInput<Position>) -> Result<Part<Session>> {
    let db = auth.db.pages(page.principal).await?;
    store::list(&db, operator, auth.clock.now(), page.after, page.limit).await
}

/// Whether an operator has a session with this id.
///
/// # Errors
/// `SESSION_NOT_FOUND` if not.
pub async fn require(auth: &Auth, operator: Uuid, id: Uuid) -> Result<()> {
    match store::exists(auth.db.read(), operator, id, auth.clock.now()).await? {
        true => Ok(()),
        false => Err(session_not_found(id)),
    }
}

/// The statement that ends sessions of an operator. The identity cache must be invalidated after its commit.
pub fn end_statement(operator: Uuid, ended: Ended) -> SideStatement {
    SideStatement::Delete(store::end(operator, ended))
}

/// Ends sessions of the calling operator. With `validate_only`, they are only checked.
///
/// # Errors
/// `OPERATOR_REQUIRED`; `SESSION_NOT_FOUND` if one session is to be ended and there is none with its id.
pub async fn end_own(auth: &Auth, call: &Call, ended: Ended, validate_only: bool) -> Result<()> {
    let operator = super::require_operator(call)?;
    if let Ended::One(id) = ended {
        require(auth, operator, id).await?;
    }
    call.notes.about("operator", operator);
    if validate_only {
        call.notes.effect(Effect::Validated);
        return Ok(());
    }
    let end = auth.db.write_with_retry(move |tx| {
        Box::pin(async move {
            end_statement(operator, ended).run(tx).await?;
            Ok(Verdict::Done(()))
        })
    });
    end.await?;
    auth.identities.invalidate_principal(operator);
    call.notes.effect(Effect::Changed);
    Ok(())
}

fn session_not_found(id: Uuid) -> Error {
    let message = format_args!(
        "The operator has no session with the id {id}: it has ended or expired. List the sessions that there are."
    );
    Error::new(Code::NotFound, ErrorReason::SessionNotFound, message)
        .with("session_id", id)
        .resource("Session", id)
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

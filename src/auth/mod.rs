//! Who calls, and what they may.
//!
//! A token is 256 random bits, so its SHA-256 is stored and looked up: nothing is gained by a slow
//! hash. Passwords are people's, so they get argon2id ([`passwords`]), and every try at one is
//! claimed before it is verified ([`attempts`], [`claim`]).

pub mod api;
pub mod attempts;
pub mod claim;
pub mod known;
pub mod passwords;
pub mod peer;
pub mod roles;
mod store;
pub mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use chrono::{DateTime, Duration, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::changes::RequestKey;
use crate::changes::desk::Desk;
use crate::db::{Db, Verdict};
use crate::error::{Error, Result};
use crate::operators::{
    self,
    model::{Operator, Username},
};
use crate::wire::words::{on_the_wire, words};
use attempts::Bucket;
use claim::Claim;
use known::Who;
use peer::Certificate;
use roles::Role;
use store::SessionRow;
use tokens::{Secret, TokenHash, TokenKind};

/// How long a session lasts since it was last used.
pub const SESSION: Duration = Duration::hours(12);
/// A session is prolonged only when this much of it is gone, to spare the database a write a call.
const PROLONG_AFTER: Duration = Duration::minutes(15);

/// A session that would last for longer than [`SESSION`] by more than this is cut: the clock of the
/// server that began or prolonged it was wrong.
pub const CLOCKS_DIFFER: Duration = Duration::minutes(1);

words! {
    /// What kind of principal made a call.
    pub enum PrincipalKind {
        /// A person who signs in.
        Operator = "OPERATOR",
        /// A backend service with an API key.
        ServiceAccount = "SERVICE_ACCOUNT",
    }
}

on_the_wire!(
    PrincipalKind,
    crate::wire::proto::PrincipalKind,
    "PRINCIPAL_KIND_"
);

/// Whoever made a call, as it is kept beside what they did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Operator or service account.
    pub kind: PrincipalKind,
    /// The operator's or service account's id.
    pub id: Uuid,
    /// The username or the account's name at the time.
    pub name: String,
}

/// A call by somebody known.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub principal: Principal,
    /// What they may do.
    pub role: Role,
    /// Which RPC, as `package.Service/Method`.
    pub rpc: &'static str,
    /// The session the call was made in; none for a service account.
    pub session: Option<TokenHash>,
    /// The request id and what was asked under it.
    pub key: Option<RequestKey>,
    /// How long it took to find out who calls. It counts into what the call may wait for the database.
    pub waited: StdDuration,
}

impl Call {
    /// The operator who calls.
    ///
    /// # Errors
    /// [`Error::OperatorRequired`] when it is a service account.
    pub fn operator(&self) -> Result<Uuid> {
        match self.principal.kind {
            PrincipalKind::Operator => Ok(self.principal.id),
            PrincipalKind::ServiceAccount => Err(Error::OperatorRequired),
        }
    }
}

/// Who a token belongs to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who.
    pub principal: Principal,
    /// What they may do.
    pub role: Role,
    /// The session, if the token is one's.
    pub session: Option<TokenHash>,
}

/// What a caller shows of who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A session token or an API key, by its hash.
    Token(TokenKind, TokenHash),
    /// A client certificate that stands for a service account.
    Certificate(Arc<Certificate>),
}

impl Credential {
    /// A token stands before a certificate: a backend may forward an operator's. None when there is
    /// neither, or the token cannot be one.
    pub fn of(token: Option<&str>, certificate: Option<Arc<Certificate>>) -> Option<Self> {
        match token {
            Some(token) => tokens::parse(token).map(|(kind, hash)| Self::Token(kind, hash)),
            None => certificate.map(Self::Certificate),
        }
    }

    /// What stands for it in memory and in the database.
    pub fn hash(&self) -> &TokenHash {
        match self {
            Self::Token(_, hash) => hash,
            Self::Certificate(certificate) => &certificate.fingerprint,
        }
    }
}

impl Identity {
    /// A service account's.
    fn account(found: Option<(Principal, Role)>) -> Result<Self> {
        let (principal, role) = found.ok_or(Error::TokenInvalid)?;
        Ok(Self {
            principal,
            role,
            session: None,
        })
    }
}

/// Whose a credential is, where that was found out a moment ago. From time to time it is looked up
/// again beside the call.
pub fn cached(desk: &Arc<Desk>, credential: &Credential) -> Option<Identity> {
    match desk.known.get(credential.hash(), desk.clock.now()) {
        Who::Unknown => None,
        Who::Known { identity, stale } => {
            if stale {
                let (desk, credential) = (Arc::clone(desk), credential.clone());
                tokio::spawn(async move {
                    match look_up(&desk, &credential).await {
                        Ok(_) => {}
                        Err(Error::TokenInvalid) => desk.known.forget(credential.hash()),
                        // While the database is away, the cached identity is trusted to its end.
                        Err(_) => desk.known.ask_again(credential.hash()),
                    }
                });
            }
            Some(identity)
        }
    }
}

/// The database did not say in time whose a credential is.
pub fn unanswered() -> Error {
    Error::DatabaseUnavailable("no query said in time who makes the call".to_owned())
}

/// Asks the database whose a credential is, and prolongs the session it stands for.
///
/// # Errors
/// [`Error::TokenInvalid`] for every token that is not valid now, whatever the cause.
pub async fn look_up(desk: &Desk, credential: &Credential) -> Result<Identity> {
    let (asked, now) = (desk.known.ask(), desk.clock.now());
    let hash = *credential.hash();
    let (identity, expire_time) = match credential {
        Credential::Token(TokenKind::Session, _) => {
            let (operator, expire_time) = store::session(desk.db.read(), &hash, now)
                .await?
                .ok_or(Error::TokenInvalid)?;
            let left = expire_time - now;
            if left < SESSION - PROLONG_AFTER || left > SESSION + CLOCKS_DIFFER {
                tokio::spawn(prolong(desk.db.clone(), hash));
            }
            let identity = Identity {
                principal: operator.principal(),
                role: operator.role,
                session: Some(hash),
            };
            (identity, Some(expire_time))
        }
        Credential::Token(TokenKind::ApiKey, _) => {
            let found = store::api_key(desk.db.read(), &hash).await?;
            (Identity::account(found)?, None)
        }
        Credential::Certificate(certificate) => {
            let found = store::certificate(desk.db.read(), &certificate.names).await?;
            (Identity::account(found)?, None)
        }
    };
    desk.known.put(hash, identity.clone(), expire_time, asked);
    Ok(identity)
}

/// A failure is only logged: the session then ends earlier than it could.
async fn prolong(db: Db, hash: TokenHash) {
    let written = db
        .write(move |tx| {
            Box::pin(async move { Ok(Verdict::Done(store::prolong(tx, &hash).await?)) })
        })
        .await;
    if let Err(error) = written {
        tracing::warn!(?error, "a session could not be prolonged");
    }
}

/// A session just begun.
pub struct Session {
    /// Shown this once.
    pub token: Secret,
    begin_time: DateTime<Utc>,
    /// When it ends unless it is used.
    pub expire_time: DateTime<Utc>,
    /// Whose it is.
    pub operator: Operator,
}

/// Begins a session. An unknown or disabled operator costs the same time and gets the same answer
/// as a wrong password.
///
/// # Errors
/// [`Error::SignInFailed`], [`Error::PasswordAttemptsExceeded`].
pub async fn sign_in(
    desk: &Desk,
    username: &str,
    password: SecretString,
    address: Option<IpAddr>,
) -> Result<Session> {
    let (claim, operator, hash) = verify_sign_in(desk, username, password, address).await?;
    let session = Session::new(operator, desk.clock.now());
    let row = session.row();
    let begin = claim.succeeded_with(desk, move |tx| {
        let hash = hash.clone();
        Box::pin(async move {
            // An administrator may have set another meanwhile, and ended all sessions.
            if store::hold_password_hash(tx, row.operator_id).await? != Some(hash) {
                return Err(Error::SignInFailed);
            }
            store::insert_session(tx, row).await
        })
    });
    begin.await?;
    Ok(session)
}

/// Checks what [`sign_in`] checks, and begins no session.
///
/// # Errors
/// As [`sign_in`].
pub async fn check_sign_in(
    desk: &Desk,
    username: &str,
    password: SecretString,
    address: Option<IpAddr>,
) -> Result<Operator> {
    let (claim, operator, _) = verify_sign_in(desk, username, password, address).await?;
    claim.succeeded(desk).await?;
    Ok(operator)
}

/// The operator whose username and password these are, the claim of the attempt, and the hash that the
/// password was verified by.
async fn verify_sign_in(
    desk: &Desk,
    username: &str,
    password: SecretString,
    address: Option<IpAddr>,
) -> Result<(Claim, Operator, String)> {
    let username = Username::new(username);
    let mut claim = attempts::claim(desk, Bucket::sign_in(&username.key, address)).await?;
    let found = store::operator_by_username(desk.db.read(), &username).await?;
    let hash = found.as_ref().map(|(_, hash)| hash.clone());
    let right = claim.verify(&desk.passwords, password, hash).await?;
    let Some((operator, hash)) = found.filter(|_| right) else {
        claim.failed().await?;
        return Err(Error::SignInFailed);
    };
    Ok((claim, operator, hash))
}

/// Begins a session without a password, for the demo.
pub(crate) async fn begin_session(desk: &Desk, operator: Operator) -> Result<Session> {
    let session = Session::new(operator, desk.clock.now());
    let row = session.row();
    let begin = desk.db.write_again(move |tx| {
        Box::pin(async move { Ok(Verdict::Done(store::insert_session(tx, row).await?)) })
    });
    begin.await?;
    Ok(session)
}

impl Session {
    fn new(operator: Operator, now: DateTime<Utc>) -> Self {
        Self {
            token: tokens::generate(TokenKind::Session),
            begin_time: now,
            expire_time: now + SESSION,
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

/// Ends the session the call was made in, unless that is only to be checked.
///
/// # Errors
/// [`Error::OperatorRequired`] when there is none.
pub async fn sign_out(desk: &Desk, call: &Call, validate_only: bool) -> Result<()> {
    let hash = call.session.ok_or(Error::OperatorRequired)?;
    if validate_only {
        return Ok(());
    }
    desk.db
        .write_again(move |tx| {
            Box::pin(async move { Ok(Verdict::Done(store::delete_session(tx, &hash).await?)) })
        })
        .await?;
    desk.known.forget(&hash);
    Ok(())
}

/// Verifies the calling operator's own password, claiming the attempt first. Answers the hash that it
/// was verified by.
///
/// # Errors
/// [`Error::OperatorRequired`], [`Error::CurrentPasswordRequired`],
/// [`Error::CurrentPasswordInvalid`], [`Error::PasswordAttemptsExceeded`].
pub async fn verify_own_password(
    desk: &Desk,
    call: &Call,
    password: Option<&SecretString>,
) -> Result<String> {
    let operator = call.operator()?;
    let password = password.ok_or(Error::CurrentPasswordRequired)?;
    let mut claim = attempts::claim(desk, Bucket::current_password(operator)).await?;
    let hash = store::password_hash(desk.db.read(), operator).await?;
    let verify = claim.verify(&desk.passwords, password.clone(), hash.clone());
    let right = verify.await?;
    let Some(hash) = hash.filter(|_| right) else {
        claim.failed().await?;
        return Err(Error::CurrentPasswordInvalid);
    };
    claim.succeeded(desk).await?;
    Ok(hash)
}

/// Changes the calling operator's own password and ends their other sessions, unless that is only to be
/// checked.
///
/// # Errors
/// As [`verify_own_password`].
pub async fn change_password(
    desk: &Desk,
    call: &Call,
    current: SecretString,
    new: SecretString,
    validate_only: bool,
) -> Result<()> {
    let operator = call.operator()?;
    let current = verify_own_password(desk, call, Some(&current)).await?;
    if validate_only {
        return Ok(());
    }
    let new = desk.passwords.hash(new).await?;
    let session = call.session;
    let change = desk.db.write_again(move |tx| {
        let (current, new) = (current.clone(), new.clone());
        Box::pin(async move {
            // An administrator may have set another meanwhile: that one stays.
            let found = store::hold_password_hash(tx, operator).await?;
            if found.is_none_or(|found| found != current && found != new) {
                return Err(Error::CurrentPasswordInvalid);
            }
            operators::store::set_password_hash(tx, operator, new).await?;
            operators::store::end_sessions(tx, operator, session).await?;
            Ok(Verdict::Done(()))
        })
    });
    change.await?;
    desk.known.forget_principal(operator);
    Ok(())
}

//! Operators: the people who sign in. The command line creates and changes them.

pub mod model;
pub mod store;

use secrecy::SecretString;
use uuid::Uuid;

use crate::auth::passwords::{self, Passwords};
use crate::auth::roles::Role;
use crate::changes::desk::Desk;
use crate::config::Refusal;
use crate::db::{Db, Verdict};
use crate::error::Result;
use crate::text;
use crate::wire::violations::{Reason, Violations};
use model::{Operator, Ownership, Username};

/// Notes when a record's owner is no operator, and returns whether they may become it. `owner` is the
/// field's path and its value, which may be empty or not an id at all; the latter is noted elsewhere.
pub async fn check_owner(
    desk: &Desk,
    violations: &mut Violations,
    (field, value): (&str, &str),
) -> Result<Ownership> {
    let Ok(id) = Uuid::try_parse(value) else {
        return Ok(Ownership::Allowed);
    };
    let found = store::by_id(desk.db.read(), id).await?;
    if found.is_none() {
        violations.add(
            field,
            Reason::ReferenceInvalid,
            "is not the id of an operator",
        );
    }
    let disabled = found.is_some_and(|operator| operator.disable_time.is_some());
    Ok(if disabled {
        Ownership::Disabled
    } else {
        Ownership::Allowed
    })
}

/// Creates an operator.
///
/// # Errors
/// A sentence when the username is taken or something given is not as it must be.
pub async fn create(
    db: &Db,
    passwords: &Passwords,
    username: &str,
    display_name: &str,
    role: Role,
    password: SecretString,
) -> Result<Operator, Refusal> {
    let Some(username) = text::identifier(username, "._-@+") else {
        return Err(Refusal::new(
            "a username is 1 to 64 letters, digits and characters of . _ - @ +",
        ));
    };
    let username = Username::new(&username);
    let Some(mut display_name) = text::name(display_name) else {
        return Err(Refusal::new(format!("a display name {}", text::NAME_RULE)));
    };
    if display_name.is_empty() {
        display_name.clone_from(&username.shown);
    }
    check_password(&password)?;
    let hash = passwords.hash(password).await?;
    let created = db
        .write(move |tx| {
            Box::pin(async move {
                tx.lock("operators").await?;
                if store::by_username(&**tx, &username).await?.is_some() {
                    return Ok(Verdict::Checked(Err(username.shown)));
                }
                let operator = Operator {
                    id: tx.clock.new_id(),
                    username: username.shown,
                    display_name,
                    role,
                    disable_time: None,
                };
                store::insert(tx, &operator, hash, tx.clock.now()).await?;
                Ok(Verdict::Done(Ok(operator)))
            })
        })
        .await?;
    created.map_err(|username| {
        Refusal::new(format!(
            "there is an operator {username:?} already: choose another username"
        ))
    })
}

/// Every operator, by username.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(db: &Db) -> Result<Vec<Operator>> {
    store::all(db.read()).await
}

/// The operator with this username.
///
/// # Errors
/// A sentence when there is none.
pub async fn find(db: &Db, username: &str) -> Result<Operator, Refusal> {
    let username = Username::new(username);
    let Some(found) = store::by_username(db.read(), &username).await? else {
        return Err(Refusal::new(format!(
            "there is no operator {:?}: leadsmith operator list shows them all",
            username.shown
        )));
    };
    Ok(store::from_row(found)?)
}

/// Sets an operator's password and ends all their sessions.
///
/// # Errors
/// A sentence when there is no such operator or the password is too short or long.
pub async fn set_password(
    db: &Db,
    passwords: &Passwords,
    username: &str,
    password: SecretString,
) -> Result<(), Refusal> {
    let operator = find(db, username).await?;
    check_password(&password)?;
    let hash = passwords.hash(password).await?;
    let set = db.write(move |tx| {
        Box::pin(async move {
            store::set_password_hash(tx, operator.id, hash).await?;
            store::end_sessions(tx, operator.id, None).await?;
            Ok(Verdict::Done(()))
        })
    });
    Ok(set.await?)
}

/// Keeps an operator from signing in and ends their sessions.
///
/// # Errors
/// A sentence when there is no such operator.
pub async fn disable(db: &Db, username: &str) -> Result<(), Refusal> {
    let id = find(db, username).await?.id;
    db.write(move |tx| {
        Box::pin(async move {
            store::disable(tx, id).await?;
            store::end_sessions(tx, id, None).await?;
            Ok(Verdict::Done(()))
        })
    })
    .await?;
    Ok(())
}

/// Forgets the wrong passwords that count against an operator.
///
/// # Errors
/// A sentence when there is no such operator.
pub async fn unlock(db: &Db, username: &str) -> Result<(), Refusal> {
    let operator = find(db, username).await?;
    let username = Username::new(&operator.username);
    Ok(crate::auth::attempts::unlock(db, operator.id, &username.key).await?)
}

fn check_password(password: &SecretString) -> Result<(), Refusal> {
    use secrecy::ExposeSecret;
    let mut violations = Violations::default();
    passwords::check_new(&mut violations, "the password", password.expose_secret());
    Ok(violations.finish()?)
}

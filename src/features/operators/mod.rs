//! Operators: the people who sign in. They are created and changed on the command line.

mod ownership;

use secrecy::SecretString;
use uuid::Uuid;

use crate::auth::operators::{Operator, Username, store};
use crate::auth::passwords::{self, Passwords};
use crate::config::StartupError;
use crate::core::role::Role;
use crate::core::text;
use crate::core::violations::{Reason, Violations};
use crate::db::{Db, Verdict};
use crate::error::Result;

pub use ownership::Ownership;

/// Checks the owner of a record: adds a violation if it is not an operator, and returns whether the
/// operator may own records. `owner` is the path and the value of the field. The value may be empty. A
/// value that is not a UUID is reported elsewhere.
pub async fn check_owner(
    db: &Db,
    violations: &mut Violations,
    (field, value): (&str, &str),
) -> Result<Ownership> {
    let Ok(id) = Uuid::try_parse(value) else {
        return Ok(Ownership::Allowed);
    };
    let found = store::by_id(db.read(), id).await?;
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
/// A sentence if the username is taken or an argument is invalid.
pub async fn create(
    db: &Db,
    passwords: &Passwords,
    username: &str,
    display_name: &str,
    role: Role,
    password: SecretString,
) -> Result<Operator, StartupError> {
    let Some(username) = text::identifier(username, "._-@+") else {
        return Err(StartupError::new(
            "a username is 1 to 64 letters, digits and characters of . _ - @ +",
        ));
    };
    let username = Username::new(&username);
    let Some(mut display_name) = text::name(display_name) else {
        return Err(StartupError::new(format!(
            "a display name {}",
            text::NAME_RULE
        )));
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
        StartupError::new(format!(
            "an operator {username:?} already exists: choose another username"
        ))
    })
}

/// Lists all operators by username.
///
/// # Errors
/// If the database cannot be read.
pub async fn list(db: &Db) -> Result<Vec<Operator>> {
    store::all(db.read()).await
}

/// Returns the operator with this username.
///
/// # Errors
/// A sentence if there is none.
pub async fn find(db: &Db, username: &str) -> Result<Operator, StartupError> {
    let username = Username::new(username);
    let Some(found) = store::by_username(db.read(), &username).await? else {
        return Err(StartupError::new(format!(
            "there is no operator {:?}: run leadsmith operator list to list all operators",
            username.shown
        )));
    };
    Ok(store::from_row(found)?)
}

/// Sets an operator's password and ends all their sessions.
///
/// # Errors
/// A sentence if there is no such operator, or if the password is too short or too long.
pub async fn set_password(
    db: &Db,
    passwords: &Passwords,
    username: &str,
    password: SecretString,
) -> Result<(), StartupError> {
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

/// Disables sign-in for an operator and ends their sessions.
///
/// # Errors
/// A sentence if there is no such operator.
pub async fn disable(db: &Db, username: &str) -> Result<(), StartupError> {
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

/// Clears the failed password attempts of an operator.
///
/// # Errors
/// A sentence if there is no such operator.
pub async fn unlock(db: &Db, username: &str) -> Result<(), StartupError> {
    let operator = find(db, username).await?;
    let username = Username::new(&operator.username);
    Ok(crate::auth::attempts::unlock(db, operator.id, &username.key).await?)
}

fn check_password(password: &SecretString) -> Result<(), StartupError> {
    use secrecy::ExposeSecret;
    let mut violations = Violations::default();
    passwords::check_new(&mut violations, "the password", password.expose_secret());
    Ok(violations.finish()?)
}

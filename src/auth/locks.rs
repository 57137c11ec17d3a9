//! Where too many wrong passwords keep operators out now, and how an administrator removes that.
//!
//! This module must not count attempts: [`super::attempts`] does.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::attempts::{self, PER_OPERATOR, PER_USERNAME, PER_USERNAME_AND_ADDRESS};
use super::operators::{Operator, Username};
use super::{Auth, store};
use crate::commit::SideStatement;
use crate::core::text_enum::text_enum;
use crate::error::Result;

/// The maximum number of locks that are listed for an operator.
const MAX_LOCKS: usize = 20;

text_enum! {
    /// What an operator cannot do.
    pub enum Scope {
        /// Calls that require the operator's own current password.
        CurrentPassword,
        /// Signing in from any address.
        SignIn,
        /// Signing in from one address.
        SignInFromAddress,
    }
}

/// A lock by too many wrong passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// What the operator cannot do.
    pub scope: Scope,
    /// The address; empty unless the lock is for one.
    pub address: String,
    /// When the next attempt is possible.
    pub end_time: DateTime<Utc>,
}

/// A bucket of attempts that may be full: its name, the number of its wrong passwords, and when the first of them
/// stops counting.
pub struct CountedBucket {
    pub name: String,
    pub wrong: usize,
    pub end_time: DateTime<Utc>,
}

/// The locks of each of these operators.
///
/// # Errors
/// If the database cannot be read.
pub async fn of(auth: &Auth, operators: &[Operator]) -> Result<Vec<Vec<Lock>>> {
    let mut by_name: HashMap<String, (usize, Scope)> = HashMap::new();
    for (index, operator) in operators.iter().enumerate() {
        let username = Username::new(&operator.username);
        let sign_in = attempts::sign_in_name(&username.key);
        by_name.insert(sign_in, (index, Scope::SignIn));
        let password = attempts::current_password_name(operator.id);
        by_name.insert(password, (index, Scope::CurrentPassword));
    }
    let mut locks = vec![Vec::new(); operators.len()];
    let least = PER_OPERATOR.min(PER_USERNAME_AND_ADDRESS);
    for bucket in store::counted_buckets(auth.db.read(), auth.clock.now(), least).await? {
        // The name of a bucket of an address is that of the username's bucket, and the address.
        let (found, address) = match by_name.get(&bucket.name) {
            Some(found) => (Some(*found), ""),
            None => match bucket.name.rsplit_once('/') {
                Some((name, address)) => (by_name.get(name).copied(), address),
                None => (None, ""),
            },
        };
        let Some((index, scope)) = found else {
            continue;
        };
        let (scope, limit) = match (scope, address.is_empty()) {
            (Scope::CurrentPassword, _) => (scope, PER_OPERATOR),
            (Scope::SignIn, true) => (scope, PER_USERNAME),
            (Scope::SignIn | Scope::SignInFromAddress, _) => {
                (Scope::SignInFromAddress, PER_USERNAME_AND_ADDRESS)
            }
        };
        if bucket.wrong >= limit && locks[index].len() < MAX_LOCKS {
            locks[index].push(Lock {
                scope,
                address: address.to_owned(),
                end_time: bucket.end_time,
            });
        }
    }
    Ok(locks)
}

/// The statements that delete every attempt that counts against an operator.
pub fn unlock_statements(operator: Uuid, username: &Username) -> Vec<SideStatement> {
    let names = [
        attempts::current_password_name(operator),
        attempts::sign_in_name(&username.key),
    ];
    let statements = names.iter().map(|name| store::delete_attempts(name));
    statements.map(SideStatement::Delete).collect()
}

//! Operators: the people who sign in. The command line and `OperatorService` use the same use cases.
//!
//! The type [`Operator`] belongs to authentication; its changes are made here.

pub mod api;
mod change;
pub mod errors;
mod ownership;
mod password;
mod store;

use std::sync::Arc;

use uuid::Uuid;

use crate::auth::operators::{self, Operator, Username};
use crate::auth::sessions::{self, Ended};
use crate::auth::{Auth, locks};
use crate::commit::{Mutation, Target, check_etag, history};
use crate::core::field_change::FieldChange;
use crate::core::page::PageInput;
use crate::core::role::Role;
use crate::core::text;
use crate::core::violations::{Reason, Violations};
use crate::db::Db;
use crate::db::select::Part;
use crate::error::Result;

use change::{change, set_disable_time};

pub use change::{Patch, enable};
pub use ownership::Ownership;
pub use password::NewOperator;

/// The rule of usernames, as a part of a sentence.
pub const USERNAME_RULE: &str = "1 to 64 letters, digits and characters of . _ - @ +";

/// How many other enabled ADMINs are locked by a change that could leave none. One that still is an enabled ADMIN when
/// the change is decided is enough. They are all, so that the decision is right the first time, unless there are more
/// than anybody has.
const MAX_OTHER_ADMINS: u64 = 64;

/// Normalises a username. `None` if it breaks the rule.
pub fn username(text: &str) -> Option<Username> {
    text::identifier(text, "._-@+").map(|text| Username::new(&text))
}

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
    let found = operators::store::by_id(db.read(), id).await?;
    if found.is_none() {
        violations.add(
            field,
            Reason::ReferenceInvalid,
            "is not the id of an operator",
        );
    }
    let disabled = found.is_some_and(|operator| !operator.is_enabled());
    Ok(if disabled {
        Ownership::Disabled
    } else {
        Ownership::Allowed
    })
}

/// The use cases of operators.
#[derive(Clone, Debug)]
pub struct Operators {
    auth: Arc<Auth>,
}

impl Operators {
    /// Creates the use cases.
    pub fn new(auth: Arc<Auth>) -> Self {
        Self { auth }
    }

    /// Returns an operator.
    ///
    /// # Errors
    /// `OPERATOR_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<Operator> {
        let found = operators::store::by_id(self.auth.db.read(), id).await?;
        found.ok_or_else(|| errors::not_found(id))
    }

    /// Returns the operator with this username, if there is one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn find(&self, username: &Username) -> Result<Option<Operator>> {
        let row = operators::store::by_username(self.auth.db.read(), username).await?;
        row.map(operators::store::from_row).transpose()
    }

    /// Lists operators in the order of their creation: all, or those that are enabled or disabled.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(
        &self,
        enabled: Option<bool>,
        page: PageInput<Uuid>,
    ) -> Result<Part<Operator>> {
        let db = self.auth.db.pages(page.principal).await?;
        store::list(&db, enabled, page.after, page.limit).await
    }

    /// Lists where too many wrong passwords keep these operators out now.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn locks(&self, operators: &[Operator]) -> Result<Vec<Vec<locks::Lock>>> {
        locks::of(&self.auth, operators).await
    }

    /// Lists the sessions of an operator, newest first.
    ///
    /// # Errors
    /// `OPERATOR_NOT_FOUND`, and those of [`Operators::list`].
    pub async fn sessions(
        &self,
        id: Uuid,
        page: PageInput<sessions::Position>,
    ) -> Result<Part<sessions::Session>> {
        self.get(id).await?;
        sessions::list(&self.auth, id, page).await
    }

    /// Lists an operator's changes, newest first.
    ///
    /// # Errors
    /// `OPERATOR_NOT_FOUND`, and those of [`Operators::list`].
    pub async fn history(&self, id: Uuid, page: PageInput<i64>) -> Result<Part<history::Entry>> {
        self.get(id).await?;
        let db = self.auth.db.pages(page.principal).await?;
        history::list(&db, id, page.after, page.limit).await
    }

    /// Prepares an update.
    ///
    /// # Errors
    /// `OPERATOR_NOT_FOUND`, `ETAG_MISMATCH`, `LAST_ADMIN`.
    pub async fn prepare_update(&self, target: Target, patch: Patch) -> Result<Mutation<Operator>> {
        let others = match patch.role {
            None | Some(Role::Admin) => Vec::new(),
            Some(Role::Viewer | Role::Sales) => self.other_admins(&target).await?,
        };
        Ok(change(
            target,
            others,
            "operator.updated",
            move |operator, _| patch.apply(operator),
            |_| Vec::new(),
        ))
    }

    /// Prepares disabling an operator, which ends their sessions.
    ///
    /// # Errors
    /// As [`Operators::prepare_update`].
    pub async fn prepare_disable(&self, target: Target) -> Result<Mutation<Operator>> {
        let others = self.other_admins(&target).await?;
        Ok(change(
            target,
            others,
            "operator.disabled",
            |operator, time| set_disable_time(operator, Some(time)),
            |id| vec![sessions::end_statement(id, Ended::All)],
        ))
    }

    /// Prepares ending the sessions of an operator.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND` if one is to be ended that does not exist; and later as [`enable`].
    pub async fn prepare_end_sessions(
        &self,
        target: Target,
        ended: Ended,
    ) -> Result<Mutation<Operator>> {
        let operator = self.get(target.id).await?;
        check_etag(&target.etag, operator.version)?;
        if let Ended::One(id) = ended {
            sessions::require(&self.auth, operator.id, id).await?;
        }
        Ok(change(
            target,
            Vec::new(),
            "operator.sessions_ended",
            |_, _| vec![FieldChange::new("sessions", "", "")],
            move |id| vec![sessions::end_statement(id, ended)],
        ))
    }

    /// Prepares deleting the wrong passwords that count against an operator.
    ///
    /// # Errors
    /// `OPERATOR_NOT_FOUND`; and later as [`enable`].
    pub async fn prepare_unlock(&self, target: Target) -> Result<Mutation<Operator>> {
        let operator = self.get(target.id).await?;
        let username = Username::new(&operator.username);
        Ok(change(
            target,
            Vec::new(),
            "operator.unlocked",
            |_, _| vec![FieldChange::new("locks", "", "")],
            move |id| locks::unlock_statements(id, &username),
        ))
    }

    /// Other enabled ADMINs, to be locked by a change that takes this from the target; none if the target is
    /// no enabled ADMIN.
    ///
    /// # Errors
    /// `OPERATOR_NOT_FOUND`, `ETAG_MISMATCH`; `LAST_ADMIN` if there is no other.
    async fn other_admins(&self, target: &Target) -> Result<Vec<Uuid>> {
        let operator = self.get(target.id).await?;
        check_etag(&target.etag, operator.version)?;
        if !operator.is_enabled_admin() {
            return Ok(Vec::new());
        }
        let db = self.auth.db.read();
        let others = store::other_admins(db, operator.id, MAX_OTHER_ADMINS).await?;
        if others.is_empty() {
            return Err(errors::last_admin(operator.id));
        }
        Ok(others)
    }
}

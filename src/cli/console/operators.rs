//! Operators as the command line knows them.

use secrecy::{ExposeSecret, SecretString};

use super::{Console, Result, done, page};
use crate::auth::operators::{Operator, Username};
use crate::commit::Target;
use crate::config::StartupError;
use crate::core::role::Role;
use crate::core::text;
use crate::core::violations::Violations;
use crate::features::operators::{self, NewOperator, Patch};

impl Console {
    /// Creates an operator.
    ///
    /// # Errors
    /// A sentence if the username is taken or an argument is invalid.
    pub async fn create_operator(
        &self,
        username: &str,
        display_name: &str,
        role: Role,
        password: SecretString,
    ) -> Result<Operator> {
        let Some(username) = operators::username(username) else {
            return Err(StartupError::new(format!(
                "a username is {}",
                operators::USERNAME_RULE
            )));
        };
        let Some(display_name) = text::name(display_name) else {
            return Err(StartupError::new(format!(
                "a display name {}",
                text::NAME_RULE
            )));
        };
        self.check_password(&password)?;
        let new = NewOperator {
            username,
            display_name,
            role,
            password,
            validate_only: false,
        };
        let prepare = || self.operators.prepare_create(new.clone());
        self.apply("leadsmith operator create", prepare).await
    }

    /// Lists all operators by username.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn operators(&self) -> Result<Vec<Operator>> {
        let mut all: Vec<Operator> = Vec::new();
        loop {
            let page = page(all.last().map(|last| last.id));
            let rows = self.operators.list(None, page).await?.rows;
            if rows.is_empty() {
                break;
            }
            all.extend(rows);
        }
        all.sort_by(|one, other| one.username.cmp(&other.username));
        Ok(all)
    }

    /// Returns the operator with this username.
    ///
    /// # Errors
    /// A sentence if there is none.
    pub async fn operator(&self, username: &str) -> Result<Operator> {
        let username = Username::new(username);
        let found = self.operators.find(&username).await?;
        found.ok_or_else(|| {
            StartupError::new(format!(
                "there is no operator {:?}: run leadsmith operator list to list all operators",
                username.shown
            ))
        })
    }

    /// Sets an operator's password and ends all their sessions.
    ///
    /// # Errors
    /// A sentence if there is no such operator, or if the password breaks a rule.
    pub async fn set_password(&self, username: &str, password: SecretString) -> Result<Operator> {
        let target = self.operator_target(username).await?;
        self.check_password(&password)?;
        let prepare = || self.operators.prepare_reset(target.clone(), &password);
        self.apply("leadsmith operator set-password", prepare).await
    }

    /// Gives an operator another role. Servers apply it within 5 seconds.
    ///
    /// # Errors
    /// A sentence if there is no such operator, or if the operator is the last enabled ADMIN.
    pub async fn set_role(&self, username: &str, role: Role) -> Result<Operator> {
        let target = self.operator_target(username).await?;
        let patch = Patch {
            role: Some(role),
            ..Patch::default()
        };
        let prepare = || self.operators.prepare_update(target.clone(), patch.clone());
        self.apply("leadsmith operator set-role", prepare).await
    }

    /// Disables sign-in for an operator and ends their sessions.
    ///
    /// # Errors
    /// A sentence if there is no such operator, or if the operator is the last enabled ADMIN.
    pub async fn disable_operator(&self, username: &str) -> Result<Operator> {
        let target = self.operator_target(username).await?;
        let prepare = || self.operators.prepare_disable(target.clone());
        self.apply("leadsmith operator disable", prepare).await
    }

    /// Enables sign-in for a disabled operator, with the same password.
    ///
    /// # Errors
    /// A sentence if there is no such operator.
    pub async fn enable_operator(&self, username: &str) -> Result<Operator> {
        let target = self.operator_target(username).await?;
        let prepare = || done(operators::enable(target.clone()));
        self.apply("leadsmith operator enable", prepare).await
    }

    /// Deletes the wrong passwords that count against an operator.
    ///
    /// # Errors
    /// A sentence if there is no such operator.
    pub async fn unlock_operator(&self, username: &str) -> Result<Operator> {
        let target = self.operator_target(username).await?;
        let prepare = || self.operators.prepare_unlock(target.clone());
        self.apply("leadsmith operator unlock", prepare).await
    }

    async fn operator_target(&self, username: &str) -> Result<Target> {
        Ok(Target {
            id: self.operator(username).await?.id,
            etag: String::new(),
            validate_only: false,
        })
    }

    fn check_password(&self, password: &SecretString) -> Result<()> {
        let mut violations = Violations::default();
        let rules = &self.auth.passwords;
        rules.check_new(&mut violations, "the password", password.expose_secret());
        Ok(violations.finish()?)
    }
}

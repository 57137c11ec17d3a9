//! Operators and service accounts as the command line knows them: by their names, with errors as sentences. Every
//! change is made by the use cases of the RPCs, and stands in the history with the user of the operating system.
//!
//! It must not parse arguments or print, so that the demo and the tests can use it.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::auth::Auth;
use crate::auth::operators::{Operator, Username};
use crate::auth::passwords::Passwords;
use crate::auth::tokens::{self, Secret, TokenKind};
use crate::commit::{GroupCommit, Mutation};
use crate::config::{Limits, StartupError};
use crate::core::call::Call;
use crate::core::clock::Clock;
use crate::core::page::PageInput;
use crate::core::role::Role;
use crate::core::text;
use crate::core::violations::Violations;
use crate::db::Db;
use crate::error::{Error, ErrorReason, Result as CallResult};
use crate::features::RECORDS;
use crate::features::operators::{self, NewOperator, Operators};
use crate::features::service_accounts::model::{
    CERTIFICATE_RULE, Key, NAME_RULE, Patch, ServiceAccount, certificate_name, name,
};
use crate::features::service_accounts::{self, KeyChange, NewAccount, ServiceAccounts};

/// How often a change is prepared if its records change concurrently.
const MAX_ATTEMPTS: usize = 3;
/// The number of records that are read at once.
const PAGE: u64 = 1_000;

type Result<T> = std::result::Result<T, StartupError>;

/// Makes changes as the user who runs the command.
pub struct Console {
    auth: Arc<Auth>,
    commit: GroupCommit,
    operators: Operators,
    accounts: ServiceAccounts,
    user: String,
}

impl Console {
    /// Makes changes in this database.
    pub fn new(db: &Db, passwords: Passwords) -> Self {
        let clock = Clock::default();
        let auth = Arc::new(Auth::new(db.clone(), clock, passwords));
        Self {
            commit: GroupCommit::new(db, &Limits::default(), RECORDS),
            operators: Operators::new(Arc::clone(&auth)),
            accounts: ServiceAccounts::new(Arc::clone(&auth)),
            auth,
            user: user(),
        }
    }

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

    /// Disables sign-in for an operator and ends their sessions.
    ///
    /// # Errors
    /// A sentence if there is no such operator, or if the operator is the last enabled ADMIN.
    pub async fn disable_operator(&self, username: &str) -> Result<Operator> {
        let target = self.operator_target(username).await?;
        let prepare = || self.operators.prepare_disable(target.clone());
        self.apply("leadsmith operator disable", prepare).await
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

    /// Creates a service account.
    ///
    /// # Errors
    /// A sentence if the name is taken or invalid.
    pub async fn create_account(&self, text: &str, role: Role) -> Result<ServiceAccount> {
        let Some(name) = name(text) else {
            return Err(StartupError::new(format!(
                "a service account's name is {NAME_RULE}"
            )));
        };
        let new = NewAccount {
            name,
            role,
            certificate_name: None,
            validate_only: false,
        };
        let prepare = || done(service_accounts::create(new.clone()));
        self.apply("leadsmith service-account create", prepare)
            .await
    }

    /// Lists all service accounts by name, with their keys, oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn accounts(&self) -> Result<Vec<(ServiceAccount, Vec<Key>)>> {
        let mut all: Vec<(ServiceAccount, Vec<Key>)> = Vec::new();
        loop {
            let page = page(all.last().map(|(last, _)| last.id));
            let rows = self.accounts.list(page).await?.rows;
            if rows.is_empty() {
                break;
            }
            for account in rows {
                let keys = self.keys(account.id).await?;
                all.push((account, keys));
            }
        }
        all.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        Ok(all)
    }

    async fn keys(&self, account: Uuid) -> Result<Vec<Key>> {
        let mut all: Vec<Key> = Vec::new();
        loop {
            let page = page(all.last().map(|last| last.id));
            let rows = self.accounts.keys(account, page).await?.rows;
            if rows.is_empty() {
                return Ok(all);
            }
            all.extend(rows);
        }
    }

    /// Sets or removes the subject alternative name (`DNS:NAME` or `URI:NAME`) of the client certificates that
    /// authenticate as a service account. Servers apply the change within 5 seconds.
    ///
    /// # Errors
    /// A sentence if there is no such account, or if the name is invalid or belongs to another account.
    pub async fn set_certificate(
        &self,
        account: &str,
        given: Option<&str>,
    ) -> Result<ServiceAccount> {
        let target = self.account_target(account).await?;
        let name = match given.map(certificate_name) {
            Some(None) => {
                let sentence = format!("a certificate's name is {CERTIFICATE_RULE}");
                return Err(StartupError::new(sentence));
            }
            Some(Some(name)) => name,
            None => String::new(),
        };
        let patch = Patch {
            role: None,
            certificate_name: Some(name),
        };
        let prepare = || done(service_accounts::update(target.clone(), patch.clone()));
        self.apply("leadsmith service-account set-certificate", prepare)
            .await
    }

    /// Creates an API key of a service account. Returns what was created, with the id by which the key is revoked,
    /// and the key itself, which cannot be read again.
    ///
    /// # Errors
    /// A sentence if there is no such account.
    pub async fn create_key(&self, account: &str) -> Result<(KeyChange, Secret)> {
        let target = self.account_target(account).await?;
        let (secret, id) = (
            tokens::generate(TokenKind::ApiKey),
            self.auth.clock.new_id(),
        );
        let hash = secret.hash();
        let prepare = || done(service_accounts::create_key(target.clone(), id, hash));
        let created = self.apply("leadsmith service-account create-key", prepare);
        Ok((created.await?, secret))
    }

    /// Revokes an API key.
    ///
    /// # Errors
    /// A sentence if there is no such key or if it is already revoked.
    pub async fn revoke_key(&self, id: Uuid) -> Result<KeyChange> {
        let is_active = match self.accounts.key(id).await {
            Ok(key) => key.revoke_time.is_none(),
            Err(error) if error.is(ErrorReason::ApiKeyNotFound) => false,
            Err(error) => return Err(error.into()),
        };
        if !is_active {
            return Err(StartupError::new(format!(
                "there is no active API key with the id {id}: run leadsmith service-account list to list all keys"
            )));
        }
        let prepare = || self.accounts.prepare_revocation(id, String::new(), false);
        self.apply("leadsmith service-account revoke-key", prepare)
            .await
    }

    /// Makes a change as a command.
    async fn apply<T, P>(&self, command: &'static str, prepare: impl Fn() -> P) -> Result<T>
    where
        T: Send + 'static,
        P: Future<Output = CallResult<Mutation<T>>>,
    {
        for _ in 0..MAX_ATTEMPTS {
            let call = Call::of_command(command, &self.user);
            if let Some(outcome) = self.commit.run_once(call, prepare().await?).await? {
                return Ok(outcome);
            }
        }
        Err(Error::write_conflict().into())
    }

    async fn operator_target(&self, username: &str) -> Result<operators::Target> {
        Ok(operators::Target {
            id: self.operator(username).await?.id,
            etag: String::new(),
            validate_only: false,
        })
    }

    async fn account_target(&self, name: &str) -> Result<service_accounts::Target> {
        let Some(account) = self.accounts.find(name).await? else {
            return Err(StartupError::new(format!(
                "there is no service account {name:?}: run leadsmith service-account list to list all service \
                 accounts"
            )));
        };
        Ok(service_accounts::Target {
            id: account.id,
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

/// A change that needs no preparation.
async fn done<T>(mutation: Mutation<T>) -> CallResult<Mutation<T>> {
    Ok(mutation)
}

fn page(after: Option<Uuid>) -> PageInput<Uuid> {
    PageInput {
        principal: Uuid::nil(),
        after,
        limit: PAGE,
    }
}

/// The name of the user in the operating system, or the user's number if it has none.
fn user() -> String {
    let id = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(id).ok().flatten();
    user.map_or_else(|| format!("uid {id}"), |user| user.name)
}

//! Service accounts and their keys as the command line knows them.

use uuid::Uuid;

use super::{Console, Result, done, page};
use crate::auth::tokens::{self, Secret, TokenKind};
use crate::commit::Target;
use crate::config::StartupError;
use crate::core::role::Role;
use crate::error::ErrorReason;
use crate::features::service_accounts::model::{
    CERTIFICATE_RULE, Key, NAME_RULE, Patch, ServiceAccount, certificate_name, name,
};
use crate::features::service_accounts::{self, KeyChange, NewAccount};

impl Console {
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

    /// Rejects the keys and certificates of a service account. Servers apply the change within 5 seconds.
    ///
    /// # Errors
    /// A sentence if there is no such account.
    pub async fn disable_account(&self, account: &str) -> Result<ServiceAccount> {
        let target = self.account_target(account).await?;
        let prepare = || done(service_accounts::disable(target.clone()));
        self.apply("leadsmith service-account disable", prepare)
            .await
    }

    /// Accepts the keys and certificates of a disabled service account again.
    ///
    /// # Errors
    /// A sentence if there is no such account.
    pub async fn enable_account(&self, account: &str) -> Result<ServiceAccount> {
        let target = self.account_target(account).await?;
        let prepare = || done(service_accounts::enable(target.clone()));
        self.apply("leadsmith service-account enable", prepare)
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

    async fn account_target(&self, name: &str) -> Result<Target> {
        let Some(account) = self.accounts.find(name).await? else {
            return Err(StartupError::new(format!(
                "there is no service account {name:?}: run leadsmith service-account list to list all service \
                 accounts"
            )));
        };
        Ok(Target {
            id: account.id,
            etag: String::new(),
            validate_only: false,
        })
    }
}

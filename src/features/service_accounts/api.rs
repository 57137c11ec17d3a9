//! `ServiceAccountService`: conversion between messages and domain types.

pub mod messages;

use tonic::{Request, Response, Status};

use super::model::ServiceAccount;
use super::{KeyChange, ServiceAccounts};
use crate::auth::tokens::{self, TokenKind};
use crate::commit::{GroupCommit, Record as _, Target};
use crate::core::clock::Clock;
use crate::core::violations::{Reason, Violations};
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::{self, mutate, read, read_and_mutate, set_request_key, target};
use leadsmith_proto::{self as proto, service_account_service_server::ServiceAccountService};

/// See `service_account_service.proto`.
pub struct ServiceAccountApi {
    /// The use cases.
    pub accounts: ServiceAccounts,
    /// Makes the ids of keys.
    pub clock: Clock,
    /// Commits the changes.
    pub commit: GroupCommit,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

paged!(
    ListServiceAccountsRequest,
    ListKeysRequest,
    ListServiceAccountHistoryRequest
);

/// The renderer of a response that has only the account.
macro_rules! with_account {
    ($response:ident) => {
        |account| proto::$response {
            service_account: Some(messages::account(account)),
        }
    };
}

#[tonic::async_trait]
impl ServiceAccountService for ServiceAccountApi {
    async fn create(
        &self,
        request: Request<proto::CreateServiceAccountRequest>,
    ) -> Result<Response<proto::CreateServiceAccountResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(ServiceAccount::NAME);
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let new = messages::new_account(&mut violations, body.service_account, body.validate_only);
        violations.finish()?;
        let render: fn(ServiceAccount) -> _ = if new.validate_only {
            |account| proto::CreateServiceAccountResponse {
                service_account: Some(messages::preview(account)),
            }
        } else {
            with_account!(CreateServiceAccountResponse)
        };
        mutate(&self.commit, call, super::create(new), render).await
    }

    async fn get(
        &self,
        request: Request<proto::GetServiceAccountRequest>,
    ) -> Result<Response<proto::GetServiceAccountResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about(ServiceAccount::NAME, id);
        let account = self.accounts.get(id).await?;
        Ok(Response::new(proto::GetServiceAccountResponse {
            service_account: Some(messages::account(account)),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListServiceAccountsRequest>,
    ) -> Result<Response<proto::ListServiceAccountsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        violations.finish()?;
        let watch_token = page.watch_token().await?;
        let rows = self.accounts.list(page.input()?).await?;
        let page = page.build(rows, |last| last.id, messages::account)?;
        Ok(Response::new(proto::ListServiceAccountsResponse {
            service_accounts: page.rows,
            next_page_token: page.next_page_token,
            watch_token,
        }))
    }

    async fn update(
        &self,
        request: Request<proto::UpdateServiceAccountRequest>,
    ) -> Result<Response<proto::UpdateServiceAccountResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(ServiceAccount::NAME);
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let account = body.service_account.unwrap_or_else(|| {
            violations.add("service_account", Reason::Required, "is required");
            proto::ServiceAccount::default()
        });
        let target = Target {
            id: read::id(&mut violations, "service_account.id", &account.id),
            etag: account.etag.clone(),
            validate_only: body.validate_only,
        };
        let patch = messages::patch(&mut violations, &account, body.update_mask);
        violations.finish()?;
        let render = with_account!(UpdateServiceAccountResponse);
        mutate(&self.commit, call, super::update(target, patch), render).await
    }

    async fn disable(
        &self,
        request: Request<proto::DisableServiceAccountRequest>,
    ) -> Result<Response<proto::DisableServiceAccountResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(ServiceAccount::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let render = with_account!(DisableServiceAccountResponse);
        mutate(&self.commit, call, super::disable(target), render).await
    }

    async fn enable(
        &self,
        request: Request<proto::EnableServiceAccountRequest>,
    ) -> Result<Response<proto::EnableServiceAccountResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(ServiceAccount::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let render = with_account!(EnableServiceAccountResponse);
        mutate(&self.commit, call, super::enable(target), render).await
    }

    async fn create_key(
        &self,
        request: Request<proto::CreateKeyRequest>,
    ) -> Result<Response<proto::CreateKeyResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(ServiceAccount::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let (secret, id) = (tokens::generate(TokenKind::ApiKey), self.clock.new_id());
        let render: fn(KeyChange) -> _ = match target.validate_only {
            true => messages::key_preview,
            // What is rendered here is stored for a retry, so it must not contain the key.
            false => messages::created_key,
        };
        let create = super::create_key(target, id, secret.hash());
        let mut response = mutate(&self.commit, call, create, render).await?;
        // A retry gets the id of the key that the first call created.
        let created = response.get_ref().key.as_ref();
        if created.is_some_and(|key| key.id == id.to_string()) {
            response.get_mut().api_key = secret.expose().to_owned();
        }
        Ok(response)
    }

    async fn list_keys(
        &self,
        request: Request<proto::ListKeysRequest>,
    ) -> Result<Response<proto::ListKeysResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about(ServiceAccount::NAME, id);
        let rows = self.accounts.keys(id, page.input()?).await?;
        let page = page.build(rows, |last| last.id, messages::key)?;
        Ok(Response::new(proto::ListKeysResponse {
            keys: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn revoke_key(
        &self,
        request: Request<proto::RevokeKeyRequest>,
    ) -> Result<Response<proto::RevokeKeyResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(ServiceAccount::NAME);
        let mut violations = Violations::default();
        // The id is that of the key.
        let Target {
            id,
            etag,
            validate_only,
        } = target!(violations, call, body);
        violations.finish()?;
        call.notes.about("api_key", id);
        let prepare = || {
            self.accounts
                .prepare_revocation(id, etag.clone(), validate_only)
        };
        let render = |change: KeyChange| proto::RevokeKeyResponse {
            key: Some(messages::key(change.key)),
            service_account: Some(messages::account(change.account)),
        };
        read_and_mutate(&self.commit, &call, prepare, render).await
    }

    async fn list_history(
        &self,
        request: Request<proto::ListServiceAccountHistoryRequest>,
    ) -> Result<Response<proto::ListServiceAccountHistoryResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about(ServiceAccount::NAME, id);
        let rows = self.accounts.history(id, page.input()?).await?;
        let page = page.build(rows, |last| last.version, grpc::render::entry)?;
        Ok(Response::new(proto::ListServiceAccountHistoryResponse {
            entries: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

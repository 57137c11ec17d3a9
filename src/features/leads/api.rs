//! `LeadService`: conversion between messages and domain types.

mod parse;
mod reads;
pub mod render;

use secrecy::SecretString;
use tonic::{Request, Response, Status};

use super::{Converted, Leads, NewLead, Update, model};
use crate::commit::GroupCommit;
use crate::core::violations::{Reason, Violations};
use crate::db::Db;
use crate::features::operators::{self, Ownership};
use crate::grpc::page::PageTokens;
use crate::grpc::{self, read};
use crate::grpc::{mutate, prepare_and_mutate, read_and_mutate, set_request_key};
use leadsmith_proto::{self as proto, lead_service_server::LeadService};

/// See `lead_service.proto`.
pub struct LeadApi {
    /// The use cases.
    pub leads: Leads,
    /// Commits the changes.
    pub commit: GroupCommit,
    /// Used to look up owners.
    pub db: Db,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

/// The maximum number of characters of a reason.
const MAX_REASON: usize = 1_000;
#[tonic::async_trait]
impl LeadService for LeadApi {
    async fn create(
        &self,
        request: Request<proto::CreateLeadRequest>,
    ) -> Result<Response<proto::CreateLeadResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let details = parse::details(&mut violations, body.lead);
        let owner = ("lead.owner_id", details.owner_id.as_str());
        let owner = operators::check_owner(&self.db, &mut violations, owner).await?;
        violations.finish()?;
        let render: fn(model::Lead) -> _ = if body.validate_only {
            |lead| proto::CreateLeadResponse {
                lead: Some(render::preview(lead)),
            }
        } else {
            |lead| proto::CreateLeadResponse {
                lead: Some(render::lead(lead)),
            }
        };
        let new = NewLead {
            details,
            owner,
            allow_duplicate: body.allow_duplicate,
            validate_only: body.validate_only,
        };
        mutate(&self.commit, call, super::create(new), render).await
    }

    async fn get(
        &self,
        request: Request<proto::GetLeadRequest>,
    ) -> Result<Response<proto::GetLeadResponse>, Status> {
        self.read_get(request).await
    }

    async fn list(
        &self,
        request: Request<proto::ListLeadsRequest>,
    ) -> Result<Response<proto::ListLeadsResponse>, Status> {
        self.read_list(request).await
    }

    async fn search(
        &self,
        request: Request<proto::SearchLeadsRequest>,
    ) -> Result<Response<proto::SearchLeadsResponse>, Status> {
        self.read_search(request).await
    }

    async fn batch_get(
        &self,
        request: Request<proto::BatchGetLeadsRequest>,
    ) -> Result<Response<proto::BatchGetLeadsResponse>, Status> {
        self.read_batch_get(request).await
    }

    async fn list_duplicates(
        &self,
        request: Request<proto::ListDuplicatesRequest>,
    ) -> Result<Response<proto::ListDuplicatesResponse>, Status> {
        self.read_list_duplicates(request).await
    }

    async fn update(
        &self,
        request: Request<proto::UpdateLeadRequest>,
    ) -> Result<Response<proto::UpdateLeadResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let password = std::mem::take(&mut body.current_password);
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let lead = body.lead.unwrap_or_else(|| {
            violations.add("lead", Reason::Required, "is required");
            proto::Lead::default()
        });
        let id = read::id(&mut violations, "lead.id", &lead.id);
        let etag = lead.etag.clone();
        let patch = parse::patch(&mut violations, lead, body.update_mask);
        let mut owner = Ownership::Allowed;
        if patch.names("owner_id") {
            let given = ("lead.owner_id", patch.values.owner_id.as_str());
            owner = operators::check_owner(&self.db, &mut violations, given).await?;
        }
        violations.finish()?;
        let update = Update {
            id,
            etag,
            patch,
            owner,
            current_password: (!password.is_empty()).then(|| password.into()),
            validate_only: body.validate_only,
        };
        let render = |lead| proto::UpdateLeadResponse {
            lead: Some(render::lead(lead)),
        };
        if !update.names_email() {
            return mutate(&self.commit, call, update.mutation(false), render).await;
        }
        let prepare = || self.leads.prepare_update(&call, update.clone());
        prepare_and_mutate(&self.commit, &call, prepare, render).await
    }

    async fn deactivate(
        &self,
        request: Request<proto::DeactivateLeadRequest>,
    ) -> Result<Response<proto::DeactivateLeadResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = grpc::target!(violations, call, body);
        let reason = read::text(&mut violations, "reason", &body.reason, MAX_REASON);
        violations.finish()?;
        let render = |lead| proto::DeactivateLeadResponse {
            lead: Some(render::lead(lead)),
        };
        mutate(
            &self.commit,
            call,
            super::deactivate(target, reason),
            render,
        )
        .await
    }

    async fn reactivate(
        &self,
        request: Request<proto::ReactivateLeadRequest>,
    ) -> Result<Response<proto::ReactivateLeadResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = grpc::target!(violations, call, body);
        violations.finish()?;
        let render = |lead| proto::ReactivateLeadResponse {
            lead: Some(render::lead(lead)),
        };
        mutate(&self.commit, call, super::reactivate(target), render).await
    }

    async fn convert(
        &self,
        request: Request<proto::ConvertLeadRequest>,
    ) -> Result<Response<proto::ConvertLeadResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let password = std::mem::take(&mut body.current_password);
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let convert = parse::convert(&mut violations, body, password);
        violations.finish()?;
        let render = |converted: Converted| proto::ConvertLeadResponse {
            lead: Some(render::lead(converted.lead)),
            client: render::client(converted.client),
            report: Some(render::report(converted.report)),
        };
        let _converting = self.leads.converting();
        let prepare = || self.leads.prepare_convert(&call, convert.clone());
        match convert.verifies_password() {
            true => prepare_and_mutate(&self.commit, &call, prepare, render).await,
            false => read_and_mutate(&self.commit, &call, prepare, render).await,
        }
    }

    async fn revert_conversion(
        &self,
        request: Request<proto::RevertConversionRequest>,
    ) -> Result<Response<proto::RevertConversionResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = grpc::target!(violations, call, body);
        violations.finish()?;
        let render = |lead| proto::RevertConversionResponse {
            lead: Some(render::lead(lead)),
        };
        mutate(&self.commit, call, self.leads.revert(target), render).await
    }

    async fn erase(
        &self,
        request: Request<proto::EraseLeadRequest>,
    ) -> Result<Response<proto::EraseLeadResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let password = std::mem::take(&mut body.current_password);
        let mut violations = Violations::default();
        let target = grpc::target!(violations, call, body);
        violations.finish()?;
        let password: Option<SecretString> = (!password.is_empty()).then(|| password.into());
        let render = |lead| proto::EraseLeadResponse {
            lead: Some(render::lead(lead)),
        };
        let prepare = || {
            let target = target.clone();
            self.leads.prepare_erasure(&call, target, password.as_ref())
        };
        prepare_and_mutate(&self.commit, &call, prepare, render).await
    }

    async fn list_history(
        &self,
        request: Request<proto::ListHistoryRequest>,
    ) -> Result<Response<proto::ListHistoryResponse>, Status> {
        self.read_list_history(request).await
    }
}

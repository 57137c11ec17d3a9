//! `OperatorService`: conversion between messages and domain types.

mod parse;
pub mod render;

use secrecy::SecretString;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::Operators;
use crate::auth::operators::Operator;
use crate::auth::passwords::Passwords;
use crate::auth::sessions::Ended;
use crate::commit::{GroupCommit, Mutation, Record as _, Target};
use crate::core::call::Call;
use crate::core::role::Role;
use crate::core::violations::{Reason, Violations};
use crate::error::Result as CallResult;
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::{self, mutate, prepare_and_mutate, read, set_request_key, target};
use leadsmith_proto::{self as proto, operator_service_server::OperatorService};

/// See `operator_service.proto`.
pub struct OperatorApi {
    /// The use cases.
    pub operators: Operators,
    /// Checks new passwords.
    pub passwords: Passwords,
    /// Commits the changes.
    pub commit: GroupCommit,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

paged!(
    ListOperatorsRequest,
    ListOperatorSessionsRequest,
    ListOperatorHistoryRequest
);

/// The renderer of a response that has only the operator.
macro_rules! with_operator {
    ($response:ident) => {
        |operator| proto::$response {
            operator: Some(render::whole(operator, Vec::new())),
        }
    };
}

impl OperatorApi {
    /// Commits a change of an operator that is prepared first.
    async fn apply<R, P>(
        &self,
        call: &Call,
        id: Uuid,
        prepare: impl Fn() -> P,
        render: fn(Operator) -> R,
    ) -> Result<Response<R>, Status>
    where
        R: prost::Message + Default + 'static,
        P: Future<Output = CallResult<Mutation<Operator>>>,
    {
        // A refusal may come before the locks are known.
        call.notes.about(Operator::NAME, id);
        prepare_and_mutate(&self.commit, call, prepare, render).await
    }
}

#[tonic::async_trait]
impl OperatorService for OperatorApi {
    async fn create(
        &self,
        request: Request<proto::CreateOperatorRequest>,
    ) -> Result<Response<proto::CreateOperatorResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(Operator::NAME);
        let password = SecretString::from(std::mem::take(&mut body.password));
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let new = parse::new_operator(
            &mut violations,
            &self.passwords,
            body.operator,
            password,
            body.validate_only,
        );
        violations.finish()?;
        let render: fn(Operator) -> _ = if new.validate_only {
            |operator| proto::CreateOperatorResponse {
                operator: Some(render::preview(operator)),
            }
        } else {
            with_operator!(CreateOperatorResponse)
        };
        let prepare = || self.operators.prepare_create(new.clone());
        prepare_and_mutate(&self.commit, &call, prepare, render).await
    }

    async fn get(
        &self,
        request: Request<proto::GetOperatorRequest>,
    ) -> Result<Response<proto::GetOperatorResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about(Operator::NAME, id);
        let operator = self.operators.get(id).await?;
        let operator = match call.role {
            Role::Admin => {
                let operators = [operator];
                let locks = self.operators.locks(&operators).await?;
                let [operator] = operators;
                render::whole(operator, locks.into_iter().flatten().collect())
            }
            Role::Viewer | Role::Sales => render::public(operator),
        };
        Ok(Response::new(proto::GetOperatorResponse {
            operator: Some(operator),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListOperatorsRequest>,
    ) -> Result<Response<proto::ListOperatorsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        violations.finish()?;
        let watch_token = page.watch_token().await?;
        let rows = self.operators.list(body.enabled, page.input()?).await?;
        let page = match call.role {
            Role::Admin => {
                let locks = self.operators.locks(&rows.rows).await?.into_iter();
                let mut locks = locks.map(Some);
                let rows = rows.map(|operator| {
                    let locks = locks.next().flatten().unwrap_or_default();
                    Ok((operator, locks))
                })?;
                page.build(
                    rows,
                    |(last, _)| last.id,
                    |(operator, locks)| render::whole(operator, locks),
                )?
            }
            Role::Viewer | Role::Sales => page.build(rows, |last| last.id, render::public)?,
        };
        Ok(Response::new(proto::ListOperatorsResponse {
            operators: page.rows,
            next_page_token: page.next_page_token,
            watch_token,
        }))
    }

    async fn update(
        &self,
        request: Request<proto::UpdateOperatorRequest>,
    ) -> Result<Response<proto::UpdateOperatorResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(Operator::NAME);
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let operator = body.operator.unwrap_or_else(|| {
            violations.add("operator", Reason::Required, "is required");
            proto::Operator::default()
        });
        let target = Target {
            id: read::id(&mut violations, "operator.id", &operator.id),
            etag: operator.etag.clone(),
            validate_only: body.validate_only,
        };
        let patch = parse::patch(&mut violations, &operator, body.update_mask);
        violations.finish()?;
        let prepare = || self.operators.prepare_update(target.clone(), patch.clone());
        let render = with_operator!(UpdateOperatorResponse);
        self.apply(&call, target.id, prepare, render).await
    }

    async fn disable(
        &self,
        request: Request<proto::DisableOperatorRequest>,
    ) -> Result<Response<proto::DisableOperatorResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(Operator::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let prepare = || self.operators.prepare_disable(target.clone());
        let render = with_operator!(DisableOperatorResponse);
        self.apply(&call, target.id, prepare, render).await
    }

    async fn enable(
        &self,
        request: Request<proto::EnableOperatorRequest>,
    ) -> Result<Response<proto::EnableOperatorResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(Operator::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let render = with_operator!(EnableOperatorResponse);
        mutate(&self.commit, call, super::enable(target), render).await
    }

    async fn reset_password(
        &self,
        request: Request<proto::ResetPasswordRequest>,
    ) -> Result<Response<proto::ResetPasswordResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(Operator::NAME);
        let password = SecretString::from(std::mem::take(&mut body.new_password));
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        parse::password(&mut violations, &self.passwords, "new_password", &password);
        violations.finish()?;
        let prepare = || self.operators.prepare_reset(target.clone(), &password);
        let render = with_operator!(ResetPasswordResponse);
        self.apply(&call, target.id, prepare, render).await
    }

    async fn unlock(
        &self,
        request: Request<proto::UnlockOperatorRequest>,
    ) -> Result<Response<proto::UnlockOperatorResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(Operator::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let prepare = || self.operators.prepare_unlock(target.clone());
        let render = with_operator!(UnlockOperatorResponse);
        self.apply(&call, target.id, prepare, render).await
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListOperatorSessionsRequest>,
    ) -> Result<Response<proto::ListOperatorSessionsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about(Operator::NAME, id);
        let rows = self.operators.sessions(id, page.input()?).await?;
        let page = render::sessions(&page, rows, call.session)?;
        Ok(Response::new(proto::ListOperatorSessionsResponse {
            sessions: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn end_sessions(
        &self,
        request: Request<proto::EndOperatorSessionsRequest>,
    ) -> Result<Response<proto::EndOperatorSessionsResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(Operator::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        let session = read::optional_id(&mut violations, "session_id", &body.session_id);
        violations.finish()?;
        let ended = session.map_or(Ended::All, Ended::One);
        let prepare = || self.operators.prepare_end_sessions(target.clone(), ended);
        let render = with_operator!(EndOperatorSessionsResponse);
        self.apply(&call, target.id, prepare, render).await
    }

    async fn list_history(
        &self,
        request: Request<proto::ListOperatorHistoryRequest>,
    ) -> Result<Response<proto::ListOperatorHistoryResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about(Operator::NAME, id);
        let rows = self.operators.history(id, page.input()?).await?;
        let page = page.build(rows, |last| last.version, grpc::render::entry)?;
        Ok(Response::new(proto::ListOperatorHistoryResponse {
            entries: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

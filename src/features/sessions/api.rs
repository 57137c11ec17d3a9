//! `AuthService`: conversion between messages and domain types.

use std::sync::Arc;

use secrecy::SecretString;
use tonic::{Request, Response, Status};

use crate::auth::peer::Peer;
use crate::auth::sessions::{self, Ended};
use crate::auth::{self, Auth, errors, passwords, require_operator};
use crate::commit::GroupCommit;
use crate::core::call_notes::CallNotes;
use crate::core::text;
use crate::core::violations::{Reason, Violations};
use crate::error::Error;
use crate::features::operators::Operators;
use crate::features::operators::api::render;
use crate::grpc::enums::WireEnum as _;
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::{self, prepare_and_mutate, read};
use leadsmith_proto::{self as proto, auth_service_server::AuthService};

/// The maximum number of bytes of a username in a request: 64 letters, each with the accents that it is
/// composed of.
const MAX_USERNAME: usize = 1_024;

/// See `auth_service.proto`.
pub struct AuthApi {
    /// Authentication.
    pub auth: Arc<Auth>,
    /// The use cases of operators.
    pub operators: Operators,
    /// Commits the changes.
    pub commit: GroupCommit,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

paged!(ListSessionsRequest);

#[tonic::async_trait]
impl AuthService for AuthApi {
    async fn sign_in(
        &self,
        request: Request<proto::SignInRequest>,
    ) -> Result<Response<proto::SignInResponse>, Status> {
        let address = request.extensions().get::<Peer>().map(|peer| peer.address);
        let notes = request.extensions().get::<CallNotes>().cloned();
        let notes = notes.unwrap_or_default();
        let body = request.into_inner();
        let mut violations = Violations::default();
        let length = "must be 1 to 1,024 bytes long";
        if body.username.trim().is_empty() {
            violations.add("username", Reason::Required, length);
        } else if body.username.len() > MAX_USERNAME {
            violations.add("username", Reason::TooLong, length);
        }
        if text::has_control(&body.username) {
            violations.add(
                "username",
                Reason::CharacterInvalid,
                "must not contain control characters",
            );
        }
        passwords::check_given(&mut violations, "password", &body.password);
        violations.finish()?;
        let password = SecretString::from(body.password);
        if body.validate_only {
            let operator =
                auth::check_sign_in(&self.auth, &body.username, password, address, &notes).await?;
            return Ok(Response::new(proto::SignInResponse {
                operator: Some(render::own(operator)),
                ..Default::default()
            }));
        }
        let session = auth::sign_in(&self.auth, &body.username, password, address, &notes).await?;
        Ok(Response::new(proto::SignInResponse {
            token: session.token.expose().to_owned(),
            expire_time: Some(grpc::render::time(session.expire_time)),
            operator: Some(render::own(session.operator)),
        }))
    }

    async fn sign_out(
        &self,
        request: Request<proto::SignOutRequest>,
    ) -> Result<Response<proto::SignOutResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        auth::sign_out(&self.auth, &call, body.validate_only).await?;
        Ok(Response::new(proto::SignOutResponse {}))
    }

    async fn who_am_i(
        &self,
        request: Request<proto::WhoAmIRequest>,
    ) -> Result<Response<proto::WhoAmIResponse>, Status> {
        let (call, _) = grpc::open(request)?;
        Ok(Response::new(proto::WhoAmIResponse {
            principal: Some(grpc::render::principal(Arc::unwrap_or_clone(
                call.principal,
            ))),
            role: call.role.to_wire(),
        }))
    }

    async fn change_password(
        &self,
        request: Request<proto::ChangePasswordRequest>,
    ) -> Result<Response<proto::ChangePasswordResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        require_operator(&call)?;
        if body.current_password.is_empty() {
            return Err(errors::current_password_required().into());
        }
        let mut violations = Violations::default();
        passwords::check_given(&mut violations, "current_password", &body.current_password);
        let rules = &self.auth.passwords;
        rules.check_new(&mut violations, "new_password", &body.new_password);
        violations.finish()?;
        let current = SecretString::from(body.current_password);
        let new = SecretString::from(body.new_password);
        let prepare = || {
            self.operators
                .prepare_password_change(&call, &current, &new, body.validate_only)
        };
        let render = |_| proto::ChangePasswordResponse {};
        prepare_and_mutate(&self.commit, &call, prepare, render).await
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let operator = require_operator(&call)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        violations.finish()?;
        let rows = sessions::list(&self.auth, operator, page.input()?).await?;
        let page = render::sessions(&page, rows, call.session)?;
        Ok(Response::new(proto::ListSessionsResponse {
            sessions: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn end_session(
        &self,
        request: Request<proto::EndSessionRequest>,
    ) -> Result<Response<proto::EndSessionResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        require_operator(&call)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        sessions::end_own(&self.auth, &call, Ended::One(id), body.validate_only).await?;
        Ok(Response::new(proto::EndSessionResponse {}))
    }

    async fn end_other_sessions(
        &self,
        request: Request<proto::EndOtherSessionsRequest>,
    ) -> Result<Response<proto::EndOtherSessionsResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let own = call.session.ok_or_else(Error::operator_required)?;
        sessions::end_own(&self.auth, &call, Ended::AllExcept(own), body.validate_only).await?;
        Ok(Response::new(proto::EndOtherSessionsResponse {}))
    }
}

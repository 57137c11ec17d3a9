//! `AuthService`: conversion between messages and domain types.

use std::sync::Arc;

use secrecy::SecretString;
use tonic::{Request, Response, Status};

use crate::auth::operators::Operator;
use crate::auth::peer::Peer;
use crate::auth::{self, Auth, errors, passwords, require_operator};
use crate::core::call_notes::CallNotes;
use crate::core::text;
use crate::core::violations::{Reason, Violations};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::{self, render};
use leadsmith_proto::{self as proto, auth_service_server::AuthService};

/// The maximum number of bytes of a username in a request: 64 letters, each with the accents that it is
/// composed of.
const MAX_USERNAME: usize = 1_024;

/// See `auth_service.proto`.
pub struct AuthApi {
    /// Authentication.
    pub auth: Arc<Auth>,
}

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
                operator: Some(render_operator(operator)),
                ..Default::default()
            }));
        }
        let session = auth::sign_in(&self.auth, &body.username, password, address, &notes).await?;
        Ok(Response::new(proto::SignInResponse {
            token: session.token.expose().to_owned(),
            expire_time: Some(render::time(session.expire_time)),
            operator: Some(render_operator(session.operator)),
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
            principal: Some(render::principal(Arc::unwrap_or_clone(call.principal))),
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
        passwords::check_new(&mut violations, "new_password", &body.new_password);
        violations.finish()?;
        let (current, new) = (body.current_password.into(), body.new_password.into());
        auth::change_password(&self.auth, &call, current, new, body.validate_only).await?;
        Ok(Response::new(proto::ChangePasswordResponse {}))
    }
}

fn render_operator(operator: Operator) -> proto::Operator {
    proto::Operator {
        id: operator.id.to_string(),
        username: operator.username,
        display_name: operator.display_name,
        role: operator.role.to_wire(),
    }
}

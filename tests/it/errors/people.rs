//! Calls of OperatorService and ServiceAccountService that fail.

use leadsmith_proto::{self as proto, ErrorReason};
use tonic::Status;

use super::{UNKNOWN, refused};
use crate::harness::Harness;

/// Makes a call that fails with this reason and returns its error.
#[expect(clippy::wildcard_enum_match_arm, reason = "only some come here")]
pub async fn provoke(h: &Harness, reason: ErrorReason) -> Status {
    use ErrorReason as R;
    let (mut operators, mut accounts) = (h.admin.operators(), h.admin.service_accounts());
    match reason {
        R::OperatorNotFound => {
            let request = proto::GetOperatorRequest { id: UNKNOWN.into() };
            refused(operators.get(request).await)
        }
        R::DuplicateOperator => {
            let operator = Some(proto::Operator {
                username: "Sales".into(),
                role: proto::Role::Sales.into(),
                ..Default::default()
            });
            let request = proto::CreateOperatorRequest {
                operator,
                password: "a long enough password".into(),
                ..Default::default()
            };
            refused(operators.create(request).await)
        }
        R::LastAdmin => {
            let id = h.admin.id.to_string();
            let request = proto::DisableOperatorRequest {
                id,
                ..Default::default()
            };
            refused(operators.disable(request).await)
        }
        R::SessionNotFound => {
            let request = proto::EndSessionRequest {
                id: UNKNOWN.into(),
                ..Default::default()
            };
            refused(h.sales.auth().end_session(request).await)
        }
        R::ServiceAccountNotFound => {
            let request = proto::GetServiceAccountRequest { id: UNKNOWN.into() };
            refused(accounts.get(request).await)
        }
        R::ApiKeyNotFound => {
            let request = proto::RevokeKeyRequest {
                id: UNKNOWN.into(),
                ..Default::default()
            };
            refused(accounts.revoke_key(request).await)
        }
        R::DuplicateServiceAccount => {
            accounts.create(account("taken", "")).await.unwrap();
            refused(accounts.create(account("taken", "")).await)
        }
        R::DuplicateCertificateName => {
            let name = "DNS:crm.example";
            accounts.create(account("one", name)).await.unwrap();
            refused(accounts.create(account("other", name)).await)
        }
        other => panic!("{other:?} is no reason of these services"),
    }
}

fn account(name: &str, certificate_name: &str) -> proto::CreateServiceAccountRequest {
    proto::CreateServiceAccountRequest {
        service_account: Some(proto::ServiceAccount {
            name: name.into(),
            role: proto::Role::Viewer.into(),
            certificate_name: certificate_name.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

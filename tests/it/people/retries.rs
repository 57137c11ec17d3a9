//! Every change of an operator or a service account can be retried: a retry with the same request id gets the same
//! bytes, on every server, and changes nothing.

use std::collections::BTreeSet;

use leadsmith_proto as proto;
use prost::Message;
use prost_reflect::DescriptorPool;
use uuid::Uuid;

use super::{OTHER, create, new_operator};
use crate::harness::{Caller, Harness, reason};
use crate::{on_both, raw};

/// An RPC with an encoded request, and the same request with another body.
struct Call(&'static str, Vec<u8>, Vec<u8>);

fn call<R: Message + Clone>(rpc: &'static str, request: R, other: impl Fn(&mut R)) -> Call {
    let mut changed = request.clone();
    other(&mut changed);
    Call(rpc, request.encode_to_vec(), changed.encode_to_vec())
}

/// The message with this name, for a record with this id, with a new request id.
macro_rules! request {
    ($message:ident, $id:expr) => {
        proto::$message {
            id: $id.clone(),
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        }
    };
}

async fn operator_calls(admin: &Caller) -> Vec<Call> {
    let id = create(admin, "ada", proto::Role::Sales).await.id;
    let new = proto::CreateOperatorRequest {
        request_id: Uuid::now_v7().to_string(),
        ..new_operator("bob", proto::Role::Sales)
    };
    let update = proto::UpdateOperatorRequest {
        operator: Some(proto::Operator {
            id: id.clone(),
            display_name: "Ada King".into(),
            ..Default::default()
        }),
        request_id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let reset = proto::ResetPasswordRequest {
        new_password: OTHER.into(),
        ..request!(ResetPasswordRequest, id)
    };
    vec![
        call("OperatorService/Create", new, |r| r.operator = None),
        call("OperatorService/Update", update, |r| {
            if let Some(operator) = &mut r.operator {
                operator.display_name.clear();
            }
        }),
        call(
            "OperatorService/Disable",
            request!(DisableOperatorRequest, id),
            |r| r.etag = "\"1\"".into(),
        ),
        call(
            "OperatorService/Enable",
            request!(EnableOperatorRequest, id),
            |r| r.etag = "\"1\"".into(),
        ),
        call("OperatorService/ResetPassword", reset, |r| {
            r.etag = "\"1\"".into()
        }),
        call(
            "OperatorService/Unlock",
            request!(UnlockOperatorRequest, id),
            |r| r.etag = "\"1\"".into(),
        ),
        call(
            "OperatorService/EndSessions",
            request!(EndOperatorSessionsRequest, id),
            |r| {
                r.etag = "\"1\"".into();
            },
        ),
    ]
}

async fn account_calls(h: &Harness) -> Vec<Call> {
    let console = h.console();
    let role = leadsmith::core::role::Role::Sales;
    let id = console
        .create_account("billing", role)
        .await
        .unwrap()
        .id
        .to_string();
    let (key, _) = console.create_key("billing").await.unwrap();
    let key = key.key.id.to_string();
    let new = proto::CreateServiceAccountRequest {
        service_account: Some(proto::ServiceAccount {
            name: "crm".into(),
            role: proto::Role::Sales.into(),
            ..Default::default()
        }),
        request_id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let update = proto::UpdateServiceAccountRequest {
        service_account: Some(proto::ServiceAccount {
            id: id.clone(),
            certificate_name: "DNS:billing.example".into(),
            ..Default::default()
        }),
        request_id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    vec![
        call("ServiceAccountService/Create", new, |r| {
            if let Some(account) = &mut r.service_account {
                account.name = "erp".into();
            }
        }),
        call("ServiceAccountService/Update", update, |r| {
            if let Some(account) = &mut r.service_account {
                account.role = proto::Role::Viewer.into();
            }
        }),
        call(
            "ServiceAccountService/Disable",
            request!(DisableServiceAccountRequest, id),
            |r| {
                r.etag = "\"1\"".into();
            },
        ),
        call(
            "ServiceAccountService/Enable",
            request!(EnableServiceAccountRequest, id),
            |r| {
                r.etag = "\"1\"".into();
            },
        ),
        call(
            "ServiceAccountService/RevokeKey",
            request!(RevokeKeyRequest, key),
            |r| r.etag = "\"1\"".into(),
        ),
    ]
}

async fn send(caller: &Caller, rpc: &str, body: &[u8]) -> Result<Vec<u8>, tonic::Status> {
    let header = format!("Bearer {}", caller.token);
    let rpc = format!("leadsmith.v1.{rpc}");
    let answer = raw::call(
        &caller.channel,
        &rpc,
        Some(header.as_bytes()),
        body.to_vec(),
    )
    .await?;
    Ok(answer.unwrap())
}

/// The RPCs of the two services that take a request id, except CreateKey: its retry does not get the key again, which
/// `service_accounts.rs` tests.
fn with_request_id() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
    let mut rpcs = BTreeSet::new();
    for service in ["OperatorService", "ServiceAccountService"] {
        let found = pool.get_service_by_name(&format!("leadsmith.v1.{service}"));
        for method in found.unwrap().methods() {
            if method.input().get_field_by_name("request_id").is_some() {
                rpcs.insert(format!("{service}/{}", method.name()));
            }
        }
    }
    assert!(rpcs.remove("ServiceAccountService/CreateKey"));
    rpcs
}

on_both! {
    async fn every_change_of_people_and_machines_can_be_retried(h: Harness) {
        let second = h.another_server(|_| {}).await;
        let there = h.admin.at(&second);
        let mut calls = operator_calls(&h.admin).await;
        calls.extend(account_calls(&h).await);
        let tested: BTreeSet<String> = calls.iter().map(|Call(rpc, ..)| (*rpc).to_owned()).collect();
        assert_eq!(tested, with_request_id());
        let history = "SELECT count(*) FROM history";
        for Call(rpc, request, other) in &calls {
            let first = send(&h.admin, rpc, request).await.unwrap_or_else(|status| panic!("{rpc}: {status:?}"));
            let written = h.count(history).await;
            for caller in [&h.admin, &there] {
                assert_eq!(send(caller, rpc, request).await.unwrap(), first, "{rpc}");
            }
            assert_eq!(h.count(history).await, written, "{rpc}");
            let refused = send(&there, rpc, other).await.unwrap_err();
            // A body that is invalid by itself is refused for that.
            let reason = reason(&refused);
            assert!(["REQUEST_ID_REUSED", "FIELD_INVALID"].contains(&reason.as_str()), "{rpc}: {refused:?}");
        }
        // The answers to the first calls stay the same whatever was changed since.
        for Call(rpc, request, _) in &calls {
            send(&there, rpc, request).await.unwrap_or_else(|status| panic!("{rpc}: {status:?}"));
        }
        second.stop().await.unwrap();
    }
}

//! Authorisation: every RPC with every kind of caller.

use leadsmith::core::text_enum::TextEnum as _;
use std::collections::BTreeSet;

use leadsmith::auth::policy::{Access, RPCS};
use leadsmith::core::role::Role;
use prost_reflect::DescriptorPool;
use sea_orm::ConnectionTrait;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Harness, PASSWORD, metadata, reason, sign_in};
use crate::{on_both, raw};

/// Every RPC in the descriptors of what the server serves, as `package.Service/Method`.
fn served() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for descriptors in [
        leadsmith_proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        let pool = DescriptorPool::decode(descriptors).unwrap();
        for service in pool.services() {
            for method in service.methods() {
                names.insert(format!("{}/{}", service.full_name(), method.name()));
            }
        }
    }
    names
}

/// The access that the contract requires for an RPC, written independently of the service's table.
fn promised(rpc: &str) -> Access {
    let (service, method) = rpc.split_once('/').unwrap();
    if rpc == "leadsmith.v1.AuthService/SignIn" || service.starts_with("grpc.") {
        return Access::Open;
    }
    let service_name = service.strip_prefix("leadsmith.v1.").unwrap();
    match (service_name, method) {
        ("AuthService", _) => Access::Principal,
        ("OperatorService", "Get" | "List") => Access::AtLeast(Role::Viewer),
        ("OperatorService" | "ServiceAccountService", _) => Access::AtLeast(Role::Admin),
        ("EventService", "Watch")
        | ("DashboardService", _)
        | (
            _,
            "Get" | "BatchGet" | "List" | "ListDuplicates" | "Search" | "ListHistory" | "ListRuns",
        ) => Access::AtLeast(Role::Viewer),
        ("LeadService", "Erase")
        | ("OrderQueueService", "Create" | "Update" | "Archive" | "Unarchive") => {
            Access::AtLeast(Role::Admin)
        }
        (
            "LeadService",
            "Create" | "Update" | "Deactivate" | "Reactivate" | "Convert" | "RevertConversion",
        )
        | ("OpportunityService", "Create" | "Update" | "Close" | "Reopen")
        | (
            "OrderService",
            "Create" | "RunAction" | "ClaimActions" | "ReportAction" | "ReleaseAction"
            | "SkipAction" | "UndoSkip" | "Move" | "Cancel" | "Comment",
        ) => Access::AtLeast(Role::Sales),
        _ => panic!("the contract does not say who may call {rpc}"),
    }
}

#[test]
fn the_table_has_every_rpc_once_and_no_other() {
    let mut table = BTreeSet::new();
    for (rpc, _) in RPCS {
        assert!(table.insert((*rpc).to_owned()), "{rpc} is in it twice");
    }
    let served = served();
    assert!(served.len() > 20, "{served:?}");
    let missing: Vec<_> = served.difference(&table).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    let surplus: Vec<_> = table.difference(&served).collect();
    assert!(surplus.is_empty(), "no such RPC: {surplus:?}");
}

#[test]
fn the_table_is_what_the_contract_promises() {
    for (rpc, access) in RPCS {
        assert_eq!(*access, promised(rpc), "{rpc}");
    }
}

/// Whether the call passed authentication and authorisation.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Admitted,
    NotKnown,
    RoleTooLow,
}

/// The expected result for a caller with this role; none for a caller without a valid token.
fn expected(rpc: &str, role: Option<Role>) -> Admission {
    match (promised(rpc), role) {
        (Access::Open, _) | (Access::Principal, Some(_)) => Admission::Admitted,
        (Access::Principal | Access::AtLeast(_), None) => Admission::NotKnown,
        (Access::AtLeast(required), Some(role)) if role < required => Admission::RoleTooLow,
        (Access::AtLeast(_), Some(_)) => Admission::Admitted,
    }
}

fn admission(answer: Result<Option<Vec<u8>>, Status>) -> (Admission, Option<Status>) {
    let Err(status) = answer else {
        return (Admission::Admitted, None);
    };
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    let admission = match reason {
        Some("TOKEN_INVALID") => Admission::NotKnown,
        Some("ROLE_INSUFFICIENT") => Admission::RoleTooLow,
        Some(_) | None => Admission::Admitted,
    };
    (admission, Some(status))
}

/// A kind of caller.
struct Who {
    name: String,
    role: Option<Role>,
    authorization: Option<String>,
    /// For a new sign-in if the session was ended.
    username: Option<String>,
}

async fn everybody(h: &Harness) -> Vec<Who> {
    let console = h.console();
    let expired = h.operator("expired", Role::Admin).await;
    h.database
        .connect()
        .await
        .execute_unprepared(
            "UPDATE sessions SET expire_time = create_time WHERE operator_id = \
             (SELECT id FROM operators WHERE username = 'expired')",
        )
        .await
        .unwrap();
    let revoked = h.service_account("revoked", Role::Admin).await;
    let (key, second_revoked) = console.create_key("revoked").await.unwrap();
    console.revoke_key(key.key.id).await.unwrap();
    assert_ne!(revoked.token, second_revoked.expose());

    let nobody = |name: &str, authorization: Option<String>| Who {
        name: name.into(),
        role: None,
        authorization,
        username: None,
    };
    let mut all = vec![
        nobody("no token", None),
        nobody("malformed token", Some("Bearer nonsense".into())),
        nobody("expired session", Some(format!("Bearer {}", expired.token))),
        nobody(
            "revoked key",
            Some(format!("Bearer {}", second_revoked.expose())),
        ),
    ];
    for (role, operator) in [
        (Role::Viewer, &h.viewer),
        (Role::Sales, &h.sales),
        (Role::Admin, &h.admin),
    ] {
        let username = role.as_str().to_lowercase();
        let account = h.service_account(&username, role).await;
        all.push(Who {
            name: format!("{role} operator"),
            role: Some(role),
            authorization: Some(format!("Bearer {}", operator.token)),
            username: Some(username),
        });
        all.push(Who {
            name: format!("{role} service account"),
            role: Some(role),
            authorization: Some(format!("Bearer {}", account.token)),
            username: None,
        });
    }
    all
}

on_both! {
    async fn every_rpc_admits_whom_it_should_and_nobody_else(h: Harness) {
        let mut everybody = everybody(&h).await;
        let mut wrong = Vec::new();
        for rpc in served() {
            for who in &mut everybody {
                if rpc.ends_with("/SignOut") && let Some(username) = &who.username {
                    // A separate session, because the call ends it.
                    let token = sign_in(h.channel(), username, PASSWORD).await.unwrap();
                    let header = format!("Bearer {token}");
                    let answer =
                        raw::call(&h.channel(), &rpc, Some(header.as_bytes()), Vec::new()).await;
                    assert!(answer.is_ok(), "{answer:?}");
                    continue;
                }
                let header = who.authorization.as_ref().map(|header| header.as_bytes());
                let answer = raw::call(&h.channel(), &rpc, header, Vec::new()).await;
                let (admission, status) = admission(answer);
                if admission != expected(&rpc, who.role) {
                    wrong.push(format!("{rpc} by {}: {admission:?}", who.name));
                    continue;
                }
                let Some(status) = status else {
                    continue;
                };
                match admission {
                    Admission::NotKnown => assert_eq!(status.code(), Code::Unauthenticated),
                    Admission::RoleTooLow => {
                        assert_eq!(status.code(), Code::PermissionDenied);
                        let role = who.role.map_or("none", Role::as_str);
                        assert_eq!(metadata(&status, "role"), role);
                        let Access::AtLeast(required) = promised(&rpc) else {
                            panic!("{rpc} needs no role");
                        };
                        assert_eq!(metadata(&status, "required_role"), required.as_str());
                    }
                    Admission::Admitted => {
                        // Every admitted call must reach an implemented method.
                        assert_ne!(status.code(), Code::Unimplemented, "{rpc}");
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    async fn what_is_no_rpc_is_nobodys(h: Harness) {
        for rpc in ["leadsmith.v1.LeadService/Nonsense", "leadsmith.v1.Nonsense/Get", "nonsense"] {
            let status = raw::call(&h.channel(), rpc, None, Vec::new()).await.unwrap_err();
            assert_eq!(reason(&status), "TOKEN_INVALID", "{rpc}");
            let header = format!("Bearer {}", h.admin.token);
            let answer = raw::call(&h.channel(), rpc, Some(header.as_bytes()), Vec::new()).await;
            let status = answer.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{rpc}");
            assert_eq!(reason(&status), "METHOD_UNKNOWN", "{rpc}");
        }
    }
}

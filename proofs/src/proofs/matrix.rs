//! Every RPC with every kind of caller: is the call authorised? The RPCs are those of the descriptors that the
//! server itself serves. The role that each needs is derived from its name by the rules of the contract, without
//! the service's own table. Shown to fail by `any-role`.

use anyhow::{Context as _, Result};
use leadsmith_proto as proto;
use prost_reflect::DescriptorPool;
use tonic::Code;
use uuid::Uuid;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, Fixture, PASSWORD};
use crate::harness::program::Serving;
use crate::harness::raw::{Raw, code_and_reason, framed};
use crate::harness::report::Findings;

/// The access that an RPC requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    Nothing,
    Token,
    Viewer,
    Sales,
    Admin,
}

/// A kind of caller.
struct CallerKind {
    name: String,
    token: Option<String>,
    granted: Access,
    /// The operator whose session it is.
    username: Option<&'static str>,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller_kinds = caller_kinds(context, &fixture, &server).await?;
    let rpcs = rpcs()?;
    let mut cells = 0;
    let rounds = context.size(1, 20);
    for _ in 0..rounds {
        for rpc in &rpcs {
            for caller_kind in &caller_kinds {
                cells += 1;
                let token = match (rpc.ends_with("/SignOut"), caller_kind.username) {
                    // A separate session, because the call ends it.
                    (true, Some(name)) => Some(token_of(&server, name).await?),
                    _ => caller_kind.token.clone(),
                };
                let header = token.map(|token| format!("Bearer {token}"));
                let headers: Vec<_> = header
                    .iter()
                    .map(|value| ("authorization", value.as_str()))
                    .collect();
                let raw = Raw::connect(&server.address).await?;
                let status = raw.call(rpc, &headers, framed(0, &[])).await?;
                let access = access(rpc);
                let expected = match access {
                    None => false,
                    Some(Access::Nothing) => !is_rejection(&reason(&status)),
                    Some(_) if caller_kind.granted == Access::Nothing => {
                        code_and_reason(&status) == "Unauthenticated TOKEN_INVALID"
                    }
                    Some(access) if caller_kind.granted < access => {
                        code_and_reason(&status) == "PermissionDenied ROLE_INSUFFICIENT"
                    }
                    Some(_) => {
                        !is_rejection(&reason(&status)) && status.code() != Code::Unimplemented
                    }
                };
                findings.expect(expected, || {
                    format!(
                        "{rpc}, which needs {access:?}, by {}: {}",
                        caller_kind.name,
                        code_and_reason(&status)
                    )
                });
            }
        }
    }
    findings.fact("RPCs", rpcs.len());
    findings.fact("kinds of callers", caller_kinds.len());
    findings.fact("calls", cells);
    findings.finish()
}

fn is_rejection(reason: &str) -> bool {
    ["TOKEN_INVALID", "ROLE_INSUFFICIENT"].contains(&reason)
}

/// All RPCs of the service, and the health check.
fn rpcs() -> Result<Vec<String>> {
    let mut all = vec!["grpc.health.v1.Health/Check".to_owned()];
    for service in DescriptorPool::decode(leadsmith_proto::DESCRIPTORS)?.services() {
        for method in service.methods() {
            all.push(format!("{}/{}", service.full_name(), method.name()));
        }
    }
    Ok(all)
}

/// The access that the contract requires for an RPC; none if the contract does not mention the RPC, which is an
/// error.
fn access(rpc: &str) -> Option<Access> {
    let (service, method) = rpc.rsplit_once('/')?;
    let short_name = service.rsplit('.').next()?;
    Some(match (short_name, method) {
        ("Health", _) | ("AuthService", "SignIn") => Access::Nothing,
        ("AuthService", _) => Access::Token,
        ("OperatorService", "Get" | "List") => Access::Viewer,
        ("OperatorService" | "ServiceAccountService", _) | (_, "Erase") => Access::Admin,
        ("EventService" | "DashboardService", _) => Access::Viewer,
        (
            _,
            "Get" | "BatchGet" | "List" | "ListDuplicates" | "Search" | "ListHistory" | "ListRuns",
        ) => Access::Viewer,
        (
            "LeadService",
            "Create" | "Update" | "Deactivate" | "Reactivate" | "Convert" | "RevertConversion",
        )
        | ("OpportunityService", "Create" | "Update" | "Close" | "Reopen")
        | (
            "OrderService",
            "Create" | "RunAction" | "ClaimActions" | "ReportAction" | "ReleaseAction"
            | "SkipAction" | "UndoSkip" | "Move" | "Cancel" | "Comment",
        ) => Access::Sales,
        ("OrderQueueService", "Create" | "Update" | "Archive" | "Unarchive") => Access::Admin,
        _ => return None,
    })
}

async fn token_of(server: &Serving, username: &str) -> Result<String> {
    let request = proto::SignInRequest {
        username: username.to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    let caller = Caller::connect(&server.address, "").await?;
    let response = caller.auth().sign_in(request).await?;
    Ok(response.into_inner().token)
}

async fn caller_kinds(
    context: &Context<'_>,
    fixture: &Fixture,
    server: &Serving,
) -> Result<Vec<CallerKind>> {
    let url = fixture.database.url();
    let run = |arguments: &[&str]| context.program.command(&url, arguments);
    let operator = |name: &str, role: &str| {
        let create = ["operator", "create", "--username", name, "--role", role];
        context.program.command_with(&url, &create, PASSWORD)
    };
    let without_access = |name: &str, token: Option<String>| CallerKind {
        name: name.to_owned(),
        token,
        granted: Access::Nothing,
        username: None,
    };

    operator("expired", "ADMIN")?;
    let expired = token_of(server, "expired").await?;
    let db = fixture.database.connect().await?;
    db.execute("UPDATE sessions SET expire_time = create_time")
        .await?;
    run(&[
        "service-account",
        "create",
        "--name",
        "revoked",
        "--role",
        "ADMIN",
    ])?;
    let revoked = run(&["service-account", "create-key", "--name", "revoked"])?;
    let keys = "SELECT k.id FROM api_keys k JOIN service_accounts a \
                ON a.id = k.service_account_id WHERE a.name = 'revoked'";
    let keys = db.rows(keys).await?;
    let id: Uuid = keys
        .first()
        .context("there is no key")?
        .try_get_by_index(0)?;
    db.close().await?;
    run(&["service-account", "revoke-key", "--id", &id.to_string()])?;

    let mut all = vec![
        without_access("no token", None),
        without_access("a malformed token", Some("nonsense".to_owned())),
        without_access("an unknown token", Some(format!("lss_{}", "A".repeat(43)))),
        without_access("an expired session", Some(expired)),
        without_access("a revoked key", Some(revoked.trim().to_owned())),
    ];
    for (name, role, granted) in [
        ("viewer", "VIEWER", Access::Viewer),
        ("sales", "SALES", Access::Sales),
        ("admin", "ADMIN", Access::Admin),
    ] {
        operator(name, role)?;
        let session = token_of(server, name).await?;
        run(&["service-account", "create", "--name", name, "--role", role])?;
        let key = run(&["service-account", "create-key", "--name", name])?;
        for (kind, token, username) in [
            ("operator", session, Some(name)),
            ("service account", key.trim().to_owned(), None),
        ] {
            all.push(CallerKind {
                name: format!("a {role} {kind}"),
                token: Some(token),
                granted,
                username,
            });
        }
    }
    Ok(all)
}

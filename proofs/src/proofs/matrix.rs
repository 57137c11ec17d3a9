//! Every RPC by every kind of caller, in one question each: does the gate let them through? The RPCs are
//! those of the descriptors that the server itself serves, and what each needs is read from its name, by
//! the words of the contract, without a look at the service's own table. Shown to fail by
//! `any-role`.

use anyhow::{Context as _, Result};
use leadsmith::wire::proto;
use prost_reflect::DescriptorPool;
use tonic::Code;
use uuid::Uuid;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, Desk, PASSWORD};
use crate::harness::program::Serving;
use crate::harness::raw::{Raw, framed, told};
use crate::harness::report::Findings;

/// What an RPC needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Nothing,
    Token,
    Viewer,
    Sales,
    Admin,
}

/// Somebody to call as.
struct Who {
    name: String,
    token: Option<String>,
    has: Need,
    /// Whose session it is.
    username: Option<&'static str>,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, &[]).await?;
    let everybody = everybody(context, &desk, &server).await?;
    let rpcs = rpcs()?;
    let mut cells = 0;
    let rounds = context.size(1, 20);
    for _ in 0..rounds {
        for rpc in &rpcs {
            for who in &everybody {
                cells += 1;
                let token = match (rpc.ends_with("/SignOut"), who.username) {
                    // Of its own, because it ends here.
                    (true, Some(name)) => Some(token_of(&server, name).await?),
                    _ => who.token.clone(),
                };
                let header = token.map(|token| format!("Bearer {token}"));
                let headers: Vec<_> = header
                    .iter()
                    .map(|value| ("authorization", value.as_str()))
                    .collect();
                let raw = Raw::connect(&server.address).await?;
                let status = raw.call(rpc, &headers, framed(0, &[])).await?;
                let need = need(rpc);
                let right = match need {
                    None => false,
                    Some(Need::Nothing) => !is_refusal(&reason(&status)),
                    Some(_) if who.has == Need::Nothing => {
                        told(&status) == "Unauthenticated TOKEN_INVALID"
                    }
                    Some(need) if who.has < need => {
                        told(&status) == "PermissionDenied ROLE_INSUFFICIENT"
                    }
                    Some(_) => {
                        !is_refusal(&reason(&status)) && status.code() != Code::Unimplemented
                    }
                };
                findings.expect(right, || {
                    format!(
                        "{rpc}, which needs {need:?}, by {}: {}",
                        who.name,
                        told(&status)
                    )
                });
            }
        }
    }
    findings.fact("RPCs", rpcs.len());
    findings.fact("kinds of callers", everybody.len());
    findings.fact("calls", cells);
    findings.finish()
}

fn is_refusal(reason: &str) -> bool {
    ["TOKEN_INVALID", "ROLE_INSUFFICIENT"].contains(&reason)
}

/// Every RPC of ours, and health's.
fn rpcs() -> Result<Vec<String>> {
    let mut all = vec!["grpc.health.v1.Health/Check".to_owned()];
    for service in DescriptorPool::decode(leadsmith::wire::DESCRIPTORS)?.services() {
        for method in service.methods() {
            all.push(format!("{}/{}", service.full_name(), method.name()));
        }
    }
    Ok(all)
}

/// What the contract says of an RPC; none where it says nothing, which is a fault.
fn need(rpc: &str) -> Option<Need> {
    let (service, method) = rpc.rsplit_once('/')?;
    let room = service.rsplit('.').next()?;
    Some(match (room, method) {
        ("Health", _) | ("AuthService", "SignIn") => Need::Nothing,
        ("AuthService", _) => Need::Token,
        ("OperatorService" | "ServiceAccountService", _) | (_, "Erase") => Need::Admin,
        ("DashboardService", _) => Need::Viewer,
        (_, "Get" | "List" | "Search" | "ListHistory" | "ListRuns") => Need::Viewer,
        ("LeadService", "Create" | "Update" | "Deactivate" | "Reactivate" | "Convert")
        | ("OpportunityService", "Create" | "Update" | "Close" | "Reopen")
        | ("OrderService", "Create" | "RunAction" | "SkipAction" | "Cancel") => Need::Sales,
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
    let answer = caller.auth().sign_in(request).await?;
    Ok(answer.into_inner().token)
}

async fn everybody(context: &Context<'_>, desk: &Desk, server: &Serving) -> Result<Vec<Who>> {
    let url = desk.database.url();
    let run = |arguments: &[&str]| context.program.command(&url, arguments);
    let operator = |name: &str, role: &str| {
        let create = ["operator", "create", "--username", name, "--role", role];
        context.program.command_with(&url, &create, PASSWORD)
    };
    let nobody = |name: &str, token: Option<String>| Who {
        name: name.to_owned(),
        token,
        has: Need::Nothing,
        username: None,
    };

    operator("expired", "ADMIN")?;
    let expired = token_of(server, "expired").await?;
    let db = desk.database.connect().await?;
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
        nobody("no token", None),
        nobody("a malformed token", Some("nonsense".to_owned())),
        nobody("an unknown token", Some(format!("lss_{}", "A".repeat(43)))),
        nobody("an expired session", Some(expired)),
        nobody("a revoked key", Some(revoked.trim().to_owned())),
    ];
    for (name, role, has) in [
        ("viewer", "VIEWER", Need::Viewer),
        ("sales", "SALES", Need::Sales),
        ("admin", "ADMIN", Need::Admin),
    ] {
        operator(name, role)?;
        let session = token_of(server, name).await?;
        run(&["service-account", "create", "--name", name, "--role", role])?;
        let key = run(&["service-account", "create-key", "--name", name])?;
        for (kind, token, username) in [
            ("operator", session, Some(name)),
            ("service account", key.trim().to_owned(), None),
        ] {
            all.push(Who {
                name: format!("a {role} {kind}"),
                token: Some(token),
                has,
                username,
            });
        }
    }
    Ok(all)
}

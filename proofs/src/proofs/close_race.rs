//! 64 concurrent calls, on PostgreSQL over three replicas, edit one opportunity, close it as won or lost, and reopen
//! it. Its history must be a sequence that the lifecycle allows. Shown to fail by `closed-is-edited`.

use std::collections::BTreeMap;

use anyhow::Result;
use leadsmith_proto::{HistoryEntry, ListOpportunityHistoryRequest, OpportunityOutcome};
use tokio::task::JoinSet;
use tonic::Status;

use crate::harness::client::{Caller, reason_or_code};
use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::{consistency, requests};

const CALLERS: usize = 64;

/// The reasons with which a call may fail.
const DOCUMENTED: &[&str] = &[
    "OPPORTUNITY_CLOSED",
    "OPPORTUNITY_OPEN",
    "WRITE_CONFLICT",
    "DATABASE_UNAVAILABLE",
];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let servers = context.replicas(&fixture, 3, &[]).await?;
    let mut callers = Vec::new();
    for server in &servers {
        callers.extend(fixture.callers(server, 2).await?);
    }
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut accepted: BTreeMap<&str, usize> = BTreeMap::new();
    let races = context.size(30, 1_000);
    for race in 0..races {
        let lead = callers[0].create(&format!("Race {race}"), "").await?.id;
        let id = callers[0].opportunity(&lead, "Race").await?;
        let mut calls = JoinSet::new();
        for number in 0..CALLERS {
            let caller = callers[random.usize(..callers.len())].clone();
            let (id, dice) = (id.clone(), random.u32(..8));
            calls.spawn(async move { act(&caller, &id, number, dice).await });
        }
        let mut changes = 0;
        for outcome in calls.join_all().await {
            match outcome {
                Ok(rpc) => {
                    changes += 1;
                    *accepted.entry(rpc).or_default() += 1;
                }
                Err(status) => *refused.entry(reason_or_code(&status)).or_default() += 1,
            }
        }
        let request = ListOpportunityHistoryRequest {
            id: id.clone(),
            page_size: 1_000,
            ..Default::default()
        };
        let request = callers[0].request(request);
        let response = callers[0].opportunities().list_history(request).await?;
        let mut entries = response.into_inner().entries;
        entries.reverse();
        findings.expect(entries.len() == changes + 1, || {
            format!(
                "{changes} changes were accepted, but the history has {}",
                entries.len()
            )
        });
        replay(&entries, &mut findings);
    }
    consistency::check(&fixture.database, &mut findings).await?;
    findings.fact("races", races);
    findings.fact("replicas", servers.len());
    for (rpc, count) in accepted {
        findings.fact(&format!("accepted {rpc}"), count);
    }
    for (reason, count) in refused {
        findings.fact(&format!("failed with {reason}"), count);
        findings.expect(DOCUMENTED.contains(&reason.as_str()), || {
            format!("{count} calls failed with {reason}")
        });
    }
    findings.finish()
}

/// Makes a random call, each of which is a change if it is accepted. Returns the name of its RPC.
async fn act(caller: &Caller, id: &str, number: usize, dice: u32) -> Result<&'static str, Status> {
    let mut opportunities = caller.opportunities();
    let request_id = String::new();
    match dice {
        0..4 => {
            let request = requests::next_step(id, &number.to_string(), request_id);
            opportunities.update(caller.request(request)).await?;
            Ok("Update")
        }
        4 | 5 => {
            let outcome = match dice {
                4 => OpportunityOutcome::Won,
                _ => OpportunityOutcome::Lost,
            };
            let request = requests::close(id, outcome, request_id);
            opportunities.close(caller.request(request)).await?;
            Ok("Close")
        }
        _ => {
            let request = requests::reopen(id, request_id);
            opportunities.reopen(caller.request(request)).await?;
            Ok("Reopen")
        }
    }
}

/// Replays a history, oldest first: each entry must be a change that the state before it allows.
fn replay(entries: &[HistoryEntry], findings: &mut Findings) {
    let mut state = "";
    let mut next_step = "";
    for entry in entries {
        let rpc = entry.rpc.rsplit('/').next().unwrap_or_default();
        let is_allowed = match state {
            "" => rpc == "Create",
            "OPEN" => rpc == "Update" || rpc == "Close",
            _ => rpc == "Reopen",
        };
        findings.expect(is_allowed, || {
            format!("{rpc} was accepted for an opportunity that was {state}")
        });
        for change in &entry.changes {
            let value = match change.field.as_str() {
                "state" => &mut state,
                "next_step" => &mut next_step,
                _ => continue,
            };
            findings.expect(change.old_value == *value, || {
                let (field, old) = (&change.field, &change.old_value);
                format!("{field} was {value}, but {rpc} changed it from {old}")
            });
            *value = &change.new_value;
        }
    }
}

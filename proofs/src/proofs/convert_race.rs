//! 64 concurrent calls, on PostgreSQL over three replicas, convert one lead directly and through its order's
//! action, deactivate it and update it. Shown to fail by `convert-twice`.

use std::collections::BTreeMap;

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::Status;

use crate::harness::client::{Caller, reason_or_code};
use crate::harness::consistency;
use crate::harness::context::Context;
use crate::harness::report::Findings;

const CALLERS: usize = 64;

/// The reasons with which a losing call may fail.
const DOCUMENTED: &[&str] = &[
    "LEAD_CONVERTED",
    "LEAD_DEACTIVATED",
    "ACTION_DONE",
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
    let mut losers: BTreeMap<String, usize> = BTreeMap::new();
    let races = context.size(30, 1_000);
    let mut converted = 0;
    for race in 0..races {
        let lead = callers[0].create(&format!("Race {race}"), "").await?.id;
        let order = callers[0].order(&lead).await?;
        let mut calls = JoinSet::new();
        for _ in 0..CALLERS {
            let caller = callers[random.usize(..callers.len())].clone();
            let (lead, order, dice) = (lead.clone(), order.clone(), random.u32(..32));
            calls.spawn(async move { act(&caller, &lead, &order, dice).await });
        }
        let mut winners = 0;
        for outcome in calls.join_all().await {
            match outcome {
                Ok(wins) => winners += usize::from(wins),
                Err(status) => *losers.entry(reason_or_code(&status)).or_default() += 1,
            }
        }
        let state = callers[0].get(&lead).await?.state().as_str_name();
        let expected = usize::from(state == "LEAD_STATE_CONVERTED");
        converted += expected;
        findings.expect(winners == expected, || {
            format!("{winners} calls reported that they converted a lead that is {state}")
        });
    }
    for (what, sql) in [
        (
            "converted leads",
            "SELECT count(*) FROM leads WHERE state = 'CONVERTED'",
        ),
        (
            "history rows of a conversion",
            "SELECT count(*) FROM history WHERE subject = 'LEAD' \
             AND CAST(changes AS text) LIKE '%\"CONVERTED\"%'",
        ),
        (
            "events of a conversion",
            "SELECT count(*) FROM events WHERE type = 'lead.converted'",
        ),
    ] {
        let count = fixture.database.count(sql).await?;
        findings.expect(usize::try_from(count) == Ok(converted), || {
            format!("{count} {what}, but {converted} leads were converted")
        });
    }
    consistency::check(&fixture.database, &mut findings).await?;
    findings.fact("races", races);
    findings.fact("replicas", servers.len());
    findings.fact("converted", converted);
    for (reason, count) in losers {
        findings.fact(&format!("failed with {reason}"), count);
        findings.expect(DOCUMENTED.contains(&reason.as_str()), || {
            format!("{count} calls failed with {reason}")
        });
    }
    findings.finish()
}

/// Makes a random call. Returns whether it converted the lead.
async fn act(caller: &Caller, lead: &str, order: &str, dice: u32) -> Result<bool, Status> {
    match dice {
        0 => caller.deactivate(lead).await.map(|_| false),
        1..4 => caller
            .update(lead, &dice.to_string(), "")
            .await
            .map(|_| false),
        4..18 => caller.convert(lead).await.map(|_| true),
        _ => caller.provision(order).await.map(|no_change| !no_change),
    }
}

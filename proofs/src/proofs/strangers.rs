//! 1,400 calls at once with well-formed tokens that nobody has, from one address: each with one of its
//! own, and all with the same. Those who call with a good token are not refused one call, and hardly
//! slower than the machine is busy. Shown to fail by `strangers-unlimited`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use leadsmith::auth::tokens::{TokenKind, generate};
use leadsmith::wire::proto;
use tokio::task::JoinSet;

use crate::harness::client::{Caller, reason};
use crate::harness::context::Context;
use crate::harness::neighbour::{Neighbour, millis};
use crate::harness::report::Findings;
use crate::harness::strain::is_well;

const STRANGERS: usize = 1_400;
const CONNECTIONS: usize = 14;
/// The median of a known caller's Gets meanwhile. Strangers and known callers share the cores.
const MEDIAN: Duration = Duration::from_millis(150);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, &[]).await?;
    let caller = desk.caller(&server).await?;
    let lead = caller.create("Known", "").await?.id;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Caller::connect(&server.address, "").await?);
    }
    let neighbour = Neighbour::new(&caller, &lead);
    let alone = neighbour
        .during(tokio::time::sleep(Duration::from_secs(1)))
        .await
        .0;
    findings.fact("Gets alone", &alone);
    let one = generate(TokenKind::ApiKey).expose().to_owned();
    for (name, one) in [("tokens of their own", None), ("one token", Some(one))] {
        let flood = flood(&connections, one.as_deref(), context.size(3, 100));
        let (gets, refusals) = neighbour.during(flood).await;
        findings.fact(&format!("Gets beside {STRANGERS} calls with {name}"), &gets);
        for (refusal, count) in refusals? {
            findings.fact(&refusal, count);
            let known = ["TOKEN_INVALID", "SERVER_OVERLOADED"];
            findings.expect(known.contains(&refusal.as_str()), || {
                format!("{count} strangers were answered {refusal:?}")
            });
        }
        findings.expect(gets.refused == 0, || {
            format!(
                "{} of {} known calls were refused: {name}",
                gets.refused,
                gets.count()
            )
        });
        findings.expect(gets.median() <= MEDIAN, || {
            format!(
                "a Get took {:.1} ms beside strangers: {name}",
                millis(gets.median())
            )
        });
    }
    is_well(&server, &caller, &mut findings).await?;
    findings.finish()
}

/// So many rounds of strangers, all of a round at once.
async fn flood(
    connections: &[Caller],
    token: Option<&str>,
    rounds: usize,
) -> Result<BTreeMap<String, usize>> {
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..rounds {
        let mut calls = JoinSet::new();
        for number in 0..STRANGERS {
            let channel = connections[number % CONNECTIONS].channel.clone();
            let token = match token {
                Some(token) => token.to_owned(),
                None => generate(TokenKind::ApiKey).expose().to_owned(),
            };
            let stranger = Caller::on(channel, &token)?;
            calls.spawn(async move {
                let get = stranger.request(proto::GetLeadRequest::default());
                match stranger.leads().get(get).await {
                    Ok(_) => "OK".to_owned(),
                    Err(status) => reason(&status),
                }
            });
        }
        for refusal in calls.join_all().await {
            *refusals.entry(refusal).or_default() += 1;
        }
    }
    Ok(refusals)
}

//! 1,400 concurrent calls with well-formed but unknown tokens, from one address: first each with a different
//! token, then all with the same. No call with a valid token may be rejected, and valid calls may be slower only
//! because the processor is busy. Shown to fail by `strangers-unlimited`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leadsmith_proto as proto;
use tokio::task::JoinSet;

use crate::harness::client::{Caller, reason};
use crate::harness::context::Context;
use crate::harness::neighbour::{Neighbour, millis};
use crate::harness::report::{Findings, outcome_label};
use crate::harness::strain::check_alive;

const UNKNOWN_CALLS: usize = 1_400;
const CONNECTIONS: usize = 14;
/// The limit of the median of a valid caller's Gets meanwhile. All callers share the processor cores.
const MEDIAN: Duration = Duration::from_millis(150);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
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
    findings.fact("Gets without other calls", &alone);
    let one = api_key();
    for (name, one) in [("different tokens", None), ("the same token", Some(one))] {
        let flood = flood(&connections, one.as_deref(), context.size(3, 100));
        let (gets, refusals) = neighbour.during(flood).await;
        findings.fact(
            &format!("Gets during {UNKNOWN_CALLS} concurrent calls with {name}"),
            &gets,
        );
        for (refusal, count) in refusals? {
            findings.fact(&outcome_label(&refusal), count);
            let known = ["TOKEN_INVALID", "SERVER_OVERLOADED"];
            findings.expect(known.contains(&refusal.as_str()), || {
                format!("{count} calls with unknown tokens had the outcome {refusal:?}")
            });
        }
        findings.expect(gets.rejected == 0, || {
            format!(
                "{} of {} valid calls were rejected: {name}",
                gets.rejected,
                gets.count()
            )
        });
        findings.expect(gets.median() <= MEDIAN, || {
            format!(
                "the median of valid Gets was {:.1} ms: {name}",
                millis(gets.median())
            )
        });
    }
    check_alive(&server, &caller, &mut findings).await?;
    findings.finish()
}

/// Makes this many rounds of concurrent calls with unknown tokens.
async fn flood(
    connections: &[Caller],
    token: Option<&str>,
    rounds: usize,
) -> Result<BTreeMap<String, usize>> {
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..rounds {
        let mut calls = JoinSet::new();
        for number in 0..UNKNOWN_CALLS {
            let channel = connections[number % CONNECTIONS].channel.clone();
            let token = match token {
                Some(token) => token.to_owned(),
                None => api_key(),
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

/// An API key that was never issued.
fn api_key() -> String {
    let bits: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
    format!("lsk_{}", URL_SAFE_NO_PAD.encode(bits))
}

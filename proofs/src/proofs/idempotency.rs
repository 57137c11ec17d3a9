//! One request id 64 times at once; then with another body; after a restart and on another replica; by
//! somebody else. Shown to fail by [`Bug::AnswerNotKept`].
//!
//! [`Bug::AnswerNotKept`]: leadsmith::seeded::Bug::AnswerNotKept

use std::time::Duration;

use anyhow::Result;
use leadsmith::wire::proto::Lead;
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::Status;
use uuid::Uuid;

use crate::harness::client::{Caller, reason};
use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::whole;

const TIMES: usize = 64;
/// How often a call that is told that the first is still running is repeated.
const REPEATS: usize = 500;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let desk = context.desk()?;
    let mut servers = context.replicas(&desk, 2, &[]).await?;
    let rounds = context.size(5, 200);
    let mut in_flight = 0;
    for round in 0..rounds {
        let mut callers = Vec::new();
        for server in &servers {
            callers.push(desk.caller(server).await?);
        }
        let id = Uuid::from_u128(random.u128(..)).to_string();
        let name = format!("Once {round}");
        let mut calls = JoinSet::new();
        for index in 0..TIMES {
            let caller = callers[index % callers.len()].clone();
            let (name, id) = (name.clone(), id.clone());
            calls.spawn(async move { until_answered(&caller, &name, &id).await });
        }
        let mut answers = Vec::new();
        for answered in calls.join_all().await {
            let (lead, repeats) = answered?;
            answers.push(lead.encode_to_vec());
            in_flight += repeats;
        }
        // One replica begins anew, the other way round each time.
        let victim = round % servers.len();
        servers[victim].kill()?;
        servers[victim] = context.serve(&desk, &[]).await?;
        for server in &servers {
            let caller = desk.caller(server).await?;
            let lead = caller.create(&name, &id).await?;
            answers.push(lead.encode_to_vec());
            let other = caller.create("Another body", &id).await;
            let said = other.as_ref().err().map(reason).unwrap_or_default();
            findings.expect(said == "REQUEST_ID_REUSED", || {
                format!("another body under a request id was answered {other:?}")
            });
            let stranger = desk.caller_as(server, 1).await?;
            let theirs = stranger.create(&name, &id).await?.encode_to_vec();
            findings.expect(!answers.contains(&theirs), || {
                "somebody else was given an answer that is not theirs".to_owned()
            });
        }
        answers.dedup();
        findings.expect(answers.len() == 1, || {
            format!("one request id had {} answers", answers.len())
        });
    }
    let leads = desk.database.count("SELECT count(*) FROM leads").await?;
    // One of the first caller's, one of the stranger's.
    findings.expect(leads == 2 * rounds as i64, || {
        format!("{} request ids of two callers made {leads} leads", rounds)
    });
    whole::look(&desk.database, &mut findings).await?;
    findings.fact("request ids", rounds);
    findings.fact("calls under each", TIMES + 2);
    findings.fact("told REQUEST_IN_FLIGHT", in_flight);
    findings.finish()
}

/// The answer, and how often it was to come later.
async fn until_answered(caller: &Caller, name: &str, id: &str) -> Result<(Lead, usize), Status> {
    let mut repeats = 0;
    loop {
        match caller.create(name, id).await {
            Err(status) if reason(&status) == "REQUEST_IN_FLIGHT" && repeats < REPEATS => {
                repeats += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answered => return answered.map(|lead| (lead, repeats)),
        }
    }
}

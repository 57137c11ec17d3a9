//! 500 concurrent sign-ins, each with a different username. Hashing a password takes 19 MiB: as many hashes run at
//! once as there are cores, some calls wait, and the others fail with SERVER_OVERLOADED. Gets of other callers are
//! hardly slower. Shown to fail by `hashing-unlimited`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::Result;
use leadsmith_proto as proto;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::client::{Caller, reason};
use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::strain::{Bystander, check_alive};

/// The memory of one hash, in MiB, and what everything else may take.
const HASH: f64 = 19.0;
const OTHER_MEMORY: f64 = 64.0;
const CONNECTIONS: u8 = 10;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context
        .serve(&fixture, &["--default-deadline", "60"])
        .await?;
    let caller = fixture.caller(&server).await?;
    let bystander = Bystander::new(&server, caller.clone()).await?;
    let sign_ins = context.size(500, 20_000);
    let mut callers = Vec::new();
    for number in 0..CONNECTIONS {
        // Each connection has its own address, because at most 100 attempts per address are verified.
        let local = Ipv4Addr::new(127, 0, 1, number).into();
        callers.push(Caller::connect_from(local, &server.address).await?);
    }
    let db = fixture.database.connect().await?;
    let flood = async {
        let mut responses: BTreeMap<String, usize> = BTreeMap::new();
        // 500 concurrent calls; the next 500 start when these have completed.
        for round in 0..sign_ins / 500 {
            db.execute("DELETE FROM password_attempts").await?;
            let mut calls = JoinSet::new();
            for number in 0..500 {
                let caller = callers[number % callers.len()].clone();
                calls.spawn(sign_in(caller, format!("stranger {round} {number}")));
            }
            for response in calls.join_all().await {
                *responses.entry(response).or_default() += 1;
            }
        }
        Ok(responses)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = f64::from(u32::try_from(cores)?) * HASH + OTHER_MEMORY;
    findings.fact("sign-ins", sign_ins);
    let responses = bystander
        .during(
            "500 concurrent sign-ins",
            Some(memory),
            &mut findings,
            flood,
        )
        .await?;
    for (response, count) in &responses {
        findings.fact(response, count);
        let known = ["Unauthenticated SIGN_IN_FAILED", OVERLOADED];
        findings.expect(known.contains(&response.as_str()), || {
            format!("{count} sign-ins had the outcome {response}")
        });
    }
    db.close().await?;
    findings.expect(responses.contains_key(OVERLOADED), || {
        "no call failed with SERVER_OVERLOADED".into()
    });
    check_alive(&server, &caller, &mut findings).await?;
    findings.finish()
}

const OVERLOADED: &str = "ResourceExhausted SERVER_OVERLOADED";

async fn sign_in(caller: Caller, username: String) -> String {
    let request = proto::SignInRequest {
        username,
        password: "the wrong password".to_owned(),
        ..Default::default()
    };
    match caller.auth().sign_in(caller.request(request)).await {
        Ok(_) => format!("{:?}", Code::Ok),
        Err(status) => format!("{:?} {}", status.code(), reason(&status)),
    }
}

//! 500 people sign in at once, each by a name of their own. Hashing takes 19 MiB a password: as many are
//! hashed at once as there are cores, some wait, the others are told that there is no room. Those who
//! look leads up hardly notice. Shown to fail by `hashing-unlimited`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::Result;
use leadsmith::wire::proto;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::client::{Caller, reason};
use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::strain::{Bystander, is_well};

/// What one hash takes, in MiB, and what everything else may take.
const HASH: f64 = 19.0;
const BESIDES: f64 = 64.0;
const CONNECTIONS: u8 = 10;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, &["--default-deadline", "60"]).await?;
    let caller = desk.caller(&server).await?;
    let bystander = Bystander::new(&server, caller.clone()).await?;
    let strangers = context.size(500, 20_000);
    let mut callers = Vec::new();
    for number in 0..CONNECTIONS {
        // From an address each: of one address only 100 would be looked at.
        let local = Ipv4Addr::new(127, 0, 1, number).into();
        callers.push(Caller::connect_from(local, &server.address).await?);
    }
    let db = desk.database.connect().await?;
    let flood = async {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        // 500 at once, and again when these are answered.
        for round in 0..strangers / 500 {
            db.execute("DELETE FROM password_attempts").await?;
            let mut calls = JoinSet::new();
            for number in 0..500 {
                let caller = callers[number % callers.len()].clone();
                calls.spawn(sign_in(caller, format!("stranger {round} {number}")));
            }
            for answer in calls.join_all().await {
                *answers.entry(answer).or_default() += 1;
            }
        }
        Ok(answers)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = f64::from(u32::try_from(cores)?) * HASH + BESIDES;
    let name = format!("{strangers} sign in");
    let answers = bystander
        .during(&name, Some(memory), &mut findings, flood)
        .await?;
    for (answer, count) in &answers {
        findings.fact(answer, count);
        let known = ["Unauthenticated SIGN_IN_FAILED", SHED];
        findings.expect(known.contains(&answer.as_str()), || {
            format!("{count} sign-ins were answered {answer}")
        });
    }
    db.close().await?;
    findings.expect(answers.contains_key(SHED), || "nothing was shed".into());
    is_well(&server, &caller, &mut findings).await?;
    findings.finish()
}

const SHED: &str = "ResourceExhausted SERVER_OVERLOADED";

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

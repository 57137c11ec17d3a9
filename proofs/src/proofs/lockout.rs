//! 200 concurrent guesses of an operator's password, on PostgreSQL over three replicas, the correct password among
//! them. At most 5 are verified, and the correct one does not reset the count. Shown to fail by
//! `claim-afterwards`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use leadsmith_proto::{self as proto, Lead};
use tokio::task::JoinSet;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, OPERATOR, PASSWORD};
use crate::harness::report::{Findings, outcome_label};

const GUESSES: usize = 200;
const LIMIT: usize = 5;
/// A correct password among many attempts counts for two more seconds.
const LINGER: Duration = Duration::from_millis(2_500);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let rounds = context.size(3, 50);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..rounds {
        let fixture = context.fixture()?;
        let servers = context.replicas(&fixture, 3, &[]).await?;
        let mut callers = Vec::new();
        for server in &servers {
            callers.push(Caller::sign_in(&server.address, OPERATOR, PASSWORD).await?);
        }
        let lead = callers[0].create("Guarded", "").await?.id;
        let mut wrong = 0;
        for _wave in 0..2 {
            // Early enough that it is usually verified.
            let right_one = random.usize(..LIMIT);
            let mut calls = JoinSet::new();
            for index in 0..GUESSES {
                let caller = callers[index % callers.len()].clone();
                let guess = match index == right_one {
                    true => PASSWORD.to_owned(),
                    false => format!("guess {index}"),
                };
                let (lead, email) = (lead.clone(), format!("{}@example.com", random.u64(..)));
                calls.spawn(async move { change_email(&caller, lead, email, guess).await });
            }
            let (mut verified, responses) = (0, calls.join_all().await);
            for guess_outcome in responses {
                wrong += usize::from(guess_outcome == "CURRENT_PASSWORD_INVALID");
                verified += usize::from(
                    ["OK", "CURRENT_PASSWORD_INVALID"].contains(&guess_outcome.as_str()),
                );
                *outcomes.entry(guess_outcome).or_default() += 1;
            }
            findings.expect(verified <= LIMIT, || {
                format!("{verified} of {GUESSES} concurrent guesses were verified")
            });
            tokio::time::sleep(LINGER).await;
        }
        findings.expect(wrong <= LIMIT, || {
            format!("{wrong} wrong guesses were verified within 15 minutes")
        });
        if findings.is_broken() {
            break;
        }
    }
    findings.fact("guesses", 2 * GUESSES * rounds);
    for (reason, count) in outcomes {
        let documented = [
            "OK",
            "CURRENT_PASSWORD_INVALID",
            "PASSWORD_ATTEMPTS_EXCEEDED",
        ];
        findings.expect(documented.contains(&reason.as_str()), || {
            format!("{count} guesses had the outcome {reason:?}")
        });
        findings.fact(&outcome_label(&reason), count);
    }
    findings.finish()
}

/// Returns the outcome of a guess.
async fn change_email(caller: &Caller, id: String, email: String, password: String) -> String {
    let request = caller.request(proto::UpdateLeadRequest {
        lead: Some(Lead {
            id,
            email,
            ..Lead::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["email".to_owned()],
        }),
        current_password: password,
        ..Default::default()
    });
    let response = caller.leads().update(request).await;
    response.map_or_else(|status| reason(&status), |_| "OK".to_owned())
}

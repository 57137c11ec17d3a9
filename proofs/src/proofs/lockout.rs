//! 200 guesses of an operator's password at once, over three replicas on PostgreSQL, the right one among
//! them: at most 5 are looked at, and the right one does not set the count back. Shown to fail by
//! `claim-afterwards`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use leadsmith::wire::proto::{self, Lead};
use tokio::task::JoinSet;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, OPERATOR, PASSWORD};
use crate::harness::database::Kind;
use crate::harness::report::Findings;

const GUESSES: usize = 200;
const LIMIT: usize = 5;
/// A right password among many counts for two seconds more.
const LINGER: Duration = Duration::from_millis(2_500);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let rounds = context.size(3, 50);
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..rounds {
        let desk = context.desk()?;
        let replicas = match context.kind {
            Kind::Sqlite => 1,
            Kind::Postgres => 3,
        };
        let servers = context.replicas(&desk, replicas, &[]).await?;
        let mut callers = Vec::new();
        for server in &servers {
            callers.push(Caller::sign_in(&server.address, OPERATOR, PASSWORD).await?);
        }
        let lead = callers[0].create("Guarded", "").await?.id;
        let mut wrong = 0;
        for _wave in 0..2 {
            // Early enough to be looked at, more often than not.
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
            let (mut looked_at, answers) = (0, calls.join_all().await);
            for said in answers {
                wrong += usize::from(said == "CURRENT_PASSWORD_INVALID");
                looked_at +=
                    usize::from(["OK", "CURRENT_PASSWORD_INVALID"].contains(&said.as_str()));
                *told.entry(said).or_default() += 1;
            }
            findings.expect(looked_at <= LIMIT, || {
                format!("{looked_at} of {GUESSES} guesses at once were looked at")
            });
            tokio::time::sleep(LINGER).await;
        }
        findings.expect(wrong <= LIMIT, || {
            format!("{wrong} wrong guesses were looked at within 15 minutes")
        });
        if findings.is_broken() {
            break;
        }
    }
    findings.fact("guesses", 2 * GUESSES * rounds);
    for (reason, count) in told {
        let documented = [
            "OK",
            "CURRENT_PASSWORD_INVALID",
            "PASSWORD_ATTEMPTS_EXCEEDED",
        ];
        findings.expect(documented.contains(&reason.as_str()), || {
            format!("{count} guesses were answered {reason:?}")
        });
        findings.fact(&format!("told {reason}"), count);
    }
    findings.finish()
}

/// What a guess is answered.
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
    let answer = caller.leads().update(request).await;
    answer.map_or_else(|status| reason(&status), |_| "OK".to_owned())
}

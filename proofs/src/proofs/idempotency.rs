//! For every RPC that changes data: 64 concurrent calls with one request id, over several replicas. After one
//! replica was killed and restarted, each replica gets the same request again, a request with another body, and
//! one from another principal. Shown to fail by `answer-not-kept`.

mod rpcs;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::Status;
use uuid::Uuid;

use crate::harness::client::{Caller, reason};
use crate::harness::consistency;
use crate::harness::context::{Context, Fixture, PASSWORD};
use crate::harness::program::Serving;
use crate::harness::report::Findings;
use rpcs::{By, RPCS, Rpc, Target};

const TIMES: usize = 64;
/// How often a call is retried after an error that allows it.
const MAX_RETRIES: usize = 500;
/// PASSWORD_ATTEMPTS_EXCEEDED is expected if many concurrent calls contain a password: five are verified, whether
/// right or wrong.
const RETRYABLE: &[&str] = &[
    "REQUEST_IN_FLIGHT",
    "SERVER_OVERLOADED",
    "PASSWORD_ATTEMPTS_EXCEEDED",
];
/// Operators that may erase leads and change queues.
const ADMINS: [&str; 2] = ["adam", "eve"];
/// The number of rows in all tables that a change can write to.
const EFFECTS: &str = "SELECT (SELECT count(*) FROM leads) + (SELECT count(*) FROM opportunities) \
                       + (SELECT count(*) FROM orders) + (SELECT count(*) FROM action_runs) \
                       + (SELECT count(*) FROM order_queues) \
                       + (SELECT count(*) FROM history) + (SELECT count(*) FROM events) \
                       + (SELECT count(*) FROM idempotency_records)";

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let mut servers = context.replicas(&fixture, 2, &[]).await?;
    let principals = Principals::create(context, &fixture, &servers[0]).await?;
    let rounds = context.size(2, 100);
    let mut again = 0;
    for round in 0..rounds {
        let mut all = Vec::new();
        for rpc in RPCS {
            let id = Uuid::from_u128(random.u128(..)).to_string();
            let scenario = Scenario::prepare(rpc, id, &principals, &servers[0]).await?;
            let (responses, retries) = scenario.call_all(&fixture, &servers, &mut findings).await?;
            all.push((scenario, responses));
            again += retries;
        }
        // Restarts one replica, another one in each round.
        let victim = round % servers.len();
        servers[victim].kill()?;
        servers[victim] = context.serve(&fixture, &[]).await?;
        let before = fixture.database.count(EFFECTS).await?;
        for (scenario, responses) in &all {
            scenario.repeat(responses, &servers, &mut findings).await?;
        }
        let more = fixture.database.count(EFFECTS).await? - before;
        findings.expect(more == 0, || format!("retries wrote {more} rows"));
    }
    consistency::check(&fixture.database, &mut findings).await?;
    findings.fact("kinds of changes", RPCS.len());
    findings.fact("request ids", rounds * RPCS.len());
    findings.fact("concurrent calls under each", TIMES);
    findings.fact("retries after an error that allows one", again);
    findings.finish()
}

/// The callers: two for each role.
struct Principals {
    sales: [Caller; 2],
    admins: [Caller; 2],
}

impl Principals {
    async fn create(context: &Context<'_>, fixture: &Fixture, server: &Serving) -> Result<Self> {
        for name in ADMINS {
            let create = ["operator", "create", "--role", "ADMIN", "--username", name];
            let url = fixture.database.url();
            context.program.command_with(&url, &create, PASSWORD)?;
        }
        let admin = |name| Caller::sign_in(&server.address, name, PASSWORD);
        let [adam, eve] = ADMINS;
        Ok(Self {
            sales: [
                fixture.caller_as(server, 0).await?,
                fixture.caller_as(server, 1).await?,
            ],
            admins: [admin(adam).await?, admin(eve).await?],
        })
    }
}

/// A request id, and the requests made with it.
struct Scenario<'a> {
    rpc: &'static Rpc,
    id: String,
    callers: &'a [Caller; 2],
    target: Target,
    /// The target of a request with another body.
    another: Target,
    /// The target of the other principal's request.
    theirs: Target,
}

/// The response to our calls, and the one to the other principal.
struct Responses {
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

impl<'a> Scenario<'a> {
    async fn prepare(
        rpc: &'static Rpc,
        id: String,
        principals: &'a Principals,
        server: &Serving,
    ) -> Result<Self> {
        let admin = principals.admins[0].at(&server.address).await?;
        let [ours, theirs] = &principals.sales;
        let (ours, theirs) = (
            ours.at(&server.address).await?,
            theirs.at(&server.address).await?,
        );
        // Only who claimed an action can report it.
        let of = |whose, sales| rpc.prepare(sales, &admin, format!("{whose} {id}"));
        let target = of("ours", &ours).await?;
        let another = of("another", &ours).await?;
        let theirs = of("theirs", &theirs).await?;
        Ok(Self {
            rpc,
            id,
            callers: match rpc.by {
                By::Sales => &principals.sales,
                By::Admins => &principals.admins,
            },
            target,
            another,
            theirs,
        })
    }

    fn request(&self, of: &Target) -> Vec<u8> {
        (self.rpc.request)(of, self.id.clone())
    }

    /// Makes many concurrent calls, then one call of another principal. Both must write the same number of rows.
    async fn call_all(
        &self,
        fixture: &Fixture,
        servers: &[Serving],
        findings: &mut Findings,
    ) -> Result<(Responses, usize)> {
        let name = self.rpc.name;
        let before = fixture.database.count(EFFECTS).await?;
        let (ours, again) = self.call_concurrently(servers, findings).await?;
        let between = fixture.database.count(EFFECTS).await?;
        let other_principal = self.callers[1].at(&servers[0].address).await?;
        let (theirs, _) =
            until_acknowledged(&other_principal, name, self.request(&self.theirs)).await;
        let after = fixture.database.count(EFFECTS).await?;
        let (many, once) = (between - before, after - between);
        findings.expect(many == once, || {
            format!(
                "{name}: {TIMES} calls with one request id wrote {many} rows, \
                 a single call writes {once}"
            )
        });
        let theirs = theirs.unwrap_or_else(|status| {
            findings.broke(format!("{name}, another principal: {status}"));
            Vec::new()
        });
        findings.expect(ours != theirs, || {
            format!("{name}: another principal got the response to our call")
        });
        Ok((Responses { ours, theirs }, again))
    }

    /// Returns the single response to many concurrent calls, and the number of retries.
    async fn call_concurrently(
        &self,
        servers: &[Serving],
        findings: &mut Findings,
    ) -> Result<(Vec<u8>, usize)> {
        let name = self.rpc.name;
        let mut calls = JoinSet::new();
        for number in 0..TIMES {
            let server = &servers[number % servers.len()];
            let caller = self.callers[0].at(&server.address).await?;
            let request = self.request(&self.target);
            calls.spawn(async move { until_acknowledged(&caller, name, request).await });
        }
        let (mut responses, mut again) = (HashSet::new(), 0);
        for (response, retries) in calls.join_all().await {
            again += retries;
            match response {
                Ok(response) => {
                    responses.insert(response);
                }
                Err(status) => {
                    let reason = reason(&status);
                    findings.broke(format!("{name}, concurrent call: {reason} {status}"));
                }
            }
        }
        findings.expect(responses.len() == 1, || {
            format!("{name}: one request id had {} responses", responses.len())
        });
        Ok((responses.into_iter().next().unwrap_or_default(), again))
    }

    /// Repeats the calls on every replica.
    async fn repeat(
        &self,
        responses: &Responses,
        servers: &[Serving],
        findings: &mut Findings,
    ) -> Result<()> {
        let name = self.rpc.name;
        for server in servers {
            let [caller, other_principal] = self.callers;
            let (caller, other_principal) = (
                caller.at(&server.address).await?,
                other_principal.at(&server.address).await?,
            );
            let again = caller.call(name, self.request(&self.target)).await;
            findings.expect(again.as_ref().ok() == Some(&responses.ours), || {
                format!("{name}: a retry got another response: {:?}", again.err())
            });
            let another = caller.call(name, self.request(&self.another)).await;
            let error_reason = another.as_ref().err().map(reason).unwrap_or_default();
            findings.expect(error_reason == "REQUEST_ID_REUSED", || {
                format!("{name}: another body with the same request id: {another:?}")
            });
            let theirs = other_principal.call(name, self.request(&self.theirs)).await;
            findings.expect(theirs.as_ref().ok() == Some(&responses.theirs), || {
                format!(
                    "{name}: another principal's retry got another response: {:?}",
                    theirs.err()
                )
            });
        }
        Ok(())
    }
}

/// Returns the response and the number of retries.
async fn until_acknowledged(
    caller: &Caller,
    rpc: &str,
    request: Vec<u8>,
) -> (Result<Vec<u8>, Status>, usize) {
    let mut retries = 0;
    loop {
        match caller.call(rpc, request.clone()).await {
            Err(status)
                if RETRYABLE.contains(&reason(&status).as_str()) && retries < MAX_RETRIES =>
            {
                retries += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            acknowledged => return (acknowledged, retries),
        }
    }
}

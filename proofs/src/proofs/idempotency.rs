//! Of every RPC that changes something: one request id 64 times at once, over several replicas; then, after
//! one of these was killed and started again, once more on each of them; with another body; and by somebody
//! else. Shown to fail by `answer-not-kept`.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::Status;
use uuid::Uuid;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, Desk, PASSWORD};
use crate::harness::program::Serving;
use crate::harness::report::Findings;
use crate::harness::{requests, whole};

const TIMES: usize = 64;
/// How often a call that is told to come again is repeated.
const REPEATS: usize = 500;
/// The last is what many are told who give a password at once: five are looked at, right or wrong.
const AGAIN: &[&str] = &[
    "REQUEST_IN_FLIGHT",
    "SERVER_OVERLOADED",
    "PASSWORD_ATTEMPTS_EXCEEDED",
];
/// Operators who may erase.
const ADMINS: [&str; 2] = ["adam", "eve"];
/// How many rows there are that a change can make.
const EFFECTS: &str = "SELECT (SELECT count(*) FROM leads) + (SELECT count(*) FROM opportunities) \
                       + (SELECT count(*) FROM orders) + (SELECT count(*) FROM action_runs) \
                       + (SELECT count(*) FROM history) + (SELECT count(*) FROM events) \
                       + (SELECT count(*) FROM idempotency_records)";

/// An RPC and its request about a record.
struct Rpc {
    name: &'static str,
    /// Whether it takes an operator's own password.
    password: bool,
    request: Request,
}

/// What a call is about: a name for what is to be created, or a lead, with an order of it.
#[derive(Default)]
struct Record {
    name: String,
    lead: String,
    order: String,
}

type Request = fn(&Record, String) -> Vec<u8>;

const fn rpc(name: &'static str, request: Request) -> Rpc {
    Rpc {
        name,
        password: false,
        request,
    }
}

const fn with_password(name: &'static str, request: Request) -> Rpc {
    Rpc {
        name,
        password: true,
        request,
    }
}

const RPCS: &[Rpc] = &[
    rpc("LeadService/Create", |of, id| {
        requests::create(&of.name, id).encode_to_vec()
    }),
    rpc("LeadService/Update", |of, id| {
        requests::update(&of.lead, "1", id).encode_to_vec()
    }),
    with_password("LeadService/Update", |of, id| {
        let email = format!("{}@example.com", of.lead);
        requests::update_email(&of.lead, &email, id).encode_to_vec()
    }),
    rpc("LeadService/Deactivate", |of, id| {
        requests::deactivate(&of.lead, id).encode_to_vec()
    }),
    rpc("LeadService/Reactivate", |of, id| {
        requests::reactivate(&of.lead, id).encode_to_vec()
    }),
    rpc("LeadService/Convert", |of, id| {
        requests::convert(&of.lead, id).encode_to_vec()
    }),
    with_password("LeadService/Erase", |of, id| {
        requests::erase(&of.lead, id).encode_to_vec()
    }),
    rpc("OpportunityService/Create", |of, id| {
        requests::opportunity(&of.lead, &of.name, id).encode_to_vec()
    }),
    rpc("OrderService/Create", |of, id| {
        requests::order(&of.lead, id).encode_to_vec()
    }),
    rpc("OrderService/RunAction", |of, id| {
        requests::run(&of.order, id).encode_to_vec()
    }),
];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let desk = context.desk()?;
    let mut servers = context.replicas(&desk, 2, &[]).await?;
    let people = People::come(context, &desk, &servers[0]).await?;
    let rounds = context.size(2, 100);
    let mut again = 0;
    for round in 0..rounds {
        let mut all = Vec::new();
        for rpc in RPCS {
            let id = Uuid::from_u128(random.u128(..)).to_string();
            let asked = Asked::prepare(rpc, id, &people, &servers[0]).await?;
            let (answers, repeats) = asked.ask(&desk, &servers, &mut findings).await?;
            all.push((asked, answers));
            again += repeats;
        }
        // One replica begins anew, the other way round each time.
        let victim = round % servers.len();
        servers[victim].kill()?;
        servers[victim] = context.serve(&desk, &[]).await?;
        let before = desk.database.count(EFFECTS).await?;
        for (asked, answers) in &all {
            asked.repeat(answers, &servers, &mut findings).await?;
        }
        let more = desk.database.count(EFFECTS).await? - before;
        findings.expect(more == 0, || format!("repeats made {more} rows"));
    }
    whole::look(&desk.database, &mut findings).await?;
    findings.fact("kinds of changes", RPCS.len());
    findings.fact("request ids", rounds * RPCS.len());
    findings.fact("calls at once under each", TIMES);
    findings.fact("told to come again", again);
    findings.finish()
}

/// Those who call: two of each kind.
struct People {
    sales: [Caller; 2],
    admins: [Caller; 2],
}

impl People {
    async fn come(context: &Context<'_>, desk: &Desk, server: &Serving) -> Result<Self> {
        for name in ADMINS {
            let create = ["operator", "create", "--role", "ADMIN", "--username", name];
            let url = desk.database.url();
            context.program.command_with(&url, &create, PASSWORD)?;
        }
        let admin = |name| Caller::sign_in(&server.address, name, PASSWORD);
        let [adam, eve] = ADMINS;
        Ok(Self {
            sales: [
                desk.caller_as(server, 0).await?,
                desk.caller_as(server, 1).await?,
            ],
            admins: [admin(adam).await?, admin(eve).await?],
        })
    }
}

/// A request id, and what is asked under it.
struct Asked<'a> {
    rpc: &'static Rpc,
    id: String,
    callers: &'a [Caller; 2],
    record: Record,
    /// Another body.
    another: Record,
    /// What somebody else asks.
    theirs: Record,
}

/// What was answered, and what to somebody else.
struct Answers {
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

impl<'a> Asked<'a> {
    async fn prepare(
        rpc: &'static Rpc,
        id: String,
        people: &'a People,
        server: &Serving,
    ) -> Result<Self> {
        let sales = people.sales[0].at(&server.address).await?;
        let of = |whose| prepare(rpc, &sales, format!("{whose} {id}"));
        let (record, another, theirs) = (of("ours"), of("another"), of("theirs"));
        let (record, another, theirs) = (record.await?, another.await?, theirs.await?);
        Ok(Self {
            rpc,
            id,
            callers: match rpc.password {
                true => &people.admins,
                false => &people.sales,
            },
            record,
            another,
            theirs,
        })
    }

    fn request(&self, of: &Record) -> Vec<u8> {
        (self.rpc.request)(of, self.id.clone())
    }

    /// Asks many times at once, then lets somebody else ask once. Both must have had the same effect.
    async fn ask(
        &self,
        desk: &Desk,
        servers: &[Serving],
        findings: &mut Findings,
    ) -> Result<(Answers, usize)> {
        let name = self.rpc.name;
        let before = desk.database.count(EFFECTS).await?;
        let (ours, again) = self.ask_at_once(servers, findings).await?;
        let between = desk.database.count(EFFECTS).await?;
        let stranger = self.callers[1].at(&servers[0].address).await?;
        let (theirs, _) = until_answered(&stranger, name, self.request(&self.theirs)).await;
        let after = desk.database.count(EFFECTS).await?;
        let (many, once) = (between - before, after - between);
        findings.expect(many == once, || {
            format!("{name}: {TIMES} calls under one request id made {many} rows, one makes {once}")
        });
        let theirs = theirs.unwrap_or_else(|status| {
            findings.broke(format!("{name}, somebody else's: {status}"));
            Vec::new()
        });
        findings.expect(ours != theirs, || {
            format!("{name}: somebody else was given an answer that is not theirs")
        });
        Ok((Answers { ours, theirs }, again))
    }

    /// The one answer to many calls, and how often these were to come again.
    async fn ask_at_once(
        &self,
        servers: &[Serving],
        findings: &mut Findings,
    ) -> Result<(Vec<u8>, usize)> {
        let name = self.rpc.name;
        let mut calls = JoinSet::new();
        for number in 0..TIMES {
            let server = &servers[number % servers.len()];
            let caller = self.callers[0].at(&server.address).await?;
            let request = self.request(&self.record);
            calls.spawn(async move { until_answered(&caller, name, request).await });
        }
        let (mut answers, mut again) = (HashSet::new(), 0);
        for (answer, repeats) in calls.join_all().await {
            again += repeats;
            match answer {
                Ok(answer) => {
                    answers.insert(answer);
                }
                Err(status) => {
                    let reason = reason(&status);
                    findings.broke(format!("{name}, one of many: {reason} {status}"));
                }
            }
        }
        findings.expect(answers.len() == 1, || {
            format!("{name}: one request id had {} answers", answers.len())
        });
        Ok((answers.into_iter().next().unwrap_or_default(), again))
    }

    /// Asks every replica again.
    async fn repeat(
        &self,
        answers: &Answers,
        servers: &[Serving],
        findings: &mut Findings,
    ) -> Result<()> {
        let name = self.rpc.name;
        for server in servers {
            let [caller, stranger] = self.callers;
            let (caller, stranger) = (
                caller.at(&server.address).await?,
                stranger.at(&server.address).await?,
            );
            let again = caller.call(name, self.request(&self.record)).await;
            findings.expect(again.as_ref().ok() == Some(&answers.ours), || {
                format!("{name}: a repeat got another answer: {:?}", again.err())
            });
            let another = caller.call(name, self.request(&self.another)).await;
            let said = another.as_ref().err().map(reason).unwrap_or_default();
            findings.expect(said == "REQUEST_ID_REUSED", || {
                format!("{name}: another body under a request id was answered {another:?}")
            });
            let theirs = stranger.call(name, self.request(&self.theirs)).await;
            findings.expect(theirs.as_ref().ok() == Some(&answers.theirs), || {
                format!(
                    "{name}: somebody else's repeat got another answer: {:?}",
                    theirs.err()
                )
            });
        }
        Ok(())
    }
}

/// A record as the RPC wants it.
async fn prepare(rpc: &Rpc, caller: &Caller, name: String) -> Result<Record> {
    let lead = caller.create(&format!("For {name}"), "").await?.id;
    let order = match rpc.name {
        "OrderService/RunAction" => caller.order(&lead).await?,
        _ => String::new(),
    };
    if rpc.name == "LeadService/Reactivate" {
        caller.deactivate(&lead).await?;
    }
    Ok(Record { name, lead, order })
}

/// The answer, and how often it was to come later.
async fn until_answered(
    caller: &Caller,
    rpc: &str,
    request: Vec<u8>,
) -> (Result<Vec<u8>, Status>, usize) {
    let mut repeats = 0;
    loop {
        match caller.call(rpc, request.clone()).await {
            Err(status) if AGAIN.contains(&reason(&status).as_str()) && repeats < REPEATS => {
                repeats += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answered => return (answered, repeats),
        }
    }
}

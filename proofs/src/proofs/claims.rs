//! 64 workers, on PostgreSQL over three replicas whose clocks differ by up to 20 s, claim EXTERNAL actions for 10 s and
//! report them. Some stop without a report, some report too late, some release, and a replica is killed and started
//! again. Shown to fail by `claim-ignores-lease` and `claims-by-own-clock`.

mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use leadsmith_proto::ClaimedRun;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::client::{Caller, reason, reason_or_code};
use crate::harness::clock::WrongClock;
use crate::harness::consistency;
use crate::harness::context::{Context, Fixture};
use crate::harness::database::Kind;
use crate::harness::program::{Program, Serving, free_port};
use crate::harness::report::Findings;
use crate::harness::requests;

const WORKERS: usize = 64;
/// The shortest lease.
const LEASE: i64 = 10;
/// By how many seconds the clocks of the replicas are ahead.
const AHEAD: [i64; 3] = [0, 10, -10];
/// What is never accepted.
const LATE: &str = "reported after the lease";
/// How long all of it may take.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The reasons with which a call may fail, besides a lost connection.
const DOCUMENTED: &[&str] = &[
    "CLAIM_LOST",
    "WRITE_CONFLICT",
    "DATABASE_UNAVAILABLE",
    "SERVER_OVERLOADED",
    "REQUEST_IN_FLIGHT",
    "DEADLINE_EXCEEDED",
];

/// That a worker held an action, in microseconds since 1970.
struct Hold {
    order_id: String,
    run_id: String,
    /// When the worker got it.
    from: i64,
    /// When it began to report or release it, or when the lease expired.
    until: i64,
}

/// What the workers share.
#[derive(Default)]
struct Shared {
    addresses: Vec<String>,
    keys: Vec<String>,
    orders: usize,
    holds: Mutex<Vec<Hold>>,
    /// For each order the claims that were reported.
    reported: Mutex<BTreeMap<String, Vec<String>>>,
    outcomes: Mutex<BTreeMap<String, usize>>,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let replicas = match context.kind {
        Kind::Sqlite => &AHEAD[..1],
        Kind::Postgres => &AHEAD[..],
    };
    let mut servers = Vec::new();
    for ahead in replicas {
        let program = context.program.with_clock(WrongClock::ahead(*ahead)?);
        let address = format!("127.0.0.1:{}", free_port()?);
        let server = serve(&program, &fixture, &address).await?;
        check_clock(&fixture, &server, *ahead, &mut findings).await?;
        servers.push((program, address, server));
    }
    let orders = context.size(300, 10_000);
    let caller = fixture.caller(&servers[0].2).await?;
    for number in 0..orders {
        let lead = caller.create(&format!("Claims {number}"), "").await?.id;
        let request = caller.request(requests::order_to_install(&lead, String::new()));
        caller.orders().create(request).await?;
    }
    let shared = Arc::new(Shared {
        addresses: servers
            .iter()
            .map(|(_, address, _)| address.clone())
            .collect(),
        keys: vec![fixture.key(0), fixture.key(1)],
        orders,
        ..Shared::default()
    });
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let worker = Worker {
            shared: Arc::clone(&shared),
            key: shared.keys[number % 2].clone(),
            random: context.random(number as u64 + 1),
        };
        workers.spawn(worker.run());
    }
    let begun = Instant::now();
    let mut kills = 0;
    while let Some(done) = next(&mut workers).await {
        done?;
        if kills == 0 && lock(&shared.reported).len() > orders / 3 {
            let (program, address, server) = &mut servers[0];
            server.kill()?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            *server = serve(program, &fixture, address).await?;
            kills += 1;
        }
        if begun.elapsed() > TIME_LIMIT {
            break;
        }
    }
    workers.shutdown().await;
    judge(&shared, &mut findings);
    ledger::check(&fixture.database, orders, &shared, &mut findings).await?;
    consistency::check(&fixture.database, &mut findings).await?;
    findings.fact("orders", orders);
    findings.fact("replicas", servers.len());
    findings.fact("kills", kills);
    findings.expect(kills > 0, || "no server was killed".to_owned());
    findings.fact("claims", lock(&shared.holds).len());
    for (what, count) in lock(&shared.outcomes).iter() {
        findings.fact(what, count);
        let reason = what.strip_prefix("failed with ");
        let is_documented = reason.is_none_or(|reason| DOCUMENTED.contains(&reason));
        let is_allowed = is_documented && what != LATE;
        findings.expect(is_allowed, || format!("{count} calls {what}"));
    }
    findings.finish()
}

async fn serve(program: &Program, fixture: &Fixture, address: &str) -> Result<Serving> {
    program
        .serve(&fixture.database.url(), &["--listen", address])
        .await
}

/// The result of the next worker that ends; a unit if none ends within a moment; none when all have ended.
async fn next(workers: &mut JoinSet<Result<()>>) -> Option<Result<()>> {
    let moment = Duration::from_millis(50);
    match tokio::time::timeout(moment, workers.join_next()).await {
        Ok(ended) => ended.map(|ended| ended.context("a worker panicked").flatten()),
        Err(_) => Some(Ok(())),
    }
}

/// Checks that the clock of a server is as wrong as it should be.
async fn check_clock(
    fixture: &Fixture,
    server: &Serving,
    ahead: i64,
    findings: &mut Findings,
) -> Result<()> {
    let lead = fixture.caller(server).await?.create("Clock", "").await?;
    let created = lead.create_time.unwrap_or_default().seconds;
    let wrong = created - now()? / 1_000_000;
    findings.expect((ahead - 2..=ahead + 2).contains(&wrong), || {
        format!("the clock of a server is {wrong} s ahead, not {ahead}")
    });
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with times of the database on this machine"
)]
fn now() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_micros())?)
}

struct Worker {
    shared: Arc<Shared>,
    key: String,
    random: fastrand::Rng,
}

impl Worker {
    /// Claims and reports until every order is reported.
    async fn run(mut self) -> Result<()> {
        while lock(&self.shared.reported).len() < self.shared.orders {
            let Some(caller) = self.connect().await else {
                continue;
            };
            // It stays with a server until a connection fails.
            while lock(&self.shared.reported).len() < self.shared.orders {
                let request = requests::claim(self.random.i32(0..5), LEASE, String::new());
                let claimed = caller.orders().claim_actions(caller.request(request)).await;
                let received = now()?;
                let runs = match claimed {
                    Ok(response) => response.into_inner().runs,
                    Err(status) => match self.note(&status) {
                        true => break,
                        false => Vec::new(),
                    },
                };
                if runs.is_empty() {
                    let pause = Duration::from_millis(self.random.u64(20..200));
                    tokio::time::sleep(pause).await;
                }
                for run in runs {
                    self.work(&caller, run, received).await?;
                }
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> Option<Caller> {
        let address = &self.shared.addresses[self.random.usize(..self.shared.addresses.len())];
        let caller = Caller::connect(address, &self.key).await;
        if caller.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        caller.ok()
    }

    /// Does what was claimed, in one of the ways in which workers do it.
    async fn work(&mut self, caller: &Caller, run: ClaimedRun, received: i64) -> Result<()> {
        let expiry = run.expire_time.unwrap_or_default();
        let expiry = expiry.seconds * 1_000_000 + i64::from(expiry.nanos) / 1_000;
        let dice = self.random.u32(..100);
        if dice >= 8 {
            let pause = Duration::from_millis(self.random.u64(..30));
            tokio::time::sleep(pause).await;
        }
        let until = if dice < 8 { expiry } else { now()?.min(expiry) };
        lock(&self.shared.holds).push(Hold {
            order_id: run.order_id.clone(),
            run_id: run.id.clone(),
            from: received,
            until,
        });
        match dice {
            // It stops without a report.
            0..4 => self.count("left without a report"),
            4..8 => {
                let left = u64::try_from(expiry - now()?).unwrap_or(0) + 100_000;
                tokio::time::sleep(Duration::from_micros(left)).await;
                let is_reported = self.report(caller, &run).await;
                self.count(match is_reported {
                    true => LATE,
                    false => "refused after the lease",
                });
            }
            8..16 => {
                let request = requests::release(&run.id, String::new());
                match caller
                    .orders()
                    .release_action(caller.request(request))
                    .await
                {
                    Ok(_) => self.count("released"),
                    Err(status) => drop(self.note(&status)),
                }
            }
            _ => {
                if self.report(caller, &run).await {
                    self.count("reported in time");
                }
            }
        }
        Ok(())
    }

    /// Reports until there is a response of the service, on another connection if one is lost. Returns whether it was
    /// accepted.
    async fn report(&mut self, caller: &Caller, run: &ClaimedRun) -> bool {
        let request = requests::report(&run.id, request_id());
        let mut caller = Some(caller.clone());
        for _ in 0..200 {
            let Some(connected) = &caller else {
                caller = self.connect().await;
                continue;
            };
            let sent = connected.request(request.clone());
            match connected.orders().report_action(sent).await {
                Ok(_) => {
                    let mut reported = lock(&self.shared.reported);
                    reported
                        .entry(run.order_id.clone())
                        .or_default()
                        .push(run.id.clone());
                    return true;
                }
                Err(status) if reason(&status) == "CLAIM_LOST" => {
                    self.note(&status);
                    return false;
                }
                Err(status) => {
                    if self.note(&status) {
                        caller = None;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        self.count("failed with too many retries of a report");
        false
    }

    /// Counts an error. Returns whether the connection is lost.
    fn note(&self, status: &Status) -> bool {
        let is_lost = reason(status).is_empty()
            && matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::Cancelled
            );
        match is_lost {
            true => self.count("lost connections"),
            false => self.count(&format!("failed with {}", reason_or_code(status))),
        }
        is_lost
    }

    fn count(&self, what: &str) {
        *lock(&self.shared.outcomes)
            .entry(what.to_owned())
            .or_default() += 1;
    }
}

#[expect(clippy::disallowed_methods, reason = "a caller's own ids")]
fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// What the workers saw themselves: no two of them held an action at once, and each was reported once.
fn judge(shared: &Shared, findings: &mut Findings) {
    let reported = lock(&shared.reported);
    findings.expect(reported.len() == shared.orders, || {
        format!(
            "{} of {} actions were reported",
            reported.len(),
            shared.orders
        )
    });
    for (order, claims) in reported.iter().filter(|(_, claims)| claims.len() != 1) {
        findings.broke(format!(
            "the action of {order} was reported by the claims {claims:?}"
        ));
    }
    let mut holds = lock(&shared.holds);
    let ids: BTreeSet<&str> = holds.iter().map(|hold| hold.run_id.as_str()).collect();
    let (count, all) = (ids.len(), holds.len());
    findings.expect(count == all, || format!("{all} claims have {count} ids"));
    holds.sort_by(|a, b| (&a.order_id, a.from).cmp(&(&b.order_id, b.from)));
    for pair in holds.windows(2) {
        let [first, second] = pair else { continue };
        let is_same = first.order_id == second.order_id;
        findings.expect(!is_same || first.until <= second.from, || {
            let ms = (first.until - second.from) / 1_000;
            let order = &first.order_id;
            format!("two workers held the action of {order} at once, for {ms} ms")
        });
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

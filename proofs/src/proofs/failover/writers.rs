//! Writers during failures of PostgreSQL. Half of them use request ids and retry each call on another replica
//! until it succeeds. The others make each call once and accept the result.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::client::{Caller, version};
use crate::harness::consistency;
use crate::harness::context::Context;
use crate::harness::database::Database;
use crate::harness::report::Findings;

const WRITERS: usize = 16;
/// How many updates each lead gets after its creation.
const UPDATES: i64 = 3;
/// A pause after each call, because PostgreSQL needs the processor too.
const PAUSE: Duration = Duration::from_millis(8);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long a call is retried at most.
const GIVE_UP: Duration = Duration::from_secs(120);
const ALLOWED: &[Code] = &[Code::Unavailable, Code::Aborted, Code::DeadlineExceeded];

/// Writers that run until they are stopped.
pub struct Writers {
    results: Results,
    tasks: JoinSet<Option<String>>,
}

/// The results of all writers.
#[derive(Clone)]
struct Results {
    stop_requested: Arc<AtomicBool>,
    /// The acknowledged leads by name, with version and phone.
    leads: Arc<Mutex<HashMap<String, (i64, String)>>>,
    codes: Arc<Mutex<BTreeMap<String, usize>>>,
    /// When a change was last acknowledged, and the longest interval without one since the last query.
    silence: Arc<Mutex<(Instant, Duration)>>,
}

impl Writers {
    /// Starts the writers. Each uses all of these callers, one per replica.
    pub fn start(context: &Context<'_>, callers: &[Caller]) -> Self {
        let results = Results {
            stop_requested: Arc::default(),
            leads: Arc::default(),
            codes: Arc::default(),
            silence: Arc::new(Mutex::new((Instant::now(), Duration::ZERO))),
        };
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let callers = callers.iter().map(Caller::without_deadline).collect();
            let random = context.random(writer as u64 + 1);
            let writer_state = Writer {
                name: writer,
                callers,
                random,
                results: results.clone(),
            };
            if writer % 2 == 0 {
                tasks.spawn(writer_state.until_acknowledged());
            } else {
                tasks.spawn(writer_state.once());
            }
        }
        Self { results, tasks }
    }

    /// The longest interval without an acknowledged change since the last call of this function.
    pub fn longest_silence(&self) -> Duration {
        let mut silence = lock(&self.results.silence);
        let longest = silence.1.max(silence.0.elapsed());
        silence.1 = Duration::ZERO;
        longest
    }

    /// Stops the writers, and compares the acknowledged leads with the database.
    pub async fn stop(self, database: &Database, findings: &mut Findings) -> Result<()> {
        self.results.stop_requested.store(true, Ordering::Relaxed);
        for unfinished in self.tasks.join_all().await.into_iter().flatten() {
            findings.broke(unfinished);
        }
        let leads = std::mem::take(&mut *lock(&self.results.leads));
        compare(database, &leads, findings).await?;
        consistency::check(database, findings).await?;
        let changes: i64 = leads.values().map(|(version, _)| version).sum();
        findings.fact("leads acknowledged", leads.len());
        findings.fact("changes acknowledged", changes);
        for (code, count) in std::mem::take(&mut *lock(&self.results.codes)) {
            let allowed = ALLOWED.iter().any(|allowed| format!("{allowed:?}") == code);
            findings.expect(allowed, || format!("{count} calls failed with {code}"));
            findings.fact(&format!("failed with {code}"), count);
        }
        Ok(())
    }
}

/// One writer.
struct Writer {
    name: usize,
    callers: Vec<Caller>,
    random: fastrand::Rng,
    results: Results,
}

impl Writer {
    /// Creates and updates leads, retrying every call. Returns an error message if a call never succeeds.
    async fn until_acknowledged(mut self) -> Option<String> {
        let mut number = 0;
        while !self.results.stop_requested.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("{} {number}", self.name);
            let mut lead = String::new();
            for change in 0..=UPDATES {
                let phone = change.to_string();
                let id = Uuid::from_u128(self.random.u128(..)).to_string();
                let started = Instant::now();
                let mut attempt = number;
                let done = loop {
                    let caller = &self.callers[attempt % self.callers.len()];
                    let response = match change {
                        0 => caller.create(&name, &id).await,
                        _ => caller.update(&lead, &phone, &id).await,
                    };
                    match response {
                        Ok(done) => break done,
                        Err(status) if started.elapsed() > GIVE_UP => {
                            return Some(format!("{name:?} never succeeded: {status}"));
                        }
                        Err(status) => self.results.rejected(&status),
                    }
                    attempt += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                };
                self.results.done(&name, version(&done), done.phone);
                lead = done.id;
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }

    /// Creates leads, each with a single call without a request id.
    async fn once(self) -> Option<String> {
        let mut number = 0;
        while !self.results.stop_requested.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("{} {number}", self.name);
            let caller = &self.callers[number % self.callers.len()];
            match caller.create(&name, "").await {
                Ok(done) => self.results.done(&name, version(&done), done.phone),
                Err(status) => self.results.rejected(&status),
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }
}

impl Results {
    fn done(&self, name: &str, version: i64, phone: String) {
        lock(&self.leads).insert(name.to_owned(), (version, phone));
        let mut silence = lock(&self.silence);
        *silence = (Instant::now(), silence.1.max(silence.0.elapsed()));
    }

    fn rejected(&self, status: &Status) {
        let code = format!("{:?}", status.code());
        *lock(&self.codes).entry(code).or_default() += 1;
    }
}

/// Every acknowledged lead must exist exactly once and as acknowledged. Only its own writer changes a lead, and it
/// retries each call until it succeeds, so there can be no newer version.
async fn compare(
    database: &Database,
    acknowledged: &HashMap<String, (i64, String)>,
    findings: &mut Findings,
) -> Result<()> {
    let db = database.connect().await?;
    let mut present: HashMap<String, Vec<(i64, String)>> = HashMap::new();
    for row in db
        .rows("SELECT last_name, version, phone FROM leads")
        .await?
    {
        let lead = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        present
            .entry(row.try_get_by_index(0)?)
            .or_default()
            .push(lead);
    }
    db.close().await?;
    for (name, found) in &present {
        findings.expect(found.len() == 1, || {
            format!("the lead {name:?} was created {} times", found.len())
        });
    }
    for (name, expected) in acknowledged {
        let found = present.get(name).and_then(|found| found.first());
        findings.expect(found == Some(expected), || {
            format!("the lead {name:?} was acknowledged as {expected:?} and is {found:?}")
        });
    }
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

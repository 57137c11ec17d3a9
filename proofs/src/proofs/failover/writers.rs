//! Those who write while PostgreSQL fails. Half of them give every call a request id and repeat it until
//! it is answered OK, at another replica each time; the others call once and take what they are told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::client::{Caller, version};
use crate::harness::context::Context;
use crate::harness::database::Database;
use crate::harness::report::Findings;
use crate::harness::whole;

const WRITERS: usize = 16;
/// How often a lead is changed after it was made.
const UPDATES: i64 = 3;
/// A pause after each call: what runs PostgreSQL needs the machine too.
const PAUSE: Duration = Duration::from_millis(8);
const BEFORE_REPEATING: Duration = Duration::from_millis(50);
/// How long a call is repeated at most.
const GIVE_UP: Duration = Duration::from_secs(120);
const ALLOWED: &[Code] = &[Code::Unavailable, Code::Aborted, Code::DeadlineExceeded];

/// Callers at work until they are told to stop.
pub struct Writers {
    told: Told,
    tasks: JoinSet<Option<String>>,
}

/// What the writers were told.
#[derive(Clone)]
struct Told {
    enough: Arc<AtomicBool>,
    /// The acknowledged leads by name, with version and phone; whether there may be more changes.
    leads: Arc<Mutex<HashMap<String, (i64, String)>>>,
    codes: Arc<Mutex<BTreeMap<String, usize>>>,
    /// When a change was last acknowledged, and the longest time without since that was asked.
    silence: Arc<Mutex<(Instant, Duration)>>,
}

impl Writers {
    /// Sets them to work, each with all of these callers, one for each replica.
    pub fn start(context: &Context<'_>, callers: &[Caller]) -> Self {
        let told = Told {
            enough: Arc::default(),
            leads: Arc::default(),
            codes: Arc::default(),
            silence: Arc::new(Mutex::new((Instant::now(), Duration::ZERO))),
        };
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let callers = callers.iter().map(Caller::without_deadline).collect();
            let random = context.random(writer as u64 + 1);
            let writing = Writing {
                name: writer,
                callers,
                random,
                told: told.clone(),
            };
            if writer % 2 == 0 {
                tasks.spawn(writing.until_answered());
            } else {
                tasks.spawn(writing.once());
            }
        }
        Self { told, tasks }
    }

    /// The longest time without an acknowledged change since this was last asked.
    pub fn longest_silence(&self) -> Duration {
        let mut silence = lock(&self.told.silence);
        let longest = silence.1.max(silence.0.elapsed());
        silence.1 = Duration::ZERO;
        longest
    }

    /// Has them stop, and compares what they were told with what is there.
    pub async fn stop(self, database: &Database, findings: &mut Findings) -> Result<()> {
        self.told.enough.store(true, Ordering::Relaxed);
        for unfinished in self.tasks.join_all().await.into_iter().flatten() {
            findings.broke(unfinished);
        }
        let leads = std::mem::take(&mut *lock(&self.told.leads));
        compare(database, &leads, findings).await?;
        whole::look(database, findings).await?;
        let changes: i64 = leads.values().map(|(version, _)| version).sum();
        findings.fact("leads acknowledged", leads.len());
        findings.fact("changes acknowledged", changes);
        for (code, count) in std::mem::take(&mut *lock(&self.told.codes)) {
            let allowed = ALLOWED.iter().any(|allowed| format!("{allowed:?}") == code);
            findings.expect(allowed, || format!("{count} calls were answered {code}"));
            findings.fact(&format!("answered {code}"), count);
        }
        Ok(())
    }
}

/// One who writes.
struct Writing {
    name: usize,
    callers: Vec<Caller>,
    random: fastrand::Rng,
    told: Told,
}

impl Writing {
    /// Makes leads and changes each, repeating every call. Tells of one that could not be had so.
    async fn until_answered(mut self) -> Option<String> {
        let mut number = 0;
        while !self.told.enough.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("{} {number}", self.name);
            let mut lead = String::new();
            for change in 0..=UPDATES {
                let phone = change.to_string();
                let id = Uuid::from_u128(self.random.u128(..)).to_string();
                let begun = Instant::now();
                let mut turn = number;
                let done = loop {
                    let caller = &self.callers[turn % self.callers.len()];
                    let answer = match change {
                        0 => caller.create(&name, &id).await,
                        _ => caller.update(&lead, &phone, &id).await,
                    };
                    match answer {
                        Ok(done) => break done,
                        Err(status) if begun.elapsed() > GIVE_UP => {
                            return Some(format!("{name:?} could not be had: {status}"));
                        }
                        Err(status) => self.told.refused(&status),
                    }
                    turn += 1;
                    tokio::time::sleep(BEFORE_REPEATING).await;
                };
                self.told.done(&name, version(&done), done.phone);
                lead = done.id;
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }

    /// Makes leads, each by one call without a request id.
    async fn once(self) -> Option<String> {
        let mut number = 0;
        while !self.told.enough.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("{} {number}", self.name);
            let caller = &self.callers[number % self.callers.len()];
            match caller.create(&name, "").await {
                Ok(done) => self.told.done(&name, version(&done), done.phone),
                Err(status) => self.told.refused(&status),
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }
}

impl Told {
    fn done(&self, name: &str, version: i64, phone: String) {
        lock(&self.leads).insert(name.to_owned(), (version, phone));
        let mut silence = lock(&self.silence);
        *silence = (Instant::now(), silence.1.max(silence.0.elapsed()));
    }

    fn refused(&self, status: &Status) {
        let code = format!("{:?}", status.code());
        *lock(&self.codes).entry(code).or_default() += 1;
    }
}

/// Every acknowledged lead is there, as it was acknowledged and once. Nobody else changes them, and what
/// was not answered was repeated until it was: so there is no other version either.
async fn compare(
    database: &Database,
    told: &HashMap<String, (i64, String)>,
    findings: &mut Findings,
) -> Result<()> {
    let db = database.connect().await?;
    let mut there: HashMap<String, Vec<(i64, String)>> = HashMap::new();
    for row in db
        .rows("SELECT last_name, version, phone FROM leads")
        .await?
    {
        let lead = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        there
            .entry(row.try_get_by_index(0)?)
            .or_default()
            .push(lead);
    }
    db.close().await?;
    for (name, found) in &there {
        findings.expect(found.len() == 1, || {
            format!("the lead {name:?} was made {} times", found.len())
        });
    }
    for (name, told) in told {
        let found = there.get(name).and_then(|found| found.first());
        findings.expect(found == Some(told), || {
            format!("the lead {name:?} was acknowledged as {told:?} and is {found:?}")
        });
    }
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

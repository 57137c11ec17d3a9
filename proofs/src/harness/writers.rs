//! Writers that each make their changes in a known order. Any copy of the database can then be checked: it must
//! contain a prefix of each writer's changes, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::Status;

use super::client::{Caller, reason};
use super::database::Database;
use super::report::Findings;

/// An upper limit, so that a writer that is never stopped ends.
const CHANGES: usize = 1_000_000;
/// How many versions each lead gets: it is created once, then updated.
const VERSIONS: usize = 4;

/// The running writers.
pub struct Writers {
    all: Vec<Arc<Progress>>,
    running: JoinSet<Result<(), Status>>,
    stop: Arc<AtomicBool>,
}

/// The progress of one writer.
#[derive(Default)]
struct Progress {
    sent: AtomicUsize,
    acknowledged: AtomicUsize,
}

impl Writers {
    /// Starts `count` writers that share these connections.
    pub fn start(callers: &[Caller], count: usize) -> Self {
        let mut writers = Self {
            all: Vec::new(),
            running: JoinSet::new(),
            stop: Arc::default(),
        };
        for (number, caller) in callers.iter().cycle().take(count).enumerate() {
            let progress = Arc::<Progress>::default();
            writers.all.push(Arc::clone(&progress));
            let stop = Arc::clone(&writers.stop);
            let work = write(caller.clone(), number, progress, stop);
            writers.running.spawn(work);
        }
        writers
    }

    /// How many changes of each writer were acknowledged.
    pub fn acknowledged(&self) -> Vec<usize> {
        let all = self.all.iter();
        all.map(|one| one.acknowledged.load(Ordering::SeqCst))
            .collect()
    }

    /// How many changes of each writer were sent, acknowledged or not.
    pub fn sent(&self) -> Vec<usize> {
        let all = self.all.iter();
        all.map(|one| one.sent.load(Ordering::SeqCst)).collect()
    }

    /// Lets the current calls finish. Every error is recorded, because no fault is injected here.
    pub async fn stop(self, findings: &mut Findings) {
        self.stop.store(true, Ordering::SeqCst);
        for done in self.running.join_all().await {
            if let Err(status) = done {
                let reason = reason(&status);
                findings.broke(format!("a call of a writer failed: {status} {reason}"));
            }
        }
    }
}

async fn write(
    caller: Caller,
    writer: usize,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
) -> Result<(), Status> {
    let mut lead = String::new();
    for change in 0..CHANGES {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        progress.sent.store(change + 1, Ordering::SeqCst);
        let done = match change % VERSIONS {
            0 => caller.create(&name(writer, change / VERSIONS), "").await?,
            _ => caller.update(&lead, &phone(writer, change), "").await?,
        };
        lead = done.id;
        progress.acknowledged.store(change + 1, Ordering::SeqCst);
    }
    Ok(())
}

fn name(writer: usize, lead: usize) -> String {
    format!("Writer {writer} {lead}")
}

fn phone(writer: usize, change: usize) -> String {
    format!("{writer} {change}")
}

/// The leads of one writer in a copy: version and phone by the lead's number.
type Leads = BTreeMap<usize, (i64, String)>;

/// Checks that a copy contains a prefix of each writer's changes: all changes acknowledged `before` the backup
/// started, and only changes sent until `after` it was made. Returns how many changes it contains.
pub async fn compare(
    copy: &Database,
    before: &[usize],
    after: &[usize],
    findings: &mut Findings,
) -> Result<usize> {
    let mut all: Vec<Leads> = vec![Leads::new(); before.len()];
    let db = copy.connect().await?;
    for row in db
        .rows("SELECT last_name, version, phone FROM leads")
        .await?
    {
        let text: String = row.try_get_by_index(0)?;
        let numbers = text
            .strip_prefix("Writer ")
            .and_then(|text| text.split_once(' '));
        let place = numbers.and_then(|(writer, lead)| {
            Some((
                all.get_mut(writer.parse::<usize>().ok()?)?,
                lead.parse().ok()?,
            ))
        });
        match place {
            Some((leads, lead)) => {
                leads.insert(lead, (row.try_get_by_index(1)?, row.try_get_by_index(2)?));
            }
            None => findings.broke(format!("no writer created the lead {text:?}")),
        }
    }
    db.close().await?;
    let mut held = 0;
    for (writer, leads) in all.iter().enumerate() {
        match beginning(writer, leads) {
            Err(why) => findings.broke(why),
            Ok(changes) => {
                held += changes;
                let (acknowledged, sent) = (before[writer], after[writer]);
                findings.expect((acknowledged..=sent).contains(&changes), || {
                    format!(
                        "writer {writer}: {changes} changes are present; {acknowledged} were acknowledged \
                         before, and {sent} sent until after"
                    )
                });
            }
        }
    }
    Ok(held)
}

/// Returns how many of the writer's changes lead to exactly these leads.
fn beginning(writer: usize, leads: &Leads) -> Result<usize, String> {
    let Some((newest, (version, _))) = leads.last_key_value() else {
        return Ok(0);
    };
    let changes = newest * VERSIONS + usize::try_from(*version).unwrap_or(0);
    for lead in 0..=*newest {
        let last = changes.min((lead + 1) * VERSIONS) - 1;
        let wanted = match last % VERSIONS {
            0 => (1, String::new()),
            step => (step as i64 + 1, phone(writer, last)),
        };
        let found = leads.get(&lead);
        if found != Some(&wanted) {
            return Err(format!(
                "writer {writer}: lead {lead} of {newest} is {found:?}, not {wanted:?}"
            ));
        }
    }
    Ok(changes)
}

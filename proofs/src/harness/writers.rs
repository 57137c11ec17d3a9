//! Those who write in an order of their own, so that of any copy of the database it can be told whether it
//! holds the beginning of what each wrote, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::Status;

use super::client::{Caller, reason};
use super::database::Database;
use super::report::Findings;

/// A writer whom nobody stops ends by itself.
const CHANGES: usize = 1_000_000;
/// A lead is created, and then changed so often that these are all its versions.
const VERSIONS: usize = 4;

/// The writers, while they write.
pub struct Writers {
    all: Vec<Arc<Progress>>,
    running: JoinSet<Result<(), Status>>,
    stop: Arc<AtomicBool>,
}

/// How far one has come.
#[derive(Default)]
struct Progress {
    sent: AtomicUsize,
    answered: AtomicUsize,
}

impl Writers {
    /// `count` of them, who share these connections.
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

    /// How many changes of each have been answered.
    pub fn answered(&self) -> Vec<usize> {
        let all = self.all.iter();
        all.map(|one| one.answered.load(Ordering::SeqCst)).collect()
    }

    /// How many changes of each have been sent, answered or not.
    pub fn sent(&self) -> Vec<usize> {
        let all = self.all.iter();
        all.map(|one| one.sent.load(Ordering::SeqCst)).collect()
    }

    /// Lets them finish what they are at. Who was refused something is told: nothing here gives a reason.
    pub async fn stop(self, findings: &mut Findings) {
        self.stop.store(true, Ordering::SeqCst);
        for done in self.running.join_all().await {
            if let Err(status) = done {
                let reason = reason(&status);
                findings.broke(format!("a writer was refused: {status} {reason}"));
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
        progress.answered.store(change + 1, Ordering::SeqCst);
    }
    Ok(())
}

fn name(writer: usize, lead: usize) -> String {
    format!("Writer {writer} {lead}")
}

fn phone(writer: usize, change: usize) -> String {
    format!("{writer} {change}")
}

/// Of each writer the leads that a copy holds: version and phone by number.
type Leads = BTreeMap<usize, (i64, String)>;

/// Whether a copy holds the beginning of what each wrote: all that was answered `before` it was begun, and
/// nothing but what had been sent `after` it was made. Gives how many changes it holds.
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
            None => findings.broke(format!("nobody wrote the lead {text:?}")),
        }
    }
    db.close().await?;
    let mut held = 0;
    for (writer, leads) in all.iter().enumerate() {
        match beginning(writer, leads) {
            Err(why) => findings.broke(why),
            Ok(changes) => {
                held += changes;
                let (answered, sent) = (before[writer], after[writer]);
                findings.expect((answered..=sent).contains(&changes), || {
                    format!(
                        "{changes} changes of writer {writer} are there; {answered} had been answered \
                         before, and {sent} sent afterwards"
                    )
                });
            }
        }
    }
    Ok(held)
}

/// How many of a writer's changes these leads are the outcome of.
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
                "writer {writer}: lead {lead} of {newest} is {found:?} in place of {wanted:?}"
            ));
        }
    }
    Ok(changes)
}

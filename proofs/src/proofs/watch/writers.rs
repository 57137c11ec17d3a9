//! The writers: they change a few leads that all of them share, and many leads of their own with their opportunities and
//! orders, over all servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use leadsmith_proto::Lead;
use tokio::task::JoinSet;
use tonic::Status;
use uuid::Uuid;

use super::history::History;
use super::shared::{Shared, lock};
use crate::harness::client::{Caller, reason, version};
use crate::harness::report::Findings;
use crate::harness::requests;

pub const WRITERS: usize = 16;
/// A pause after each call, because the readers need the processor too.
const PAUSE: Duration = Duration::from_millis(10);
/// How many leads of its own a writer remembers.
const REMEMBERED: usize = 8;
/// The custom fields of the leads that all writers share, so that their events are large.
const FIELDS: usize = 4;
/// Why a change may be refused.
const REFUSED: &[&str] = &[
    "LEAD_DEACTIVATED",
    "LEAD_NOT_DEACTIVATED",
    "LEAD_CONVERTED",
    "ORDER_CANCELED",
    "ORDER_COMPLETE",
    "ACTION_DONE",
    "WRITE_CONFLICT",
];

/// The newest version of each record that was acknowledged.
type Acknowledged = Arc<Mutex<HashMap<Uuid, i64>>>;

/// The running writers.
pub struct Writers {
    tasks: JoinSet<()>,
    acknowledged: Acknowledged,
}

/// A lead with much text.
pub fn large(last_name: &str) -> Lead {
    let fields = (0..FIELDS).map(|number| (format!("field_{number}"), "x".repeat(1_000)));
    Lead {
        last_name: last_name.to_owned(),
        custom_fields: fields.collect(),
        ..Lead::default()
    }
}

impl Writers {
    /// Starts the writers. All of them change the leads `common`.
    pub fn start(
        shared: &Arc<Shared>,
        callers: &[Caller],
        common: &[String],
        random: impl Fn(u64) -> Rng,
    ) -> Self {
        let acknowledged = Acknowledged::default();
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer {
                number,
                shared: Arc::clone(shared),
                callers: callers.to_vec(),
                common: common.to_vec(),
                own: Vec::new(),
                opportunities: Vec::new(),
                orders: Vec::new(),
                acknowledged: Arc::clone(&acknowledged),
                random: random(number as u64),
            };
            tasks.spawn(writer.run());
        }
        Self {
            tasks,
            acknowledged,
        }
    }

    /// Waits until they have stopped, and checks that everything acknowledged is in the history.
    pub async fn finish(
        self,
        history: impl AsyncFnOnce() -> Result<History>,
        findings: &mut Findings,
    ) -> Result<History> {
        self.tasks.join_all().await;
        let history = history().await?;
        let mut newest: HashMap<Uuid, i64> = HashMap::new();
        for change in history.changes() {
            newest.insert(change.record, change.version);
        }
        let acknowledged = lock(&self.acknowledged);
        for (record, version) in acknowledged.iter() {
            let found = newest.get(record).copied().unwrap_or(0);
            findings.expect(found >= *version, || {
                format!(
                    "{record} was acknowledged at version {version}, and the history has {found}"
                )
            });
        }
        Ok(history)
    }
}

struct Writer {
    number: usize,
    shared: Arc<Shared>,
    callers: Vec<Caller>,
    common: Vec<String>,
    own: Vec<String>,
    opportunities: Vec<String>,
    orders: Vec<String>,
    acknowledged: Acknowledged,
    random: Rng,
}

impl Writer {
    async fn run(mut self) {
        let mut number = 0;
        while !self.shared.is_stopped() {
            number += 1;
            let caller = self.callers[self.random.usize(..self.callers.len())].clone();
            match self.change(&caller, number).await {
                Ok(()) => self.shared.count("changes"),
                Err(status) if REFUSED.contains(&reason(&status).as_str()) => {
                    self.shared.count("changes that were refused");
                }
                Err(status) => {
                    self.shared.outage("a writer", &status);
                    tokio::time::sleep(5 * PAUSE).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes a random change.
    async fn change(&mut self, caller: &Caller, number: usize) -> Result<(), Status> {
        let text = format!("{} {number}", self.number);
        let common = self
            .random
            .choice(&self.common)
            .cloned()
            .unwrap_or_default();
        let Some(own) = self.random.choice(&self.own).cloned() else {
            return self.create(caller, &text).await;
        };
        match self.random.u32(..100) {
            0..15 => self.create(caller, &text).await,
            15..40 => {
                let lead = caller.update(&common, &text, "").await?;
                self.acknowledge(&lead);
                Ok(())
            }
            40..60 => {
                let lead = caller.update(&own, &text, "").await?;
                self.acknowledge(&lead);
                Ok(())
            }
            60..68 => {
                let of = [own, common, self.shared.marked.clone()];
                let of = &of[self.random.usize(..3)];
                let opportunity = caller.opportunity(of, &text).await?;
                remember(&mut self.opportunities, opportunity);
                Ok(())
            }
            68..76 => match self.random.choice(&self.opportunities).cloned() {
                Some(opportunity) => {
                    let request = requests::next_step(&opportunity, &text, String::new());
                    let mut opportunities = caller.opportunities();
                    opportunities.update(caller.request(request)).await?;
                    Ok(())
                }
                None => Ok(()),
            },
            76..82 => {
                let request = requests::order_to_install(&own, String::new());
                let response = caller.orders().create(caller.request(request)).await?;
                let order = response.into_inner().order.unwrap_or_default();
                remember(&mut self.orders, order.id);
                Ok(())
            }
            82..88 => match self.random.choice(&self.orders).cloned() {
                Some(order) => {
                    let request = requests::comment(&order, &text, String::new());
                    caller.orders().comment(caller.request(request)).await?;
                    Ok(())
                }
                None => Ok(()),
            },
            88..91 => {
                let lead = caller.deactivate(&own).await?;
                self.acknowledge(&lead);
                Ok(())
            }
            91..95 => {
                let lead = caller.reactivate(&own).await?;
                self.acknowledge(&lead);
                Ok(())
            }
            95..98 => {
                let lead = caller.convert(&own).await?;
                self.acknowledge(&lead);
                Ok(())
            }
            _ => {
                // A conversion by an order is a change of two records.
                let order = caller.order(&own).await?;
                caller.provision(&order).await?;
                Ok(())
            }
        }
    }

    async fn create(&mut self, caller: &Caller, text: &str) -> Result<(), Status> {
        let lead = caller.create(text, "").await?;
        self.acknowledge(&lead);
        remember(&mut self.own, lead.id);
        Ok(())
    }

    fn acknowledge(&self, lead: &Lead) {
        let Ok(id) = lead.id.parse() else { return };
        let mut acknowledged = lock(&self.acknowledged);
        let known = acknowledged.entry(id).or_default();
        *known = version(lead).max(*known);
    }
}

/// Adds a record, and forgets the oldest if there are many.
fn remember(records: &mut Vec<String>, id: String) {
    records.push(id);
    if records.len() > REMEMBERED {
        records.remove(0);
    }
}

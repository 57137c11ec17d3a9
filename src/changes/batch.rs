//! Changes of many callers in one transaction: looked up together, decided one after the other,
//! written together, answered after the commit. A commit costs a sync of the disk, and a statement a
//! trip to the database; both are shared by everybody in the batch.
//!
//! In a batch nobody waits for a lock that somebody outside holds: who would have to is put off, and
//! goes on in a batch of those who wait ([`Patience`]). So a record that is locked for long holds up
//! only those who want it. Locks are taken in one order (request ids, emails, orders, leads, each
//! sorted), so that no two batches can wait for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::draft::{Held, Needs, Records, Writes};
use super::fate::{Trace, Witness};
use super::idempotency::{self, Found};
use super::{Change, erase, events, history};
use crate::auth::Call;
use crate::clock::Clock;
use crate::db::rows::{self, Rows};
use crate::db::{Patience, Tx};
use crate::error::{Error, Result};
use crate::leads::model::Lead;
use crate::seeded::{Bug, sown};
use crate::{leads, opportunities, orders};

/// A change that somebody waits for.
pub(super) trait Job: Send {
    /// Who makes it.
    fn call(&self) -> &Call;
    /// What it has to know.
    fn needs(&self) -> &Needs;
    /// Decides it. What is to be written comes back, with the answer to keep for repeats.
    fn decide(&mut self, records: &Records, clock: &Clock) -> Option<Decided>;
    /// Takes the answer that was kept.
    fn replay(&mut self, found: idempotency::Kept);
    /// Takes an error for its answer.
    fn fail(&mut self, error: Error);
    /// Takes back the answer of a transaction that did not come about.
    fn forget(&mut self);
    /// Whether it has an answer.
    fn is_answered(&self) -> bool;
    /// Whether that is an error.
    fn is_refused(&self) -> bool;
    /// Whether its caller still waits.
    fn is_awaited(&self) -> bool;
    /// For how long its caller has.
    fn waited(&self) -> Duration;
    /// Hands its answer to its caller.
    fn send(&mut self);
}

/// What came of deciding a change that is to be written.
pub(super) struct Decided {
    /// What to write.
    pub writes: Writes,
    /// The lead it belongs to and the answer to keep under its request id.
    pub kept: Option<(Uuid, Vec<u8>)>,
}

/// What a run of a batch leaves to know.
#[derive(Default)]
pub(super) struct Ran {
    /// Whether there is anything to commit.
    pub written: bool,
    /// By what it can be told whether the transaction came about, where that can be.
    pub trace: Option<Trace>,
    /// Whether somebody's data was erased.
    pub erased: bool,
}

/// Runs the jobs. Those that are not answered afterwards were put off.
pub(super) async fn run(tx: &Tx, jobs: &mut [Box<dyn Job>], patience: Patience) -> Result<Ran> {
    replay(tx, jobs).await?;
    let open: Vec<&mut Box<dyn Job>> = jobs.iter_mut().filter(|job| !job.is_answered()).collect();
    if open.is_empty() {
        return Ok(Ran::default());
    }
    let needs: Vec<Needs> = open.iter().map(|job| job.needs().clone()).collect();
    let loaded = load(tx, needs, patience).await?;
    let mut records = loaded.records;
    let mut written = Written::default();
    let mut all_erased = Vec::new();
    for job in open {
        if loaded.busy.meets(job.needs(), &records) {
            continue;
        }
        let decided = job.decide(&records, &tx.clock);
        // It may be refused for what the first call with its request id did on another replica, just after
        // this one looked for it.
        if job.is_refused() && replay(tx, std::slice::from_mut(job)).await? {
            continue;
        }
        let Some(decided) = decided else {
            continue;
        };
        let Writes {
            leads,
            orders,
            opportunities,
            runs,
            changes,
            erased,
        } = decided.writes;
        for change in changes {
            written.change(tx, job.call(), change)?;
        }
        for run in &runs {
            written.runs.push(orders::store::run_to_row(run)?);
        }
        for opportunity in &opportunities {
            written
                .opportunities
                .push(opportunities::store::to_row(opportunity)?);
        }
        if let Some((lead, response)) = decided.kept {
            let row = idempotency::to_row(job.call(), lead, response, tx.clock.now());
            written.answers.extend(row);
        }
        records.take_over(leads, orders);
        let name = idempotency::name(job.call());
        all_erased.extend(erased.into_iter().map(|lead| (lead, name)));
    }
    let (written, trace) = written.finish(tx, records).await?;
    // Last: what others in the batch wrote of these leads before is their past too.
    for (lead, name) in &all_erased {
        erase::past(tx, lead, *name).await?;
    }
    Ok(Ran {
        written,
        trace,
        erased: !all_erased.is_empty(),
    })
}

/// Answers those whose request was answered before or is being worked on elsewhere; says whether there
/// were any.
async fn replay(tx: &Tx, jobs: &mut [Box<dyn Job>]) -> Result<bool> {
    let with_key = |job: &&mut Box<dyn Job>| job.call().key.is_some();
    let mut jobs: Vec<&mut Box<dyn Job>> = jobs.iter_mut().filter(with_key).collect();
    let keys: Vec<_> = jobs
        .iter()
        .filter_map(|job| idempotency::name(job.call()))
        .collect();
    let found = idempotency::look(tx, &keys).await?;
    let (mut any, mut answers) = (false, false);
    for (job, found) in jobs.iter_mut().zip(found) {
        any |= !matches!(found, Found::Nothing);
        answers |= matches!(found, Found::Kept(_));
        match found {
            Found::Nothing => {}
            Found::InFlight => job.fail(Error::RequestInFlight),
            Found::Kept(kept) => job.replay(kept),
        }
    }
    if answers {
        tx.settled().await?;
    }
    Ok(any)
}

/// What was found of what the jobs need.
struct Loaded {
    records: Records,
    busy: Busy,
}

/// What somebody outside the batch holds.
#[derive(Default)]
struct Busy {
    emails: BTreeSet<String>,
    orders: BTreeSet<Uuid>,
    leads: BTreeSet<Uuid>,
    /// The orders of the leads that are wanted with all of them.
    all_orders: HashMap<Uuid, Vec<Uuid>>,
}

impl Busy {
    fn meets(&self, needs: &Needs, records: &Records) -> bool {
        let order = needs.order.and_then(|id| records.orders.get(&id));
        let leads = needs
            .lead
            .into_iter()
            .chain(order.map(|held| held.now.lead_id));
        needs
            .email
            .as_ref()
            .is_some_and(|email| self.emails.contains(email))
            || needs.order.is_some_and(|id| self.orders.contains(&id))
            || leads.into_iter().any(|id| self.leads.contains(&id))
            || (needs.all_orders && needs.lead.is_some_and(|id| self.has_order_of(id)))
    }
}

impl Busy {
    fn has_order_of(&self, lead_id: Uuid) -> bool {
        let orders = self.all_orders.get(&lead_id);
        orders.is_some_and(|ids| ids.iter().any(|id| self.orders.contains(id)))
    }
}

async fn load(tx: &Tx, all: Vec<Needs>, patience: Patience) -> Result<Loaded> {
    let (mut emails, mut order_ids) = (BTreeSet::new(), BTreeSet::new());
    let (mut lead_ids, mut opportunity_ids) = (BTreeSet::new(), BTreeSet::new());
    let mut all_orders = HashMap::new();
    for needs in all {
        if let Some(lead_id) = needs.lead.filter(|_| needs.all_orders) {
            let ids = orders::store::ids(&**tx, lead_id).await?;
            order_ids.extend(ids.iter().copied());
            all_orders.insert(lead_id, ids);
        }
        emails.extend(needs.email);
        order_ids.extend(needs.order);
        lead_ids.extend(needs.lead);
        opportunity_ids.extend(needs.opportunity);
    }
    let busy_emails = leads::store::lock_emails(tx, &emails, patience).await?;
    emails.retain(|email| !busy_emails.contains(email));
    let emails = leads::store::with_emails(tx, emails).await?;
    let (orders, busy_orders) = orders::store::hold(tx, order_ids, patience).await?;
    lead_ids.extend(orders.iter().map(|order| order.lead_id));
    let (leads, busy_leads) = leads::store::hold(tx, lead_ids, patience).await?;
    let mut opportunities = HashMap::new();
    for id in opportunity_ids {
        if let Some(view) = opportunities::store::get(&**tx, id).await? {
            opportunities.insert(id, view);
        }
    }
    Ok(Loaded {
        records: Records {
            leads: leads
                .into_iter()
                .map(|lead| (lead.id, Held::stored(lead)))
                .collect(),
            orders: orders
                .into_iter()
                .map(|order| (order.id, Held::stored(order)))
                .collect(),
            opportunities,
            emails,
        },
        busy: Busy {
            emails: busy_emails,
            orders: busy_orders,
            leads: busy_leads,
            all_orders,
        },
    })
}

/// The rows of a batch.
#[derive(Default)]
struct Written {
    history: Vec<crate::db::entities::history::ActiveModel>,
    events: Vec<crate::db::entities::event::ActiveModel>,
    answers: Vec<crate::db::entities::idempotency_record::ActiveModel>,
    runs: Vec<crate::db::entities::action_run::ActiveModel>,
    opportunities: Vec<crate::db::entities::opportunity::ActiveModel>,
}

impl Written {
    fn change(&mut self, tx: &Tx, call: &Call, change: Change) -> Result<()> {
        self.history.push(history::to_row(tx, call, &change)?);
        self.events.push(events::to_row(tx, call, change)?);
        Ok(())
    }

    /// Writes all of it. Whether that was anything, and how to tell later whether it came about.
    async fn finish(self, tx: &Tx, records: Records) -> Result<(bool, Option<Trace>)> {
        let witness = self.witness();
        // In the order of their creation: what counts them up must agree with it.
        let mut created: BTreeMap<Uuid, Lead> = BTreeMap::new();
        let mut changed = Vec::new();
        for (id, held) in records.leads {
            match held.stored {
                None => {
                    created.insert(id, held.now);
                }
                Some(stored) if stored.version != held.now.version => {
                    changed.push((stored, held.now))
                }
                Some(_) => {}
            }
        }
        changed.sort_unstable_by_key(|(stored, _)| stored.id);
        let mut all = leads::store::insert(tx, created.into_values().collect()).await?;
        all.extend(leads::store::updates(tx, changed)?);
        all.extend(orders::store::writes(records.orders.into_values())?);
        all.extend(Rows::insert(self.opportunities)?);
        all.extend(Rows::insert(self.runs)?);
        if sown(Bug::HistoryApart) {
            rows::write(tx, std::mem::take(&mut all)).await?;
            tx.execute_unprepared("COMMIT; BEGIN").await?;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        all.extend(Rows::insert(self.history)?);
        all.extend(Rows::insert(self.events)?);
        all.extend(Rows::insert(self.answers)?);
        let written = !all.is_empty();
        let transaction = rows::write(tx, all).await?;
        let trace = transaction
            .zip(witness)
            .map(|(transaction, witness)| Trace {
                transaction,
                witness,
            });
        Ok((written, trace))
    }

    fn witness(&self) -> Option<Witness> {
        let history = self.history.first().and_then(|row| row.id.try_as_ref());
        let run = self.runs.first().and_then(|row| row.id.try_as_ref());
        let answer = self.answers.first().and_then(|row| {
            let principal = row.principal_id.try_as_ref()?;
            Some((*principal, *row.request_id.try_as_ref()?))
        });
        let history = history.map(|id| Witness::History(*id));
        let run = run.map(|id| Witness::Run(*id));
        history.or(run).or(answer.map(Witness::Answer))
    }
}

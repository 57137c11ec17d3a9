//! Changes of many callers in one transaction: looked up together, decided one after the other,
//! written together, answered after the commit. A commit costs a sync of the disk, and a statement a
//! trip to the database; both are shared by everybody in the batch.
//!
//! A batch waits for no lock that somebody outside holds: a change that would have to is put off, and
//! tried again in another batch ([`Patience::None`]). So a record that is locked for long holds up only
//! those who want it. Locks are taken in one order all the same (request ids, emails, orders,
//! opportunities, leads, each sorted).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::draft::{self, Held, Needs, Records, Versioned, Writes};
use super::fate::{Trace, Witness};
use super::idempotency::{self, Found};
use super::queue::Pending;
use super::{Change, erase, events, history, packed};
use crate::auth::Call;
use crate::clock::Clock;
use crate::db::rows::{self, Rows};
use crate::db::{Patience, Tx};
use crate::error::{Error, Result};
use crate::leads::model::Lead;
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
pub(super) async fn run(tx: &Tx, jobs: &mut [Pending]) -> Result<Ran> {
    let mut open: Vec<&mut Box<dyn Job>> =
        jobs.iter_mut().map(|pending| &mut pending.job).collect();
    replay(tx, &mut open).await?;
    open.retain(|job| !job.is_answered());
    if open.is_empty() {
        return Ok(Ran::default());
    }
    let needs: Vec<Needs> = open.iter().map(|job| job.needs().clone()).collect();
    let loaded = load(tx, needs).await?;
    let mut records = loaded.records;
    let mut written = Written::default();
    let mut all_erased = Vec::new();
    for mut job in open {
        if loaded.busy.meets(job.needs(), &records) {
            continue;
        }
        let decided = job.decide(&records, &tx.clock);
        // It may be refused for what the first call with its request id did on another replica, just after
        // this one looked for it.
        if job.is_refused() && replay(tx, std::slice::from_mut(&mut job)).await? {
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
        records.take_over(leads, orders, opportunities);
        if let Some((lead_id, response)) = decided.kept {
            let lead = records.leads.get(&lead_id).map(|held| &held.now);
            let order = job.needs().order.and_then(|id| records.orders.get(&id));
            let response = match lead {
                Some(lead) => packed::pack(response, lead, order.map(|held| &held.now)),
                None => response,
            };
            let row = idempotency::to_row(job.call(), lead_id, response, tx.clock.now());
            written.answers.extend(row);
        }
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
async fn replay(tx: &Tx, jobs: &mut [&mut Box<dyn Job>]) -> Result<bool> {
    let with_key = |job: &&mut &mut Box<dyn Job>| job.call().key.is_some();
    let mut jobs: Vec<_> = jobs.iter_mut().filter(with_key).collect();
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
            Found::Kept(kept) => match kept.unpack(&**tx, job.call()).await {
                Ok(kept) => job.replay(kept),
                Err(error @ Error::LeadErased(_)) => job.fail(error),
                Err(error) => return Err(error),
            },
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
    opportunities: BTreeSet<Uuid>,
    leads: BTreeSet<Uuid>,
}

impl Busy {
    fn meets(&self, needs: &Needs, records: &Records) -> bool {
        let order = needs.order.and_then(|id| records.orders.get(&id));
        let leads = needs
            .lead
            .into_iter()
            .chain(order.map(|held| held.now.lead_id));
        let holds = |set: &BTreeSet<Uuid>, id: Option<Uuid>| id.is_some_and(|id| set.contains(&id));
        needs
            .email
            .as_ref()
            .is_some_and(|email| self.emails.contains(email))
            || holds(&self.orders, needs.order)
            || holds(&self.opportunities, needs.opportunity)
            || leads.into_iter().any(|id| self.leads.contains(&id))
    }
}

/// The orders and opportunities of a lead.
#[derive(Default, PartialEq, Eq)]
struct Attached {
    orders: BTreeSet<Uuid>,
    opportunities: BTreeSet<Uuid>,
}

impl Attached {
    async fn of(tx: &Tx, lead_id: Uuid) -> Result<Self> {
        Ok(Self {
            orders: orders::store::ids(tx, lead_id).await?,
            opportunities: opportunities::store::ids(tx, lead_id).await?,
        })
    }
}

async fn load(tx: &Tx, all: Vec<Needs>) -> Result<Loaded> {
    let (mut emails, mut order_ids) = (BTreeSet::new(), BTreeSet::new());
    let (mut lead_ids, mut opportunity_ids) = (BTreeSet::new(), BTreeSet::new());
    let mut attached = HashMap::new();
    for needs in all {
        if let Some(lead_id) = needs.lead.filter(|_| needs.attached) {
            let found = Attached::of(tx, lead_id).await?;
            order_ids.extend(found.orders.iter().copied());
            opportunity_ids.extend(found.opportunities.iter().copied());
            attached.insert(lead_id, found);
        }
        emails.extend(needs.email);
        order_ids.extend(needs.order);
        lead_ids.extend(needs.lead);
        opportunity_ids.extend(needs.opportunity);
    }
    let patience = Patience::None;
    let busy_emails = leads::store::lock_emails(tx, &emails, patience).await?;
    emails.retain(|email| !busy_emails.contains(email));
    let emails = leads::store::with_emails(tx, emails).await?;
    let (orders, busy_orders) = orders::store::hold(tx, order_ids, patience).await?;
    let (opportunities, busy_opportunities) =
        opportunities::store::hold(tx, opportunity_ids, patience).await?;
    lead_ids.extend(orders.iter().map(|order| order.lead_id));
    let (leads, mut busy_leads) = leads::store::hold(tx, lead_ids, patience).await?;
    for (lead_id, before) in attached {
        let held = |id: &Uuid| !busy_orders.contains(id) && !busy_opportunities.contains(id);
        let is_held = before.orders.iter().chain(&before.opportunities).all(held);
        // Nothing is attached to a lead that is held; but something may have been just before.
        if !is_held || Attached::of(tx, lead_id).await? != before {
            busy_leads.insert(lead_id);
        }
    }
    Ok(Loaded {
        records: Records {
            leads: held(leads),
            orders: held(orders),
            opportunities: held(opportunities),
            emails,
        },
        busy: Busy {
            emails: busy_emails,
            orders: busy_orders,
            opportunities: busy_opportunities,
            leads: busy_leads,
        },
    })
}

fn held<T: Versioned + Clone>(records: Vec<T>) -> HashMap<Uuid, Held<T>> {
    let held = records
        .into_iter()
        .map(|record| (record.id(), Held::stored(record)));
    held.collect()
}

/// The rows of a batch.
#[derive(Default)]
struct Written {
    history: Vec<crate::db::entities::history::ActiveModel>,
    events: Vec<crate::db::entities::event::ActiveModel>,
    answers: Vec<crate::db::entities::idempotency_record::ActiveModel>,
    runs: Vec<crate::db::entities::action_run::ActiveModel>,
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
        all.extend(leads::store::updates(tx, changed).await?);
        let opportunities = records.opportunities.into_values();
        all.extend(draft::rows(opportunities, opportunities::store::to_row)?);
        all.extend(draft::rows(
            records.orders.into_values(),
            orders::store::to_row,
        )?);
        all.extend(Rows::insert(self.runs)?);
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

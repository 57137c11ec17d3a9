//! What a change is decided on, and what it is to write.
//!
//! A decision is a plain function: it gets the records it named, locked, and notes what is to be
//! written. It queries nothing and waits for nothing, so many of them can be decided one after the
//! other inside one transaction, each on what those before it left.

use std::collections::{BTreeMap, HashMap};

use sea_orm::ActiveModelTrait;
use uuid::Uuid;

use super::Change;
use crate::auth::Call;
use crate::clock::Clock;
use crate::db::rows::{self, Rows};
use crate::error::{Error, Result};
use crate::leads::model::{Lead, LeadState};
use crate::opportunities::model::Opportunity;
use crate::orders::model::{ActionRun, Order};

/// What a change has to know. Each is locked until the change is written.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Whether a lead has this normalised email.
    pub email: Option<String>,
    /// An order, and the lead it was sold to.
    pub order: Option<Uuid>,
    /// A lead.
    pub lead: Option<Uuid>,
    /// With the lead, all of its orders and opportunities.
    pub attached: bool,
    /// An opportunity.
    pub opportunity: Option<Uuid>,
}

impl Needs {
    /// A lead alone.
    pub fn lead(id: Uuid) -> Self {
        Self {
            lead: Some(id),
            ..Self::default()
        }
    }
}

/// A record whose changes are counted.
pub trait Versioned {
    /// Which record.
    fn id(&self) -> Uuid;
    /// Counts its changes, from 1.
    fn version(&self) -> i64;
}

/// A record that is being changed.
#[derive(Clone, Debug)]
pub struct Held<T> {
    /// As it is stored; none for a new one.
    pub stored: Option<T>,
    /// As the changes so far left it.
    pub now: T,
}

impl<T: Clone> Held<T> {
    /// As it was read.
    pub fn stored(record: T) -> Self {
        Self {
            stored: Some(record.clone()),
            now: record,
        }
    }
}

/// The rows of new records, in the order of their creation, and of the next versions of others. Each
/// is written over the version that was read and no other.
pub fn rows<T: Versioned, A: ActiveModelTrait>(
    records: impl Iterator<Item = Held<T>>,
    to_row: fn(&T) -> Result<A>,
) -> Result<Vec<Rows>> {
    let (mut created, mut changed) = (BTreeMap::new(), Vec::new());
    for Held { stored, now } in records {
        match stored {
            None => {
                created.insert(now.id(), to_row(&now)?);
            }
            Some(stored) if stored.version() != now.version() => {
                let row = rows::difference(&to_row(&stored)?, to_row(&now)?);
                changed.push((stored.id(), stored.version(), row));
            }
            Some(_) => {}
        }
    }
    let mut all = Rows::update(changed)?;
    all.extend(Rows::insert(created.into_values().collect())?);
    Ok(all)
}

/// The records that a batch of changes is decided on.
#[derive(Debug, Default)]
pub struct Records {
    /// Leads by id.
    pub leads: HashMap<Uuid, Held<Lead>>,
    /// Orders by id.
    pub orders: HashMap<Uuid, Held<Order>>,
    /// Opportunities by id.
    pub opportunities: HashMap<Uuid, Held<Opportunity>>,
    /// For each normalised email that was asked for, the lead that has it.
    pub emails: HashMap<String, Option<(Uuid, LeadState)>>,
}

/// What one change is to write.
#[derive(Default)]
pub struct Writes {
    /// Leads, new ones and next versions.
    pub leads: Vec<Lead>,
    /// Orders, new ones and next versions.
    pub orders: Vec<Order>,
    /// Opportunities, new ones and next versions.
    pub opportunities: Vec<Opportunity>,
    /// Attempts to run actions.
    pub runs: Vec<ActionRun>,
    /// What is recorded of it.
    pub changes: Vec<Change>,
    /// Leads that are erased by it, with what is attached to them.
    pub erased: Vec<Erased>,
}

/// A lead whose past is to be erased.
pub struct Erased {
    /// Which lead.
    pub lead_id: Uuid,
    /// Its orders and opportunities.
    pub attached: Vec<Uuid>,
}

/// One change while it is decided.
pub struct Draft<'a> {
    /// Who makes it, by which RPC.
    pub call: &'a Call,
    /// The time and the ids of what is written.
    pub clock: &'a Clock,
    records: &'a Records,
    pub(super) writes: Writes,
}

impl<'a> Draft<'a> {
    pub(super) fn new(call: &'a Call, clock: &'a Clock, records: &'a Records) -> Self {
        Self {
            call,
            clock,
            records,
            writes: Writes::default(),
        }
    }

    /// A lead that nobody else can change meanwhile.
    ///
    /// # Errors
    /// [`Error::LeadNotFound`].
    pub fn lead(&self, id: Uuid) -> Result<&'a Lead> {
        let held = self.records.leads.get(&id);
        held.map(|held| &held.now).ok_or(Error::LeadNotFound(id))
    }

    /// An order that nobody else can change meanwhile.
    ///
    /// # Errors
    /// [`Error::OrderNotFound`].
    pub fn order(&self, id: Uuid) -> Result<&'a Order> {
        let held = self.records.orders.get(&id);
        held.map(|held| &held.now).ok_or(Error::OrderNotFound(id))
    }

    /// An opportunity that nobody else can change meanwhile.
    pub fn opportunity(&self, id: Uuid) -> Option<&'a Opportunity> {
        self.records.opportunities.get(&id).map(|held| &held.now)
    }

    /// Of a lead that is held with all that is attached to it, the orders.
    pub fn orders_of(&self, lead_id: Uuid) -> Vec<&'a Order> {
        let orders = self.records.orders.values().map(|held| &held.now);
        let mut orders: Vec<&Order> = orders.filter(|order| order.lead_id == lead_id).collect();
        orders.sort_unstable_by_key(|order| order.id);
        orders
    }

    /// Of a lead that is held with all that is attached to it, the opportunities.
    pub fn opportunities_of(&self, lead_id: Uuid) -> Vec<&'a Opportunity> {
        let all = self.records.opportunities.values().map(|held| &held.now);
        let mut all: Vec<&Opportunity> = all.filter(|one| one.lead_id == lead_id).collect();
        all.sort_unstable_by_key(|one| one.id);
        all
    }

    /// The lead that has this normalised email.
    pub fn lead_with_email(&self, email: &str) -> Option<(Uuid, LeadState)> {
        self.records.emails.get(email).copied().flatten()
    }

    /// Writes a new lead, or a lead's next version.
    pub fn put_lead(&mut self, lead: Lead) {
        self.writes.leads.push(lead);
    }

    /// Writes a new order, or an order's next version.
    pub fn put_order(&mut self, order: Order) {
        self.writes.orders.push(order);
    }

    /// Writes a new opportunity, or an opportunity's next version.
    pub fn put_opportunity(&mut self, opportunity: Opportunity) {
        self.writes.opportunities.push(opportunity);
    }

    /// Writes an attempt to run an action.
    pub fn put_run(&mut self, run: ActionRun) {
        self.writes.runs.push(run);
    }

    /// Erases everything that was kept of a lead and of what is attached to it.
    pub fn erase_past(&mut self, erased: Erased) {
        self.writes.erased.push(erased);
    }

    /// Writes the history row and the event of an accepted change.
    pub fn record(&mut self, change: Change) {
        self.writes.changes.push(change);
    }
}

impl Records {
    /// Takes over what a change left, for those behind it in the same batch.
    pub fn take_over(
        &mut self,
        leads: Vec<Lead>,
        orders: Vec<Order>,
        opportunities: Vec<Opportunity>,
    ) {
        for lead in leads {
            if let Some(holder @ None) = self.emails.get_mut(&lead.details.email_key()) {
                *holder = Some((lead.id, lead.state()));
            }
            put(&mut self.leads, lead);
        }
        for order in orders {
            put(&mut self.orders, order);
        }
        for opportunity in opportunities {
            put(&mut self.opportunities, opportunity);
        }
    }
}

fn put<T: Versioned>(records: &mut HashMap<Uuid, Held<T>>, now: T) {
    match records.get_mut(&now.id()) {
        Some(held) => held.now = now,
        None => {
            records.insert(now.id(), Held { stored: None, now });
        }
    }
}

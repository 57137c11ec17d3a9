//! Random calls by several callers, compared with a small model: in any order, the service returns and stores what
//! the model predicts. LEADSMITH_TEST_HISTORIES is the number of histories (40 by default).

mod joins;
mod lead;
mod order;
mod queue;
mod sale;
mod work;

use leadsmith::core::role::Role;
use leadsmith::features::leads::model::LeadState;
use leadsmith_proto::{Lead, Opportunity};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::harness::{Caller, Harness, reason};
use crate::{on_both, order_queues, orders};
use lead::{Expected, LeadChange};
use order::OrderChange;
use queue::{ExpectedQueue, QueueChange};
use sale::SaleChange;
use work::WorkChange;

/// The number of histories that a run tries unless [`HISTORIES_VARIABLE`] is set.
const HISTORIES: u32 = 40;
const HISTORIES_VARIABLE: &str = "LEADSMITH_TEST_HISTORIES";

#[derive(Clone, Copy, Debug)]
enum Etag {
    None,
    Current,
    Stale,
}

impl Etag {
    /// The etag to send.
    fn of(self, current: &str) -> String {
        match self {
            Self::None => String::new(),
            Self::Current => current.to_owned(),
            Self::Stale => "\"4711\"".to_owned(),
        }
    }

    /// The same for a record at this version.
    fn at(self, version: u64) -> String {
        self.of(&format!("\"{version}\""))
    }

    fn check(self) -> Result<(), &'static str> {
        match self {
            Self::Stale => Err("ETAG_MISMATCH"),
            Self::None | Self::Current => Ok(()),
        }
    }
}

/// What a call changes.
#[derive(Clone, Debug)]
enum What {
    Lead(LeadChange),
    /// The lead's opportunity.
    Sale(SaleChange),
    /// An action that workers do.
    Work(WorkChange),
    /// The lead's order of the queue.
    Order(OrderChange),
    /// The queue, which both leads' orders are created from.
    Queue(QueueChange),
}

#[derive(Clone, Debug)]
struct Step {
    /// The caller: one of two operators and a service account.
    caller: usize,
    /// The index of the lead.
    lead: usize,
    etag: Etag,
    what: What,
}

const LEADS: usize = 2;
/// The caller with the role ADMIN. The others have SALES.
const ADMIN: usize = 1;
const SERVICE_ACCOUNT: usize = 2;

/// The index of the other lead.
fn other(lead: usize) -> usize {
    LEADS - 1 - lead
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let etag = prop_oneof![4 => Just(Etag::None), 2 => Just(Etag::Current), 1 => Just(Etag::Stale)];
    let what = prop_oneof![
        20 => lead::changes().prop_map(What::Lead),
        6 => sale::changes().prop_map(What::Sale),
        9 => work::changes().prop_map(What::Work),
        15 => order::changes().prop_map(What::Order),
        7 => queue::changes().prop_map(What::Queue),
    ];
    let step = (0..3_usize, 0..LEADS, etag, what).prop_map(|(caller, lead, etag, what)| Step {
        caller,
        lead,
        etag,
        what,
    });
    prop::collection::vec(step, 1..40)
}

/// The ids of the stored records, and the model of them.
struct World {
    leads: Vec<Expected>,
    queue: ExpectedQueue,
}

impl World {
    async fn create(h: &Harness) -> Self {
        let mut leads = Vec::new();
        for _ in 0..LEADS {
            leads.push(Expected::create(h).await);
        }
        let queue = ExpectedQueue::create(&h.admin, &leads[0].id).await;
        Self { leads, queue }
    }

    async fn stored(&self, h: &Harness, lead: usize) -> (Lead, Opportunity) {
        let lead = &self.leads[lead];
        (
            h.viewer.get(&lead.id).await,
            h.viewer.get_sale(&lead.sale.id).await,
        )
    }

    /// Makes a call, and compares its result and all records with the model.
    async fn take(
        &mut self,
        h: &Harness,
        callers: &[Caller],
        step: &Step,
    ) -> Result<(), TestCaseError> {
        let before = self.stored(h, step.lead).await;
        let caller = &callers[step.caller];
        let client = self.leads[other(step.lead)].id.clone();
        let lead = &mut self.leads[step.lead];
        let (response, expected) = match &step.what {
            What::Lead(change) => {
                let records = (&before.0, client.as_str(), lead.order.as_str());
                let response = change.call(caller, step.etag, records).await;
                (response, joins::apply(&mut self.leads, step, change))
            }
            What::Sale(change) => {
                let etag = step.etag.of(&before.1.etag);
                let response = change.call(caller, &lead.sale.id, etag).await;
                let expected = step.etag.check();
                // The state of the lead does not matter.
                (response, expected.and_then(|()| lead.sale.apply(change)))
            }
            What::Work(change) => {
                let worker = (step.caller, caller);
                let response = lead.work.call(*change, worker, &h.clock).await;
                (response, lead.work.expected)
            }
            What::Order(change) => {
                let response = lead
                    .orders
                    .call(*change, caller, step.etag, &lead.id, &self.queue)
                    .await;
                let created = response.as_ref().ok().cloned().flatten();
                let expected = lead.orders.apply(*change, step.etag, &self.queue, created);
                (response.map(|_| ()), expected)
            }
            What::Queue(change) => {
                let response = self.queue.call(change, caller, step.etag).await;
                let expected = self.queue.apply(change, step.caller, step.etag);
                (response, expected)
            }
        };
        let refused = response.err().map(|status| reason(&status));
        prop_assert_eq!(refused.as_deref(), expected.err(), "{:?}", step);
        let after = self.stored(h, step.lead).await;
        if refused.is_some() {
            prop_assert_eq!(
                &after,
                &before,
                "a refused call changes nothing: {:?}",
                step
            );
        }
        let sale = &self.leads[step.lead].sale;
        sale.check(&before.1, &after.1, after.0.state)?;
        self.check(h, step).await
    }

    /// Compares the stored records with the model.
    async fn check(&self, h: &Harness, step: &Step) -> Result<(), TestCaseError> {
        self.queue
            .check(&order_queues::get(&h.viewer, &self.queue.id).await.unwrap())?;
        for (index, expected) in self.leads.iter().enumerate() {
            let work = orders::get(&h.viewer, &expected.work.order_id).await;
            expected.work.check(&work)?;
            if let Some(order) = expected.orders.current() {
                order.check(&orders::get(&h.viewer, &order.id).await, &self.queue.id)?;
            }
            let after = h.viewer.get(&expected.id).await;
            expected.check(&after, &self.leads[other(index)].id, step)?;
        }
        Ok(())
    }

    /// Each change of a record has written one history row and one event, and nothing else has.
    async fn check_histories(&self, h: &Harness) -> Result<(), TestCaseError> {
        let mut counted = Vec::new();
        for lead in &self.leads {
            let (id, sale, work) = (&lead.id, &lead.sale, &lead.work);
            counted.push((id, h.viewer.history(id).await.len(), lead.version));
            let entries = h.viewer.sale_history(&sale.id).await.len();
            counted.push((&sale.id, entries, sale.version));
            let entries = orders::steps::history(&h.viewer, &work.order_id)
                .await
                .len();
            counted.push((&work.order_id, entries, work.version));
            for order in lead.orders.all() {
                // Also those that were not looked at since a later one was created.
                order.check(&orders::get(&h.viewer, &order.id).await, &self.queue.id)?;
                let entries = orders::steps::history(&h.viewer, &order.id).await.len();
                counted.push((&order.id, entries, order.version));
            }
        }
        let queue = &self.queue;
        let entries = order_queues::changes(&h.viewer, &queue.id).await.len();
        counted.push((&queue.id, entries, queue.version));
        for (id, entries, version) in counted {
            prop_assert_eq!(entries as u64, version, "one history row a change");
            let sql = format!(
                "SELECT count(*) FROM events WHERE subject_id = {}",
                literal(h, id)
            );
            prop_assert_eq!(h.count(&sql).await, i64::try_from(version).unwrap());
        }
        Ok(())
    }
}

async fn play(h: &Harness, callers: &[Caller], steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::create(h).await;
    for step in &steps {
        world.take(h, callers, step).await?;
    }
    world.check_histories(h).await
}

/// A UUID in the database's format.
fn literal(h: &Harness, id: &str) -> String {
    match h.database.backend {
        crate::harness::Backend::Sqlite => format!("x'{}'", id.replace('-', "")),
        crate::harness::Backend::Postgres => format!("'{id}'"),
    }
}

fn histories() -> u32 {
    let given = std::env::var(HISTORIES_VARIABLE);
    given.map_or(HISTORIES, |given| given.parse().unwrap())
}

on_both! {
    async fn random_calls_do_what_the_model_says(h: Harness) {
        let callers = [
            h.sales.clone(),
            h.admin.clone(),
            h.service_account("crm", Role::Sales).await,
        ];
        let handle = tokio::runtime::Handle::current();
        // A failure prints the minimal steps. They are sufficient as a seed, because nothing else is random.
        let config = Config { cases: histories(), failure_persistence: None, ..Config::default() };
        tokio::task::block_in_place(|| {
            let outcome = TestRunner::new(config)
                .run(&steps(), |steps| handle.block_on(play(&h, &callers, steps)));
            if let Err(failure) = outcome {
                panic!("{failure}");
            }
        });
    }
}

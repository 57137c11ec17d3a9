//! 6 callers on a sale, on PostgreSQL over two replicas, with some kills: a lead, its order, its opportunity, and a
//! client that the lead can be joined to. The calls convert the lead in three ways, revert that, claim and report the
//! order's actions, and close the opportunity. The history of calls and responses over all these records must be
//! linearizable, so every call is one transaction over all that it touches. A call without a response may have had an
//! effect or not. Shown to fail by
//! `revert-keeps-client`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use leadsmith_proto::{
    self as proto, ActionType, Lead, LeadState, OpportunityOutcome, Order, OrderAction, RunOutcome,
};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use tokio::task::JoinSet;
use tonic::{Response, Status};

use crate::harness::client::{Caller, reason, version};
use crate::harness::context::Context;
use crate::harness::report::Findings;

const CALLERS: usize = 6;
/// How many sales have calls at the same time.
const SALES: usize = 4;
/// Calls per caller, over all sales. Histories must stay short, because the search for an order takes exponential time.
const CALLS: usize = 6;
/// In one of this many rounds a server is killed.
const KILLED: usize = 8;
/// Longer than a round.
const LEASE: i64 = 600;

/// The actions of the order. Provisioning the client requires the services; the call ends the order.
const PROVISION: &str = "provision-client";
const CALL: &str = "call";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Convert,
    /// Convert into the client.
    Join,
    Revert,
    Provision,
    /// Claim the services. The number tells the claims apart.
    Claim(usize),
    Report(usize),
    Release(usize),
    /// Run the action that ends the order.
    Call,
    Close(OpportunityOutcome),
    Reopen,
    GetLead,
    GetClient,
    GetOrder,
    GetOpportunity,
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    /// Versions of the lead and of the client.
    Lead(LeadState, i64),
    Joined(i64, i64),
    Client(i64),
    Order(i64),
    Opportunity(i64),
    Nothing,
    Rejected(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Services {
    Pending,
    Claimed(usize),
    Done,
}

/// The records of a sale, as far as this proof checks them.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    lead: LeadState,
    lead_version: i64,
    is_joined: bool,
    client_version: i64,
    services: Services,
    is_provisioned: bool,
    is_called: bool,
    order_version: i64,
    is_open: bool,
    opportunity_version: i64,
}

use Answer::Rejected;

impl Model {
    fn convert(&mut self) -> Answer {
        self.lead = LeadState::Converted;
        self.lead_version += 1;
        Answer::Lead(self.lead, self.lead_version)
    }

    fn revert(&mut self) -> Answer {
        if self.lead != LeadState::Converted {
            return Rejected("LEAD_NOT_CONVERTED");
        }
        if self.services == Services::Done && self.is_provisioned && self.is_called {
            return Rejected("CONVERSION_SETTLED");
        }
        if self.is_joined {
            // The phone that the client got from the lead is taken back.
            self.client_version += 1;
            self.is_joined = false;
        }
        self.lead = LeadState::Open;
        self.lead_version += 1;
        Answer::Lead(self.lead, self.lead_version)
    }

    fn order(&mut self) -> Answer {
        self.order_version += 1;
        Answer::Order(self.order_version)
    }
}

impl SequentialSpec for Model {
    type Op = Op;
    type Ret = Answer;

    fn invoke(&mut self, op: &Op) -> Answer {
        let is_converted = self.lead == LeadState::Converted;
        match op {
            Op::Convert | Op::Join if is_converted => Rejected("LEAD_CONVERTED"),
            Op::Convert => self.convert(),
            Op::Join => {
                self.convert();
                self.is_joined = true;
                self.client_version += 1;
                Answer::Joined(self.lead_version, self.client_version)
            }
            Op::Revert => self.revert(),
            Op::Provision if self.is_provisioned => Rejected("ACTION_DONE"),
            Op::Provision if self.services != Services::Done => Rejected("ACTION_PREREQUISITE"),
            Op::Provision => {
                if !is_converted {
                    self.convert();
                }
                self.is_provisioned = true;
                self.order()
            }
            Op::Claim(number) if self.services == Services::Pending => {
                self.services = Services::Claimed(*number);
                self.order()
            }
            Op::Claim(_) => Answer::Nothing,
            Op::Report(number) | Op::Release(number)
                if self.services != Services::Claimed(*number) =>
            {
                Rejected("CLAIM_LOST")
            }
            Op::Report(_) => {
                self.services = Services::Done;
                self.order()
            }
            Op::Release(_) => {
                self.services = Services::Pending;
                self.order()
            }
            Op::Call if self.is_called => Rejected("ACTION_DONE"),
            Op::Call => {
                self.is_called = true;
                self.order()
            }
            Op::Close(_) if !self.is_open => Rejected("OPPORTUNITY_CLOSED"),
            Op::Reopen if self.is_open => Rejected("OPPORTUNITY_OPEN"),
            Op::Close(_) | Op::Reopen => {
                self.is_open = !self.is_open;
                self.opportunity_version += 1;
                Answer::Opportunity(self.opportunity_version)
            }
            Op::GetLead => Answer::Lead(self.lead, self.lead_version),
            Op::GetClient => Answer::Client(self.client_version),
            Op::GetOrder => Answer::Order(self.order_version),
            Op::GetOpportunity => Answer::Opportunity(self.opportunity_version),
        }
    }

    /// A claim may find nothing although there is something: another call is changing it.
    fn is_valid_step(&mut self, op: &Op, answer: &Answer) -> bool {
        matches!((op, answer), (Op::Claim(_), Answer::Nothing)) || self.invoke(op) == *answer
    }
}

type History = Arc<Mutex<LinearizabilityTester<usize, Model>>>;

/// The records of a sale and the history of calls on them.
#[derive(Clone)]
struct Sale {
    lead: String,
    client: String,
    order: String,
    opportunity: String,
    /// The key of the action that only workers of this sale claim.
    services: String,
    history: History,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let mut servers = context.replicas(&fixture, 2, &[]).await?;
    let (mut kills, mut calls, mut unknown, mut effects) = (0, 0, 0, 0);
    let histories = context.size(160, 10_000);
    for round in 0..histories / SALES {
        let mut callers = Vec::new();
        for server in &servers {
            callers.push(fixture.caller(server).await?);
        }
        let mut sales = Vec::new();
        for index in 0..SALES {
            sales.push(Sale::create(&callers[0], round * SALES + index).await?);
        }
        let mut running = JoinSet::new();
        for index in 0..CALLERS {
            let caller = callers[index % callers.len()].clone();
            let random = context.random((round * CALLERS + index + 1) as u64);
            running.spawn(call(caller, sales.clone(), index, random));
        }
        if round % KILLED == KILLED - 1 {
            tokio::time::sleep(Duration::from_millis(random.u64(1..20))).await;
            let victim = random.usize(..servers.len());
            servers[victim].kill()?;
            unknown += running.join_all().await.into_iter().sum::<usize>();
            servers[victim] = context.serve(&fixture, &[]).await?;
            kills += 1;
        } else {
            unknown += running.join_all().await.into_iter().sum::<usize>();
        }
        let last = fixture.caller(&servers[0]).await?;
        for sale in sales {
            // The final states are part of the history.
            for op in [Op::GetLead, Op::GetClient, Op::GetOrder, Op::GetOpportunity] {
                invoke(&sale.history, usize::MAX, op);
                if let Some(answer) = sale.send(&last, op, &mut Vec::new()).await {
                    if let Answer::Lead(_, version) = answer {
                        effects += version - 1;
                    }
                    respond(&sale.history, usize::MAX, answer);
                }
            }
            let history = sale.history.clone();
            let (long, found) = tokio::task::spawn_blocking(move || {
                let history = lock(&history);
                (history.len(), history.serialized_history().is_some())
            })
            .await?;
            calls += long;
            findings.expect(found, || {
                let history = lock(&sale.history).clone();
                format!("no order of these calls explains their responses: {history:?}")
            });
        }
        if findings.is_broken() {
            break;
        }
    }
    findings.fact("histories", histories);
    findings.fact("calls", calls);
    findings.fact("changes of leads", effects);
    findings.fact("calls without a response", unknown);
    findings.fact("kills", kills);
    findings.finish()
}

/// Makes the calls of one caller until one has an unknown outcome. Returns how many had one: 0 or 1.
async fn call(caller: Caller, sales: Vec<Sale>, index: usize, mut random: fastrand::Rng) -> usize {
    // The claims of this caller on each sale: the number and the id of the run.
    let mut claims: Vec<Vec<(usize, String)>> = vec![Vec::new(); sales.len()];
    for number in 0..CALLS {
        let place = random.usize(..sales.len());
        let (sale, claims) = (&sales[place], &mut claims[place]);
        let claimed = claims.last().map(|(number, _)| *number);
        let op = match (random.u32(..24), claimed) {
            (0..3, _) => Op::Convert,
            (3..6, _) => Op::Join,
            (6..10, _) => Op::Revert,
            (10..13, _) => Op::Provision,
            (13..17, Some(claimed)) => Op::Report(claimed),
            (17, Some(claimed)) => Op::Release(claimed),
            (13..18, None) => Op::Claim(index * CALLS + number),
            (18, _) => Op::Call,
            (19, _) => Op::Close(OpportunityOutcome::Won),
            (20, _) => Op::Reopen,
            (21, _) => Op::GetLead,
            (22, _) => Op::GetClient,
            _ => Op::GetOrder,
        };
        invoke(&sale.history, index, op);
        match sale.send(&caller, op, claims).await {
            Some(answer) => respond(&sale.history, index, answer),
            None => return 1,
        }
    }
    0
}

impl Sale {
    async fn create(caller: &Caller, number: usize) -> Result<Self> {
        let named = |last_name: &str, phone: &str| Lead {
            last_name: last_name.to_owned(),
            phone: phone.to_owned(),
            ..Lead::default()
        };
        let lead = caller
            .create_as(named("Sale", "+44 20 7946 0018"), "")
            .await?;
        let client = caller.create_as(named("Client", ""), "").await?;
        let client = caller.convert(&client.id).await?;
        let opportunity = caller.opportunity(&lead.id, "Sale").await?;
        let services = format!("add-services-{number}");
        let action = |key: &str, r#type: ActionType, prerequisites: &[&str]| OrderAction {
            key: key.to_owned(),
            r#type: r#type.into(),
            prerequisites: prerequisites.iter().map(|key| (*key).to_owned()).collect(),
            ..OrderAction::default()
        };
        let request = proto::CreateOrderRequest {
            order: Some(Order {
                lead_id: lead.id.clone(),
                actions: vec![
                    action(&services, ActionType::External, &[]),
                    action(PROVISION, ActionType::ProvisionClient, &[&services]),
                    action(CALL, ActionType::Manual, &[]),
                ],
                ..Order::default()
            }),
            ..Default::default()
        };
        let order = caller.orders().create(caller.request(request)).await?;
        let order = order.into_inner().order.unwrap_or_default();
        let model = Model {
            lead: lead.state(),
            lead_version: version(&lead),
            is_joined: false,
            client_version: version(&client),
            services: Services::Pending,
            is_provisioned: false,
            is_called: false,
            order_version: number_of(&order.etag),
            is_open: true,
            opportunity_version: 1,
        };
        Ok(Self {
            lead: lead.id,
            client: client.id,
            order: order.id,
            opportunity,
            services,
            history: Arc::new(Mutex::new(LinearizabilityTester::new(model))),
        })
    }

    /// None if the response does not tell whether the call had an effect.
    async fn send(
        &self,
        caller: &Caller,
        op: Op,
        claims: &mut Vec<(usize, String)>,
    ) -> Option<Answer> {
        match self.call(caller, op, claims).await {
            Ok(answer) => Some(answer),
            Err(status) => rejection(&status).map(Rejected),
        }
    }

    async fn call(
        &self,
        caller: &Caller,
        op: Op,
        claims: &mut Vec<(usize, String)>,
    ) -> Result<Answer, Status> {
        let (mut leads, mut orders) = (caller.leads(), caller.orders());
        let mut opportunities = caller.opportunities();
        let run_of = |number: usize| {
            let found = claims.iter().find(|(claim, _)| *claim == number);
            found.map(|(_, run)| run.clone()).unwrap_or_default()
        };
        let lead = |lead: Option<Lead>| lead.unwrap_or_default();
        let order =
            |order: Option<Order>| Answer::Order(number_of(&order.unwrap_or_default().etag));
        Ok(match op {
            Op::Convert | Op::Join => {
                let is_join = op == Op::Join;
                let request = proto::ConvertLeadRequest {
                    id: self.lead.clone(),
                    client_id: if is_join {
                        self.client.clone()
                    } else {
                        String::new()
                    },
                    ..Default::default()
                };
                let response = inner(leads.convert(caller.request(request)).await?);
                let (lead, client) = (lead(response.lead), response.client.unwrap_or_default());
                match is_join {
                    true => Answer::Joined(version(&lead), number_of(&client.etag)),
                    false => lead_of(&lead),
                }
            }
            Op::Revert => {
                let request = proto::RevertConversionRequest {
                    id: self.lead.clone(),
                    ..Default::default()
                };
                let response = leads.revert_conversion(caller.request(request)).await?;
                lead_of(&lead(inner(response).lead))
            }
            Op::Provision | Op::Call => {
                let action = if op == Op::Call { CALL } else { PROVISION };
                let request = proto::RunActionRequest {
                    order_id: self.order.clone(),
                    action: action.to_owned(),
                    ..Default::default()
                };
                order(inner(orders.run_action(caller.request(request)).await?).order)
            }
            Op::Claim(number) => {
                let request = proto::ClaimActionsRequest {
                    actions: vec![self.services.clone()],
                    lease: Some(prost_types::Duration {
                        seconds: LEASE,
                        nanos: 0,
                    }),
                    ..Default::default()
                };
                let response = orders.claim_actions(caller.request(request)).await?;
                match inner(response).runs.into_iter().next() {
                    None => Answer::Nothing,
                    Some(run) => {
                        claims.push((number, run.id));
                        order(run.order)
                    }
                }
            }
            Op::Report(number) => {
                let request = proto::ReportActionRequest {
                    run_id: run_of(number),
                    outcome: RunOutcome::Succeeded.into(),
                    ..Default::default()
                };
                order(inner(orders.report_action(caller.request(request)).await?).order)
            }
            Op::Release(number) => {
                let request = proto::ReleaseActionRequest {
                    run_id: run_of(number),
                    ..Default::default()
                };
                order(inner(orders.release_action(caller.request(request)).await?).order)
            }
            Op::Close(outcome) => {
                let request = proto::CloseOpportunityRequest {
                    id: self.opportunity.clone(),
                    outcome: outcome.into(),
                    ..Default::default()
                };
                let response = inner(opportunities.close(caller.request(request)).await?);
                Answer::Opportunity(number_of(&response.opportunity.unwrap_or_default().etag))
            }
            Op::Reopen => {
                let request = proto::ReopenOpportunityRequest {
                    id: self.opportunity.clone(),
                    ..Default::default()
                };
                let response = inner(opportunities.reopen(caller.request(request)).await?);
                Answer::Opportunity(number_of(&response.opportunity.unwrap_or_default().etag))
            }
            Op::GetLead => lead_of(&caller.get(&self.lead).await?),
            Op::GetClient => Answer::Client(version(&caller.get(&self.client).await?)),
            Op::GetOrder => {
                let request = proto::GetOrderRequest {
                    id: self.order.clone(),
                };
                order(inner(orders.get(caller.request(request)).await?).order)
            }
            Op::GetOpportunity => {
                let request = proto::GetOpportunityRequest {
                    id: self.opportunity.clone(),
                };
                let response = inner(opportunities.get(caller.request(request)).await?);
                Answer::Opportunity(number_of(&response.opportunity.unwrap_or_default().etag))
            }
        })
    }
}

fn inner<T>(response: Response<T>) -> T {
    response.into_inner()
}

fn lead_of(lead: &Lead) -> Answer {
    Answer::Lead(lead.state(), version(lead))
}

/// A version, parsed from an etag.
fn number_of(etag: &str) -> i64 {
    etag.trim_matches('"').parse().unwrap_or(0)
}

fn rejection(status: &Status) -> Option<&'static str> {
    let reason = reason(status);
    [
        "LEAD_CONVERTED",
        "LEAD_NOT_CONVERTED",
        "CONVERSION_SETTLED",
        "ACTION_DONE",
        "ACTION_PREREQUISITE",
        "CLAIM_LOST",
        "OPPORTUNITY_CLOSED",
        "OPPORTUNITY_OPEN",
    ]
    .into_iter()
    .find(|known| *known == reason)
}

/// Each thread has one call at a time, so the tester accepts every call.
fn invoke(history: &History, thread: usize, op: Op) {
    let _ = lock(history).on_invoke(thread, op);
}

fn respond(history: &History, thread: usize, answer: Answer) {
    let _ = lock(history).on_return(thread, answer);
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

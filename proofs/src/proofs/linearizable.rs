//! 8 callers on few leads, on PostgreSQL over two replicas, with some kills. The history of calls and responses of
//! each lead must be linearizable: some sequential order of the calls must explain all responses. A call without a
//! response may have had an effect or not. Shown to fail by `answer-before-commit`, and by `lost-update`, which
//! cannot occur on SQLite because of its single writer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use leadsmith_proto::{Lead, LeadState};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use tokio::task::JoinSet;
use tonic::Status;

use crate::harness::client::{Caller, reason, version};
use crate::harness::context::Context;
use crate::harness::report::Findings;

const CALLERS: usize = 8;
const LEADS: usize = 4;
/// Calls per caller, over all leads. Histories must stay short, because the search for an order takes exponential
/// time.
const CALLS: usize = 5;
/// In one of this many rounds a server is killed.
const KILLED: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Update(u32),
    Deactivate,
    Reactivate,
    Convert,
    Revert,
    Get,
}

#[derive(Clone, Debug, PartialEq)]
enum Response {
    Is(Model),
    Rejected(&'static str),
}

/// The part of a lead that this proof checks.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    state: LeadState,
    version: i64,
    phone: u32,
}

impl SequentialSpec for Model {
    type Op = Op;
    type Ret = Response;

    fn invoke(&mut self, op: &Op) -> Response {
        use LeadState::{Converted, Deactivated, Open};
        let next = match (op, self.state) {
            (Op::Get, _) => return Response::Is(self.clone()),
            (Op::Update(_), Open) | (Op::Reactivate, Deactivated) => Open,
            (Op::Deactivate, Open) => Deactivated,
            (Op::Convert, Open) => Converted,
            (Op::Revert, Converted) => Open,
            (Op::Revert, _) => return Response::Rejected("LEAD_NOT_CONVERTED"),
            (_, Open) => return Response::Rejected("LEAD_NOT_DEACTIVATED"),
            (_, Deactivated) => return Response::Rejected("LEAD_DEACTIVATED"),
            (_, _) => return Response::Rejected("LEAD_CONVERTED"),
        };
        if let Op::Update(phone) = op {
            self.phone = *phone;
        }
        self.state = next;
        self.version += 1;
        Response::Is(self.clone())
    }
}

type History = Arc<Mutex<LinearizabilityTester<usize, Model>>>;

/// A lead and the history of calls on it.
#[derive(Clone)]
struct Watched {
    id: String,
    history: History,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let mut servers = context.replicas(&fixture, 2, &[]).await?;
    let (mut kills, mut calls, mut unknown) = (0, 0, 0);
    let histories = context.size(200, 10_000);
    for round in 0..histories / LEADS {
        let mut callers = Vec::new();
        for server in &servers {
            callers.push(fixture.caller(server).await?);
        }
        let mut leads = Vec::new();
        for index in 0..LEADS {
            let lead = callers[0].create(&format!("{round} {index}"), "").await?;
            let model = model_of(&lead);
            let history = Arc::new(Mutex::new(LinearizabilityTester::new(model)));
            leads.push(Watched {
                id: lead.id,
                history,
            });
        }
        let mut running = JoinSet::new();
        for index in 0..CALLERS {
            let caller = callers[index % callers.len()].clone();
            let random = context.random((round * CALLERS + index + 1) as u64);
            running.spawn(call(caller, leads.clone(), index, random));
        }
        if round % KILLED == KILLED - 1 {
            tokio::time::sleep(Duration::from_millis(random.u64(1..15))).await;
            let victim = random.usize(..servers.len());
            servers[victim].kill()?;
            unknown += running.join_all().await.into_iter().sum::<usize>();
            servers[victim] = context.serve(&fixture, &[]).await?;
            kills += 1;
        } else {
            unknown += running.join_all().await.into_iter().sum::<usize>();
        }
        // The final state is part of the history.
        let last = fixture.caller(&servers[0]).await?;
        for lead in leads {
            invoke(&lead.history, usize::MAX, Op::Get);
            let end = model_of(&last.get(&lead.id).await?);
            response(&lead.history, usize::MAX, Response::Is(end));
            let history = lead.history.clone();
            let (long, found) = tokio::task::spawn_blocking(move || {
                let history = lock(&history);
                (history.len(), history.serialized_history().is_some())
            })
            .await?;
            calls += long;
            findings.expect(found, || {
                let history = lock(&lead.history).clone();
                format!("no order of these calls explains their responses: {history:?}")
            });
        }
        if findings.is_broken() {
            break;
        }
    }
    findings.fact("histories", histories);
    findings.fact("calls", calls);
    findings.fact("calls without a response", unknown);
    findings.fact("kills", kills);
    findings.finish()
}

/// Makes the calls of one caller until one has an unknown outcome. Returns how many had one: 0 or 1. More of those
/// would make the history too long to search.
async fn call(
    caller: Caller,
    leads: Vec<Watched>,
    index: usize,
    mut random: fastrand::Rng,
) -> usize {
    for number in 0..CALLS {
        let lead = &leads[random.usize(..leads.len())];
        let op = match random.u32(..20) {
            0..9 => Op::Update(u32::try_from(index * CALLS + number + 1).unwrap_or(0)),
            9..11 => Op::Deactivate,
            11..13 => Op::Reactivate,
            13 => Op::Convert,
            14 => Op::Revert,
            _ => Op::Get,
        };
        invoke(&lead.history, index, op);
        match send(&caller, &lead.id, op).await {
            Some(outcome) => response(&lead.history, index, outcome),
            None => return 1,
        }
    }
    0
}

/// None if the response does not tell whether the call had an effect.
async fn send(caller: &Caller, id: &str, op: Op) -> Option<Response> {
    let done = match op {
        Op::Update(phone) => caller.update(id, &phone.to_string(), "").await,
        Op::Deactivate => caller.deactivate(id).await,
        Op::Reactivate => caller.reactivate(id).await,
        Op::Convert => caller.convert(id).await,
        Op::Revert => caller.revert_conversion(id).await,
        Op::Get => caller.get(id).await,
    };
    match done {
        Ok(lead) => Some(Response::Is(model_of(&lead))),
        Err(status) => rejection(&status).map(Response::Rejected),
    }
}

fn rejection(status: &Status) -> Option<&'static str> {
    let reason = reason(status);
    [
        "LEAD_NOT_DEACTIVATED",
        "LEAD_DEACTIVATED",
        "LEAD_CONVERTED",
        "LEAD_NOT_CONVERTED",
    ]
    .into_iter()
    .find(|known| *known == reason)
}

fn model_of(lead: &Lead) -> Model {
    Model {
        state: lead.state(),
        version: version(lead),
        phone: lead.phone.parse().unwrap_or(0),
    }
}

/// Each thread has one call at a time, so the tester accepts every call.
fn invoke(history: &History, thread: usize, op: Op) {
    let _ = lock(history).on_invoke(thread, op);
}

fn response(history: &History, thread: usize, response: Response) {
    let _ = lock(history).on_return(thread, response);
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

//! 8 callers on few leads, on PostgreSQL over two replicas, with kills in between. Each lead's history of
//! calls and answers must be one that a single lead, called by one after the other, could have. A call
//! without an answer may have had its effect or not. Shown to fail by `lost-update`, which SQLite's
//! one writer does not let happen, and `answer-before-commit`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use leadsmith::wire::proto::{Lead, LeadState};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use tokio::task::JoinSet;
use tonic::Status;

use crate::harness::client::{Caller, reason, version};
use crate::harness::context::Context;
use crate::harness::database::Kind;
use crate::harness::report::Findings;

const CALLERS: usize = 8;
const LEADS: usize = 4;
/// Calls of one caller, over all leads: histories must stay short enough to be searched, which takes
/// exponentially long.
const CALLS: usize = 5;
/// In one of so many rounds a server is killed.
const KILLED: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Update(u32),
    Deactivate,
    Reactivate,
    Convert,
    Get,
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Is(Model),
    Refused(&'static str),
}

/// All that a caller sees of a lead here.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    state: LeadState,
    version: i64,
    phone: u32,
}

impl SequentialSpec for Model {
    type Op = Op;
    type Ret = Answer;

    fn invoke(&mut self, op: &Op) -> Answer {
        use LeadState::{Converted, Deactivated, Open};
        let next = match (op, self.state) {
            (Op::Get, _) => return Answer::Is(self.clone()),
            (Op::Update(_), Open) | (Op::Reactivate, Deactivated) => Open,
            (Op::Deactivate, Open) => Deactivated,
            (Op::Convert, Open) => Converted,
            (_, Open) => return Answer::Refused("LEAD_NOT_DEACTIVATED"),
            (_, Deactivated) => return Answer::Refused("LEAD_DEACTIVATED"),
            (_, _) => return Answer::Refused("LEAD_CONVERTED"),
        };
        if let Op::Update(phone) = op {
            self.phone = *phone;
        }
        self.state = next;
        self.version += 1;
        Answer::Is(self.clone())
    }
}

type History = Arc<Mutex<LinearizabilityTester<usize, Model>>>;

/// A lead and what was called on it.
#[derive(Clone)]
struct Watched {
    id: String,
    history: History,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let desk = context.desk()?;
    let replicas = match context.kind {
        Kind::Sqlite => 1,
        Kind::Postgres => 2,
    };
    let mut servers = context.replicas(&desk, replicas, &[]).await?;
    let (mut kills, mut calls, mut maybe) = (0, 0, 0);
    let histories = context.size(200, 10_000);
    for round in 0..histories / LEADS {
        let mut callers = Vec::new();
        for server in &servers {
            callers.push(desk.caller(server).await?);
        }
        let mut leads = Vec::new();
        for index in 0..LEADS {
            let lead = callers[0].create(&format!("{round} {index}"), "").await?;
            let model = seen(&lead);
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
            maybe += running.join_all().await.into_iter().sum::<usize>();
            servers[victim] = context.serve(&desk, &[]).await?;
            kills += 1;
        } else {
            maybe += running.join_all().await.into_iter().sum::<usize>();
        }
        // What came of it all is part of the history.
        let last = desk.caller(&servers[0]).await?;
        for lead in leads {
            invoke(&lead.history, usize::MAX, Op::Get);
            let end = seen(&last.get(&lead.id).await?);
            answer(&lead.history, usize::MAX, Answer::Is(end));
            let history = lead.history.clone();
            let (long, found) = tokio::task::spawn_blocking(move || {
                let history = lock(&history);
                (history.len(), history.serialized_history().is_some())
            })
            .await?;
            calls += long;
            findings.expect(found, || {
                let history = lock(&lead.history).clone();
                format!("no order of these calls explains their answers: {history:?}")
            });
        }
        if findings.is_broken() {
            break;
        }
    }
    findings.fact("histories", histories);
    findings.fact("calls", calls);
    findings.fact("calls without an answer", maybe);
    findings.fact("kills", kills);
    findings.finish()
}

/// Makes one caller's calls, up to the first that may or may not have had an effect: says whether there
/// was one. More of those would make a history too long to search.
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
            _ => Op::Get,
        };
        invoke(&lead.history, index, op);
        match send(&caller, &lead.id, op).await {
            Some(said) => answer(&lead.history, index, said),
            None => return 1,
        }
    }
    0
}

/// None when the answer does not tell whether there was an effect.
async fn send(caller: &Caller, id: &str, op: Op) -> Option<Answer> {
    let done = match op {
        Op::Update(phone) => caller.update(id, &phone.to_string(), "").await,
        Op::Deactivate => caller.deactivate(id).await,
        Op::Reactivate => caller.reactivate(id).await,
        Op::Convert => caller.convert(id).await,
        Op::Get => caller.get(id).await,
    };
    match done {
        Ok(lead) => Some(Answer::Is(seen(&lead))),
        Err(status) => refusal(&status).map(Answer::Refused),
    }
}

fn refusal(status: &Status) -> Option<&'static str> {
    let reason = reason(status);
    ["LEAD_NOT_DEACTIVATED", "LEAD_DEACTIVATED", "LEAD_CONVERTED"]
        .into_iter()
        .find(|known| *known == reason)
}

fn seen(lead: &Lead) -> Model {
    Model {
        state: lead.state(),
        version: version(lead),
        phone: lead.phone.parse().unwrap_or(0),
    }
}

/// Every thread has one call at a time, so the tester takes them all.
fn invoke(history: &History, thread: usize, op: Op) {
    let _ = lock(history).on_invoke(thread, op);
}

fn answer(history: &History, thread: usize, answer: Answer) {
    let _ = lock(history).on_return(thread, answer);
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

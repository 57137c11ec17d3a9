//! Histories of concurrent calls, on PostgreSQL over two replicas, with some kills, that must be linearizable: some
//! sequential order of the calls must explain all responses. A call without a response may have had an effect or not.

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};
use tokio::task::JoinSet;
use tonic::Status;

use super::client::{Caller, reason};
use super::context::Context;
use super::report::Findings;

/// The numbers of calls and callers. Histories must stay short, because the search for an order takes exponential time.
pub struct Sizes {
    /// How many histories the short form has. The long one has [`LONG`].
    pub short: usize,
    pub callers: usize,
    /// Calls per caller, over all subjects of a round.
    pub calls: usize,
    /// How many subjects have calls at the same time.
    pub subjects: usize,
    /// In one of this many rounds a server is killed, after at most this many milliseconds.
    pub killed: usize,
    pub kill_after: u64,
}

const LONG: usize = 10_000;

/// The calls and responses of a history.
pub type Op<S> = <<S as Subject>::Model as SequentialSpec>::Op;
pub type Ret<S> = <<S as Subject>::Model as SequentialSpec>::Ret;

/// The records that a history is about.
pub trait Subject: Clone + Send + Sync + 'static {
    /// What the records are, as far as the history checks them.
    type Model: SequentialSpec<Op: Copy + Debug + Send, Ret: Clone + Debug + Send>
        + Clone
        + Debug
        + Send;
    /// What a caller remembers of its calls on a subject.
    type Memory: Clone + Default + Send;

    const SIZES: Sizes;
    /// The reasons of errors that the model predicts. Any other error means that the outcome is unknown.
    const REASONS: &'static [&'static str];
    /// The calls after all others, by which the final states are part of the history.
    const LAST: &'static [Op<Self>];

    /// Creates the records.
    fn create(
        caller: &Caller,
        number: usize,
    ) -> impl Future<Output = Result<(Self, Self::Model)>> + Send;

    /// Chooses the next call. No other call on the same subject has the same number, from 1.
    fn choose(random: &mut fastrand::Rng, number: usize, memory: &Self::Memory) -> Op<Self>;

    /// Makes a call.
    fn call(
        &self,
        caller: &Caller,
        op: Op<Self>,
        memory: &mut Self::Memory,
    ) -> impl Future<Output = Result<Ret<Self>, Status>> + Send;

    /// The response of a call that failed with this reason.
    fn rejected(reason: &'static str) -> Ret<Self>;

    /// The version of the lead, if the response shows one.
    fn lead_version(response: &Ret<Self>) -> Option<i64>;
}

type History<S> = Arc<Mutex<LinearizabilityTester<usize, <S as Subject>::Model>>>;

/// A subject with the history of calls on it.
struct Watched<S: Subject> {
    subject: S,
    history: History<S>,
}

impl<S: Subject> Clone for Watched<S> {
    fn clone(&self) -> Self {
        Self {
            subject: self.subject.clone(),
            history: Arc::clone(&self.history),
        }
    }
}

/// Runs histories of these subjects.
pub async fn run<S: Subject>(context: &Context<'_>) -> Result<Findings> {
    let sizes = S::SIZES;
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let mut servers = context.replicas(&fixture, 2, &[]).await?;
    let (mut kills, mut calls, mut unknown, mut changes) = (0, 0, 0, 0);
    let histories = context.size(sizes.short, LONG);
    for round in 0..histories / sizes.subjects {
        let mut callers = Vec::new();
        for server in &servers {
            callers.push(fixture.caller(server).await?);
        }
        let mut all: Vec<Watched<S>> = Vec::new();
        for index in 0..sizes.subjects {
            let number = round * sizes.subjects + index;
            let (subject, model) = S::create(&callers[0], number).await?;
            let history = Arc::new(Mutex::new(LinearizabilityTester::new(model)));
            all.push(Watched { subject, history });
        }
        let mut running = JoinSet::new();
        for index in 0..sizes.callers {
            let caller = callers[index % callers.len()].clone();
            let random = context.random((round * sizes.callers + index + 1) as u64);
            running.spawn(call_all(caller, all.clone(), index, random));
        }
        if round % sizes.killed == sizes.killed - 1 {
            let after = random.u64(1..sizes.kill_after);
            tokio::time::sleep(Duration::from_millis(after)).await;
            let victim = random.usize(..servers.len());
            servers[victim].kill()?;
            unknown += running.join_all().await.into_iter().sum::<usize>();
            servers[victim] = context.serve(&fixture, &[]).await?;
            kills += 1;
        } else {
            unknown += running.join_all().await.into_iter().sum::<usize>();
        }
        let last = fixture.caller(&servers[0]).await?;
        for watched in all {
            changes += watched.finish(&last).await;
            calls += watched.check(&mut findings).await?;
        }
        if findings.is_broken() {
            break;
        }
    }
    findings.fact("histories", histories);
    findings.fact("calls", calls);
    findings.fact("changes of leads", changes);
    findings.fact("calls without a response", unknown);
    findings.fact("kills", kills);
    findings.finish()
}

/// Makes the calls of one caller until one has an unknown outcome. Returns how many had one: 0 or 1. More of those
/// would make the history too long to search.
async fn call_all<S: Subject>(
    caller: Caller,
    all: Vec<Watched<S>>,
    index: usize,
    mut random: fastrand::Rng,
) -> usize {
    let mut memories = vec![S::Memory::default(); all.len()];
    let calls = S::SIZES.calls;
    for number in 0..calls {
        let place = random.usize(..all.len());
        let memory = &mut memories[place];
        let op = S::choose(&mut random, index * calls + number + 1, memory);
        if all[place].call(&caller, index, op, memory).await.is_none() {
            return 1;
        }
    }
    0
}

impl<S: Subject> Watched<S> {
    /// Makes a call of this thread. None if the response does not tell whether it had an effect.
    async fn call(
        &self,
        caller: &Caller,
        thread: usize,
        op: Op<S>,
        memory: &mut S::Memory,
    ) -> Option<Ret<S>> {
        // Each thread has one call at a time, so the tester accepts every call.
        let _ = lock(&self.history).on_invoke(thread, op);
        let response = match self.subject.call(caller, op, memory).await {
            Ok(response) => response,
            Err(status) => {
                let reason = reason(&status);
                let mut known = S::REASONS.iter().copied();
                S::rejected(known.find(|known| *known == reason)?)
            }
        };
        let _ = lock(&self.history).on_return(thread, response.clone());
        Some(response)
    }

    /// Makes the last calls. Returns how often the lead was changed.
    async fn finish(&self, caller: &Caller) -> i64 {
        let mut changes = 0;
        for op in S::LAST {
            let mut memory = S::Memory::default();
            let response = self.call(caller, usize::MAX, *op, &mut memory).await;
            let version = response.and_then(|response| S::lead_version(&response));
            changes += version.map_or(0, |version| version - 1);
        }
        changes
    }

    /// Looks for an order of the calls that explains the responses. Returns how many calls there are.
    async fn check(&self, findings: &mut Findings) -> Result<usize> {
        let history = Arc::clone(&self.history);
        let (calls, found) = tokio::task::spawn_blocking(move || {
            let history = lock(&history);
            (history.len(), history.serialized_history().is_some())
        })
        .await?;
        findings.expect(found, || {
            let history = lock(&self.history).clone();
            format!("no order of these calls explains their responses: {history:?}")
        });
        Ok(calls)
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

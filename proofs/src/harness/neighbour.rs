//! Ordinary calls during other load, and how many of them fail or how long they take.

use std::fmt;
use std::time::{Duration, Instant};

use leadsmith_proto as proto;
use tokio::task::JoinSet;
use tonic::Status;

use super::client::Caller;

/// How many calls are in flight.
const AT_ONCE: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);

/// A caller with a lead to get.
pub struct Neighbour {
    caller: Caller,
    lead: String,
}

/// The results of ordinary calls.
#[derive(Default)]
pub struct Calls {
    times: Vec<Duration>,
    pub rejected: usize,
}

impl Neighbour {
    pub fn new(caller: &Caller, lead: &str) -> Self {
        Self {
            caller: caller.clone(),
            lead: lead.to_owned(),
        }
    }

    /// Gets the lead repeatedly until `work` completes.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> (Calls, T) {
        let get = |caller: Caller, lead: String| async move { caller.get(&lead).await.map(|_| ()) };
        self.call_during(get, work).await
    }

    /// Lists the first page of leads repeatedly until `work` completes.
    pub async fn lists_during<T>(&self, work: impl Future<Output = T>) -> (Calls, T) {
        let list = |caller: Caller, _| async move {
            let request = caller.request(proto::ListLeadsRequest::default());
            caller.leads().list(request).await.map(|_| ())
        };
        self.call_during(list, work).await
    }

    async fn call_during<T, F>(
        &self,
        call: impl Fn(Caller, String) -> F + Clone + Send + 'static,
        work: impl Future<Output = T>,
    ) -> (Calls, T)
    where
        F: Future<Output = Result<(), Status>> + Send,
    {
        let (end, ended) = tokio::sync::watch::channel(false);
        let mut loops = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (call, ended) = (call.clone(), ended.clone());
            let (caller, lead) = (self.caller.clone(), self.lead.clone());
            loops.spawn(async move {
                let mut calls = Calls::default();
                while !*ended.borrow() {
                    let started = Instant::now();
                    match call(caller.clone(), lead.clone()).await {
                        Ok(()) => calls.times.push(started.elapsed()),
                        Err(_) => calls.rejected += 1,
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                calls
            });
        }
        let outcome = work.await;
        end.send_replace(true);
        let mut all = Calls::default();
        for calls in loops.join_all().await {
            all.times.extend(calls.times);
            all.rejected += calls.rejected;
        }
        all.times.sort_unstable();
        (all, outcome)
    }
}

impl Calls {
    pub fn count(&self) -> usize {
        self.times.len() + self.rejected
    }

    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub fn percentile(&self, percent: usize) -> Duration {
        let at = self.times.len() * percent / 100;
        self.times.get(at).copied().unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls, {} rejected, p50 {:.1} ms, p99 {:.1} ms",
            self.count(),
            self.rejected,
            millis(self.percentile(50)),
            millis(self.percentile(99))
        )
    }
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

//! The load generator: calls over several connections, with a check of each response. A single failed call or
//! wrong response makes the whole run fail.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::echo::Replies;
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use leadsmith_proto::auth_service_client::AuthServiceClient;
use leadsmith_proto::dashboard_service_client::DashboardServiceClient;
use leadsmith_proto::event_service_client::EventServiceClient;
use leadsmith_proto::lead_service_client::LeadServiceClient;
use leadsmith_proto::opportunity_service_client::OpportunityServiceClient;
use leadsmith_proto::order_service_client::OrderServiceClient;
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// A run is aborted after this many failures.
const FAILURES: u64 = 100;
/// Larger than any page.
const LARGEST_ANSWER: usize = 16 << 20;

/// A client with one connection to a server.
#[derive(Clone)]
pub struct Caller {
    pub leads: LeadServiceClient<Channel>,
    pub orders: OrderServiceClient<Channel>,
    pub opportunities: OpportunityServiceClient<Channel>,
    pub dashboards: DashboardServiceClient<Channel>,
    pub auth: AuthServiceClient<Channel>,
    pub events: EventServiceClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
    /// Whether responses can be checked. Those of the echo server are always the same.
    pub checks: bool,
}

impl Caller {
    /// Connects to a server.
    pub async fn connect(address: &str, token: Option<&str>, checks: bool) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .connect()
            .await
            .with_context(|| format!("no server listens on {address}"))?;
        let token = token
            .map(|token| format!("Bearer {token}").parse())
            .transpose()?;
        Ok(Self {
            leads: LeadServiceClient::new(channel.clone())
                .max_decoding_message_size(LARGEST_ANSWER),
            orders: OrderServiceClient::new(channel.clone()),
            opportunities: OpportunityServiceClient::new(channel.clone()),
            dashboards: DashboardServiceClient::new(channel.clone()),
            auth: AuthServiceClient::new(channel.clone()),
            events: EventServiceClient::new(channel),
            token,
            checks,
        })
    }

    /// Several callers, each with its own connection. The tokens are assigned in rotation.
    pub async fn connect_all(
        address: &str,
        tokens: &[String],
        checks: bool,
        connections: usize,
    ) -> Result<Vec<Self>> {
        let mut callers = Vec::with_capacity(connections);
        for index in 0..connections {
            let token = tokens.get(index % tokens.len().max(1));
            let token = token.map(String::as_str);
            callers.push(Self::connect(address, token, checks).await?);
        }
        Ok(callers)
    }

    /// A request with the caller's token.
    pub fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        request
    }
}

/// A kind of call.
pub trait Workload: Send + Sync + 'static {
    /// The request message.
    type Body: Send;
    /// The response message.
    type Reply: prost::Message + Default;
    /// The expectation that a response is checked against.
    type Expected: Send;

    /// A call with random keys.
    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Expected)>;

    /// A call to the echo server. It does not use up data that each call can use only once.
    fn next_echo_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Expected)> {
        self.next_call(random)
    }

    /// Makes the call.
    fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> impl Future<Output = Result<Response<Self::Reply>, Status>> + Send;

    /// The responses of the echo server: this encoded response for the RPC of the workload.
    fn echo_replies(reply: Vec<u8>) -> Replies;

    /// Checks a response.
    fn check(&self, expected: &Self::Expected, reply: &Self::Reply) -> Result<()>;
}

/// Makes one call.
pub async fn call<W: Workload>(
    work: &W,
    caller: &mut Caller,
    random: &mut fastrand::Rng,
) -> Result<W::Reply> {
    let (body, expected) = match caller.checks {
        true => work.next_call(random)?,
        false => work.next_echo_call(random)?,
    };
    let request = caller.request(body);
    let reply = W::send(caller, request).await;
    let reply = reply
        .map_err(|status| anyhow::anyhow!("{}: {}", status.code(), status.message()))?
        .into_inner();
    if caller.checks {
        work.check(&expected, &reply)?;
    }
    Ok(reply)
}

/// The result of a run.
pub struct Run {
    /// The duration of the run.
    pub time: Duration,
    /// The latency of each call, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Run {
    /// The number of successful calls.
    pub fn calls(&self) -> u64 {
        self.latencies.len()
    }

    /// Calls per second.
    pub fn rate(&self) -> f64 {
        self.calls() as f64 / self.time.as_secs_f64()
    }

    /// A quantile of the latency, in microseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        self.latencies.value_at_quantile(share) as f64 / 1e3
    }
}

/// The failures of a run, over all callers.
#[derive(Default)]
struct Failures {
    count: AtomicU64,
    first: std::sync::Mutex<Option<String>>,
}

impl Failures {
    fn add(&self, error: &anyhow::Error) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first.lock().unwrap_or_else(|held| held.into_inner());
        first.get_or_insert_with(|| format!("{error:#}"));
    }

    fn too_many(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= FAILURES
    }

    fn finish(&self, calls: u64) -> Result<()> {
        let count = self.count.load(Ordering::Relaxed);
        let first = self.first.lock().unwrap_or_else(|held| held.into_inner());
        match &*first {
            None => Ok(()),
            Some(first) => bail!("{count} calls failed ({calls} did not); the first: {first}"),
        }
    }
}

/// A closed loop: `in_flight` callers, each of which makes its next call as soon as it has a response.
pub async fn closed<W: Workload>(
    callers: &[Caller],
    work: &Arc<W>,
    in_flight: usize,
    time: Duration,
) -> Result<Run> {
    let failures = Arc::new(Failures::default());
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..in_flight {
        let mut caller = callers[index % callers.len()].clone();
        let (work, failures) = (Arc::clone(work), Arc::clone(&failures));
        tasks.spawn(async move {
            let mut random = fastrand::Rng::new();
            let mut latencies = Histogram::new(3)?;
            while begin.elapsed() < time && !failures.too_many() {
                let sent = Instant::now();
                match call(&*work, &mut caller, &mut random).await {
                    Ok(_) => latencies.record(nanos(sent.elapsed()))?,
                    Err(error) => failures.add(&error),
                }
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Histogram::new(3)?;
    while let Some(task) = tasks.join_next().await {
        latencies.add(task??)?;
    }
    let time = begin.elapsed();
    failures.finish(latencies.len())?;
    Ok(Run { time, latencies })
}

/// An open loop: `rate` calls start per second, even if earlier ones have no response yet. The latency of a call
/// is measured from its scheduled start.
pub async fn open<W: Workload>(
    callers: &[Caller],
    work: &Arc<W>,
    rate: f64,
    time: Duration,
) -> Result<Run> {
    let failures = Arc::new(Failures::default());
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    let mut latencies = Histogram::new(3)?;
    let count = (rate * time.as_secs_f64()) as u32;
    for index in 0..count {
        let due = begin + Duration::from_secs_f64(f64::from(index) / rate);
        tokio::time::sleep_until(due.into()).await;
        if failures.too_many() {
            break;
        }
        let mut caller = callers[index as usize % callers.len()].clone();
        let (work, failures) = (Arc::clone(work), Arc::clone(&failures));
        tasks.spawn(async move {
            let called = call(&*work, &mut caller, &mut fastrand::Rng::new()).await;
            let latency = nanos(due.elapsed());
            called
                .map(|_| latency)
                .inspect_err(|error| failures.add(error))
                .ok()
        });
        while let Some(done) = tasks.try_join_next() {
            if let Some(latency) = done? {
                latencies.record(latency)?;
            }
        }
    }
    while let Some(done) = tasks.join_next().await {
        if let Some(latency) = done? {
            latencies.record(latency)?;
        }
    }
    let time = begin.elapsed();
    failures.finish(latencies.len())?;
    Ok(Run { time, latencies })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

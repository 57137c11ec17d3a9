//! The load: calls over several connections, each answer checked. One call that fails, or whose answer is
//! wrong, makes the whole run fail.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::echo::Answers;
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use leadsmith::wire::proto::auth_service_client::AuthServiceClient;
use leadsmith::wire::proto::lead_service_client::LeadServiceClient;
use leadsmith::wire::proto::order_service_client::OrderServiceClient;
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// After so many failures a run is given up.
const FAILURES: u64 = 100;
/// Larger than any page.
const LARGEST_ANSWER: usize = 16 << 20;

/// A client with one connection to a server.
#[derive(Clone)]
pub struct Caller {
    pub leads: LeadServiceClient<Channel>,
    pub orders: OrderServiceClient<Channel>,
    pub auth: AuthServiceClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
    /// Whether answers can be checked: the echo server's are always the same.
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
            auth: AuthServiceClient::new(channel),
            token,
            checks,
        })
    }

    /// Several callers, each with a connection of its own and the next of these tokens.
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
pub trait Work: Send + Sync + 'static {
    /// What is sent.
    type Body: Send;
    /// What is answered.
    type Answer: prost::Message + Default;
    /// What the answer is checked against.
    type Asked: Send;

    /// A call with random keys.
    fn ask(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Asked)>;

    /// A call to the echo server, which uses nothing up.
    fn ask_echo(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Asked)> {
        self.ask(random)
    }

    /// Makes the call.
    fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;

    /// What the echo server is to give: this answer, encoded, in its RPC's place.
    fn echoed(answer: Vec<u8>) -> Answers;

    /// Whether the answer is right.
    fn check(&self, asked: &Self::Asked, answer: &Self::Answer) -> Result<()>;
}

/// Makes one call.
pub async fn call<W: Work>(
    work: &W,
    caller: &mut Caller,
    random: &mut fastrand::Rng,
) -> Result<W::Answer> {
    let (body, asked) = match caller.checks {
        true => work.ask(random)?,
        false => work.ask_echo(random)?,
    };
    let request = caller.request(body);
    let answer = W::send(caller, request).await;
    let answer = answer
        .map_err(|status| anyhow::anyhow!("{}: {}", status.code(), status.message()))?
        .into_inner();
    if caller.checks {
        work.check(&asked, &answer)?;
    }
    Ok(answer)
}

/// What came of a run.
pub struct Run {
    /// How long it took.
    pub time: Duration,
    /// How long each call took, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Run {
    /// Calls that were answered rightly.
    pub fn calls(&self) -> u64 {
        self.latencies.len()
    }

    /// Calls per second.
    pub fn rate(&self) -> f64 {
        self.calls() as f64 / self.time.as_secs_f64()
    }

    /// The latency that this share of the calls stays below, in microseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        self.latencies.value_at_quantile(share) as f64 / 1e3
    }
}

/// The failures of a run, counted over all who call.
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

/// A closed loop: `in_flight` callers, each of whom calls again as soon as it is answered.
pub async fn closed<W: Work>(
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

/// An open loop: calls begin at `rate` a second, whether those before are answered or not, and each
/// one's latency counts from when it should have begun.
pub async fn open<W: Work>(
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

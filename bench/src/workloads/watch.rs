//! Streams of events: how soon after the response to an Update its event comes while the service is half busy; and what
//! 500 streams on one server cost: memory, the rate of Update, and reads of the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use leadsmith_proto as proto;
use proto::watch_events_request::Begin;
use proto::watch_events_response::Item;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming};

use super::update::{Field, Update};
use crate::clock;
use crate::data::{self, lead_id, open_number};
use crate::echo::Replies;
use crate::load::{self, Caller, Workload};
use crate::process;
use crate::row::{Bar, Kind, Row};
use crate::samples::Samples;
use crate::setting::Setting;
use crate::storage::{Database, Storage};
use crate::testbed::{Access, Testbed, data_sets};

/// The limits of the time from the response to the event, in microseconds.
const P50: f64 = 20_000.0;
const P99: f64 = 200_000.0;
/// How many streams follow one lead each.
const STREAMS: usize = 500;
/// On how many connections. A connection has at most 200 streams.
const CONNECTIONS: usize = 10;
/// How many streams receive all events.
const WHOLE: usize = 10;
/// The limit of the memory that 500 streams take, in MiB.
const MEMORY: f64 = 100.0;
/// The limit of the ratio of Update's rate beside 500 streams to that without.
const BESIDE: f64 = 0.9;
/// The limit of the ratio of the reads of the database with 500 streams to those with one.
const READS: f64 = 1.2;
/// How long all events may take to come after the last response.
const LAST: Duration = Duration::from_secs(10);
/// How long the server may take to notice that streams are gone, and PostgreSQL to count what was read.
const SETTLED: Duration = Duration::from_secs(2);

/// A lead and a version of it.
type Version = (String, i64);

/// Update, which notes when each response came.
struct Noted {
    update: Update,
    responses: Mutex<HashMap<Version, Instant>>,
}

impl Workload for Noted {
    type Body = proto::UpdateLeadRequest;
    type Reply = proto::UpdateLeadResponse;
    type Expected = (String, String);

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Expected)> {
        self.update.next_call(random)
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.leads.update(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Update::echo_replies(reply)
    }

    fn check(&self, expected: &Self::Expected, reply: &Self::Reply) -> Result<()> {
        let time = Instant::now();
        let lead = reply.lead.as_ref().context("no lead")?;
        let version = lead.etag.trim_matches('"').parse()?;
        lock(&self.responses).insert((lead.id.clone(), version), time);
        self.update.check(expected, reply)
    }
}

/// When an event came, and how old it was then, in microseconds.
type Received = Arc<Mutex<HashMap<Version, (Instant, f64)>>>;

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let (tested, leads) = (setting.tested(), setting.leads);
    let data = data_sets(setting, tested, database, leads, Access::Changes).await?;
    let bed = Testbed::on(setting, data).await?;
    let mut rows = delivery(&bed).await?;
    rows.extend(beside(&bed).await?);
    if let Storage::Postgres(..) = bed.tested().data.storage {
        rows.push(reads(&bed).await?);
    }
    bed.end().await?;
    Ok(rows)
}

/// The time from the response to the event, while calls come at half of the full rate.
async fn delivery(bed: &Testbed<'_>) -> Result<Vec<Row>> {
    let (setting, leads) = (bed.setting, bed.tested().data.leads);
    let callers = &bed.tested().service.callers;
    let noted = Arc::new(Noted {
        update: Update {
            leads,
            field: Field::Phone,
        },
        responses: Mutex::default(),
    });
    let full = load::closed(callers, &noted, setting.in_flight, setting.time).await?;
    let mut samples = Samples::default();
    for _ in 0..setting.rounds {
        lock(&noted.responses).clear();
        let received = Received::default();
        let stream = open(&watcher(bed, 0).await?, from_now()).await?;
        let following = tokio::spawn(follow(stream, Arc::clone(&received)));
        load::open(callers, &noted, full.rate() / 2.0, setting.time).await?;
        let begun = Instant::now();
        let responses = lock(&noted.responses).clone();
        while begun.elapsed() < LAST
            && !responses
                .keys()
                .all(|version| lock(&received).contains_key(version))
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        following.abort();
        let (mut after, mut age) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
        for (version, responded) in responses {
            let event = lock(&received).get(&version).copied();
            let (came, old) = event.with_context(|| format!("no event of {version:?}"))?;
            // It may come before the response.
            after.record(came.saturating_duration_since(responded).as_micros() as u64)?;
            age.record(old as u64)?;
        }
        samples.add("p50", after.value_at_quantile(0.5) as f64);
        samples.add("p99", after.value_at_quantile(0.99) as f64);
        samples.add("age p50", age.value_at_quantile(0.5) as f64);
        samples.add("age p99", age.value_at_quantile(0.99) as f64);
    }
    let (p50, p99) = (samples.median("p50"), samples.median("p99"));
    let row = |name: &str| Row {
        p50,
        p99,
        ..bed.row(Kind::Time, name, 0)
    };
    Ok(vec![
        Row {
            bar: p50.map(|p50| Bar::at_most(P50, " µs", p50)),
            ..row("Watch, event after its response, p50")
        },
        Row {
            bar: p99.map(|p99| Bar::at_most(P99, " µs", p99)),
            ..row("Watch, event after its response, p99")
        },
        Row {
            p50: samples.median("age p50"),
            p99: samples.median("age p99"),
            ..row("Watch, event after its time")
        },
    ])
}

/// Update beside streams: its rate, and the memory of the streams.
async fn beside(bed: &Testbed<'_>) -> Result<Vec<Row>> {
    let (setting, leads) = (bed.setting, bed.tested().data.leads);
    let service = bed.tested().service.id();
    let field = Field::Phone;
    let workloads = bed.workloads(async |_| Ok(Update { leads, field })).await?;
    let in_flight = setting.in_flight;
    bed.serve(&workloads, in_flight).await?; // a warm-up
    let (mut narrow, mut whole) = (Samples::default(), Samples::default());
    for _ in 0..setting.rounds {
        // Before and after: the machine and the database change their speed meanwhile.
        let first = bed.serve(&workloads, in_flight).await?.rate();
        let before = process::memory(service)?.0;
        let streams = Streams::open(bed, STREAMS, |number| of_lead(number, leads)).await?;
        let beside_narrow = bed.serve(&workloads, in_flight).await?.rate();
        narrow.add("memory", process::memory(service)?.0 - before);
        streams.close().await;
        let second = bed.serve(&workloads, in_flight).await?.rate();
        let streams = Streams::open(bed, WHOLE, |_| from_now()).await?;
        let beside_whole = bed.serve(&workloads, in_flight).await?.rate();
        streams.close().await;
        let third = bed.serve(&workloads, in_flight).await?.rate();
        add(&mut narrow, beside_narrow, (first + second) / 2.0);
        add(&mut whole, beside_whole, (second + third) / 2.0);
    }
    let row = |name: String, samples: &Samples| Row {
        rate: samples.spread("rate"),
        limit: samples.spread("alone"),
        ratio: samples.spread("ratio"),
        ..bed.row(Kind::Rate, &name, in_flight)
    };
    let (ratio, memory) = (narrow.median("ratio"), narrow.median("memory"));
    Ok(vec![
        Row {
            bar: ratio.map(|ratio| Bar::at_least(BESIDE, " × without", ratio)),
            ..row(
                format!("Update beside {STREAMS} streams of one lead"),
                &narrow,
            )
        },
        row(
            format!("Update beside {WHOLE} streams of all events"),
            &whole,
        ),
        Row {
            memory,
            peak: Some(process::memory(service)?.1),
            bar: memory.map(|memory| Bar::at_most(MEMORY, " MiB", memory)),
            ..bed.row(
                Kind::Memory,
                &format!("Memory, {STREAMS} streams"),
                in_flight,
            )
        },
    ])
}

fn add(samples: &mut Samples, rate: f64, alone: f64) {
    samples.add("rate", rate);
    samples.add("alone", alone);
    samples.add("ratio", rate / alone);
}

/// How often the service reads the database while nothing happens, with 500 streams and with one.
async fn reads(bed: &Testbed<'_>) -> Result<Row> {
    let leads = bed.tested().data.leads;
    let mut samples = Samples::default();
    for _ in 0..bed.setting.rounds {
        let one = Streams::open(bed, 1, |_| from_now()).await?;
        let alone = transactions(bed).await?;
        one.close().await;
        let many = Streams::open(bed, STREAMS, |number| of_lead(number, leads)).await?;
        let rate = transactions(bed).await?;
        many.close().await;
        add(&mut samples, rate, alone);
    }
    let ratio = samples.spread("ratio");
    Ok(Row {
        rate: samples.spread("rate"),
        limit: samples.spread("alone"),
        bar: ratio.map(|ratio| Bar::at_most(READS, " × one", ratio.median)),
        ratio,
        ..bed.row(
            Kind::Rate,
            &format!("Reads of the log, {STREAMS} streams"),
            0,
        )
    })
}

/// The transactions per second of the database. Each read is one.
async fn transactions(bed: &Testbed<'_>) -> Result<f64> {
    let db = bed.tested().data.storage.connect().await?;
    let count = async || {
        tokio::time::sleep(SETTLED).await;
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let row = db
            .query_one_raw(statement)
            .await?
            .context("no statistics")?;
        anyhow::Ok((row.try_get_by_index::<i64>(0)?, Instant::now()))
    };
    let (before, begun) = count().await?;
    tokio::time::sleep(bed.setting.time).await;
    let (after, ended) = count().await?;
    db.close().await?;
    Ok((after - before) as f64 / (ended - begun).as_secs_f64())
}

/// Open streams whose messages are read.
struct Streams(JoinSet<Result<()>>);

impl Streams {
    /// Opens streams over all principals, and waits until each has begun.
    async fn open(
        bed: &Testbed<'_>,
        count: usize,
        request: impl Fn(usize) -> proto::WatchEventsRequest,
    ) -> Result<Self> {
        let mut callers = Vec::new();
        for number in 0..CONNECTIONS.min(count) {
            callers.push(watcher(bed, number).await?);
        }
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let mut stream = open(&callers[number % callers.len()], request(number)).await?;
            tasks.spawn(async move {
                while stream.message().await?.is_some() {}
                Ok(())
            });
        }
        Ok(Self(tasks))
    }

    async fn close(mut self) {
        self.0.shutdown().await;
        tokio::time::sleep(SETTLED).await;
    }
}

/// A caller with a connection of its own.
async fn watcher(bed: &Testbed<'_>, number: usize) -> Result<Caller> {
    let side = bed.tested();
    let key = &side.data.keys[number % side.data.keys.len()];
    Caller::connect(&side.service.address, Some(key), true).await
}

/// Opens a stream, which begins with a checkpoint.
async fn open(
    caller: &Caller,
    request: proto::WatchEventsRequest,
) -> Result<Streaming<proto::WatchEventsResponse>> {
    let mut events = caller.events.clone();
    let mut stream = events.watch(caller.request(request)).await?.into_inner();
    let first = stream
        .message()
        .await?
        .context("a stream without a message")?;
    ensure!(
        matches!(first.item, Some(Item::Checkpoint(_))),
        "the first message is not a checkpoint"
    );
    Ok(stream)
}

/// Notes when each event comes.
async fn follow(
    mut stream: Streaming<proto::WatchEventsResponse>,
    received: Received,
) -> Result<()> {
    while let Some(message) = stream.message().await? {
        let Some(Item::Event(event)) = message.item else {
            continue;
        };
        let time = event.time.unwrap_or_default();
        let time = time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000;
        let age = (clock::now().timestamp_micros() - time).max(0) as f64;
        let came = (Instant::now(), age);
        lock(&received).insert((event.subject_id, event.version), came);
    }
    Ok(())
}

fn from_now() -> proto::WatchEventsRequest {
    proto::WatchEventsRequest {
        begin: Some(Begin::Start(proto::WatchStart::Now.into())),
        ..proto::WatchEventsRequest::default()
    }
}

fn of_lead(number: usize, leads: u64) -> proto::WatchEventsRequest {
    let number = open_number(number as u64 % data::open(leads));
    proto::WatchEventsRequest {
        lead_id: lead_id(number).to_string(),
        ..from_now()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

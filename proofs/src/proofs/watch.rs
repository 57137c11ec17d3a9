//! 16 writers on two replicas of a cluster under Patroni, and readers that follow the events: some never stop, some resume
//! after a few messages from the last token or from an older one, some want a part of the events, one reads slowly, and
//! one stays away until retention has deleted what it has not read. Meanwhile a transaction with an event is held open
//! for 10 s, replicas are stopped and killed, and the leader of the cluster is lost. On SQLite there is one server and
//! no failover.
//!
//! Each stream, across its resumes, must equal the history tables: in the order of each record's versions, without a
//! gap and with nothing twice. Shown to fail by `watch-by-number`, `checkpoint-ahead` and `retention-race`.

mod events;
mod faults;
mod follower;
mod history;
mod marks;
mod readers;
mod shared;
mod validate;
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use leadsmith_proto::record_version::Record;
use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::{RecordVersion, WatchStart};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::client::{Caller, version};
use crate::harness::context::{Context, Fixture};
use crate::harness::database::{Database, Kind};
use crate::harness::patroni::{Loss, Patroni};
use crate::harness::report::Findings;
use events::Filter;
use faults::Servers;
use follower::Follower;
use history::History;
use marks::Marks;
use readers::{Habit, Reader};
use shared::Shared;
use writers::Writers;

const DATABASE: &str = "leadsmith";
/// The leads that all writers change.
const COMMON: usize = 4;
/// How many leads are compared with the last event of each.
const COMPARED: usize = 200;
/// How long the writers write before the first fault and after the last one.
const UNDISTURBED: Duration = Duration::from_secs(2);
/// How long they go on after that, until a reader was too slow and a token has expired.
const RARE: Duration = Duration::from_secs(20);
/// How long the readers may take after the last change.
const CAUGHT_UP: Duration = Duration::from_secs(60);

const READERS: &[(&str, Habit, Filter)] = &[
    ("the first steady reader", Habit::Steady, Filter::All),
    ("the second steady reader", Habit::Steady, Filter::All),
    ("the first restless reader", Habit::Restless, Filter::All),
    ("the second restless reader", Habit::Restless, Filter::All),
    ("the reader of some types", Habit::Restless, Filter::Types),
    ("the reader of leads", Habit::Restless, Filter::Leads),
    ("the reader of one lead", Habit::Restless, Filter::OneLead),
    ("the slow reader", Habit::Slow, Filter::All),
    ("the reader that stays away", Habit::Away, Filter::All),
];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut patroni = match context.kind {
        Kind::Sqlite => None,
        Kind::Postgres => Some(Patroni::start().await?),
    };
    let fixture = match &patroni {
        None => context.fixture()?,
        Some(patroni) => {
            patroni.admin(&format!("CREATE DATABASE {DATABASE}"))?;
            context.fixture_in(Database::Elsewhere(patroni.url(DATABASE)))?
        }
    };
    let count = if patroni.is_some() { 2 } else { 1 };
    let mut servers = Servers::start(context, &fixture, count).await?;
    let callers = servers.callers().await?;
    let token = callers[0]
        .watch(Begin::Start(WatchStart::Now.into()))
        .await?;
    let marked = callers[0].create("Marks", "").await?.id;
    let mut common = Vec::new();
    for number in 0..COMMON {
        let lead = writers::large(&format!("Common {number}"));
        common.push(callers[0].create_as(lead, "").await?.id);
    }
    let (addresses, key) = (servers.addresses(), fixture.key(0));
    let shared = Arc::new(Shared::new(addresses, key, marked));

    let mut readers = JoinSet::new();
    for (number, (name, habit, filter)) in READERS.iter().enumerate() {
        let random = context.random(100 + number as u64);
        let reader = Reader::new(name, *habit, *filter, &shared, &token, random);
        readers.spawn(reader.run());
    }
    let marks = Marks::new(&shared, &callers, &fixture.database, context.random(200));
    let marks = tokio::spawn(marks.run());
    let writers = Writers::start(&shared, &callers, &common, |number| context.random(number));

    // When there is something to list.
    tokio::time::sleep(UNDISTURBED).await;
    let follower = Follower::list(&shared, &callers, context.random(300)).await?;
    let follower = tokio::spawn(follower.run());
    let caused = async {
        let rounds = context.size(1, 10);
        for round in 0..rounds {
            disturb(
                context,
                &shared,
                &mut servers,
                &fixture,
                &callers,
                &common,
                &mut findings,
            )
            .await?;
            if let Some(patroni) = &mut patroni {
                let how = [Loss::Server, Loss::Machine, Loss::Freeze][round % 3];
                faults::fail_over(patroni, how).await?;
                shared.count("leaders lost");
            }
        }
        wait_for_rare(&shared).await;
        anyhow::Ok(())
    };
    let caused = caused.await;
    shared.stop();
    caused?;
    marks.await?;
    let database = Database::Elsewhere(match &patroni {
        None => fixture.database.url(),
        Some(patroni) => patroni.url_of_leader(DATABASE)?,
    });
    let history = async || {
        marks::make_last(&shared, &callers).await?;
        History::read(&database).await
    };
    let history = writers.finish(history, &mut findings).await?;
    let ended = async { (readers.join_all().await, follower.await) };
    let Ok((mut readers, follower)) = tokio::time::timeout(CAUGHT_UP, ended).await else {
        findings.broke(format!(
            "within {CAUGHT_UP:?}, readers did not get the last mark, {:?}; their last marks: {:?}",
            shared.last(),
            shared.still_reading()
        ));
        judge(&shared, &history, &[], &mut findings)?;
        return findings.finish();
    };
    let follower = follower?;
    if let Some(violation) = follower.violation(&history) {
        findings.broke(format!("{}: {violation}", follower.reader.name));
    }
    findings.fact("leads in the list that was followed", follower.listed());
    readers.push(readers::read_stored(&shared, context.random(301)).await?);
    judge(&shared, &history, &readers, &mut findings)?;
    let (steady, ..) = READERS[0];
    if let Some(reader) = readers.iter().find(|reader| reader.name == steady) {
        compare_with_leads(reader, &callers[0], &mut findings).await?;
    }
    findings.finish()
}

/// Restarts the servers three times, while transactions are held open.
async fn disturb(
    context: &Context<'_>,
    shared: &Arc<Shared>,
    servers: &mut Servers<'_>,
    fixture: &Fixture,
    callers: &[Caller],
    common: &[String],
    findings: &mut Findings,
) -> Result<()> {
    let mut holds = JoinSet::new();
    if context.kind == Kind::Postgres {
        let urls = marks::members(&fixture.database.url());
        let caller = callers[callers.len() - 1].clone();
        holds.spawn(faults::hold_event(Arc::clone(shared), urls.clone(), caller));
        let locked = common[0].clone();
        holds.spawn(faults::hold_lock(Arc::clone(shared), urls, locked));
    }
    servers.restart(3, shared, findings).await?;
    while let Some(done) = holds.join_next().await {
        done??;
    }
    Ok(())
}

/// Waits for what does not happen in every second.
async fn wait_for_rare(shared: &Shared) {
    tokio::time::sleep(UNDISTURBED).await;
    let begun = Instant::now();
    let has = |what| shared.counted(what) > 0;
    while begun.elapsed() < RARE
        && !(has("tokens that expired") && has("streams that were too slow"))
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn judge(
    shared: &Shared,
    history: &History,
    readers: &[Reader],
    findings: &mut Findings,
) -> Result<()> {
    for problem in shared.problems() {
        findings.broke(problem);
    }
    let lead: Uuid = shared.marked.parse()?;
    for reader in readers {
        let expected = history.expected(|change| reader.filter.matches(change, lead));
        if let Some(violation) = reader.stream.violation(&expected) {
            findings.broke(format!("{}: {violation}", reader.name));
        }
    }
    findings.fact("writers", writers::WRITERS);
    findings.fact("readers", readers.len());
    findings.fact("changes in the history", history.changes().len());
    findings.fact("events still stored", history.stored());
    let events: usize = readers.iter().map(|reader| reader.stream.events()).sum();
    findings.fact("events received", events);
    for (what, count) in shared.counts() {
        findings.fact(&what, count);
    }
    for what in [
        "resumes from older tokens",
        "streams that the server ended",
        "streams that were too slow",
        "tokens that expired",
    ] {
        findings.expect(shared.counted(what) > 0, || format!("there were no {what}"));
    }
    Ok(())
}

/// The last event of a lead has the lead as it is.
async fn compare_with_leads(
    reader: &Reader,
    caller: &Caller,
    findings: &mut Findings,
) -> Result<()> {
    let mut compared = 0;
    for (record, (number, after)) in reader.stream.newest() {
        let Ok(lead) = caller.get(&record.to_string()).await else {
            // Another kind of record.
            continue;
        };
        if after.is_none() {
            // It was changed by plain SQL, without its values.
            continue;
        }
        findings.expect(version(&lead) == number, || {
            format!("the lead {record} is at another version than {number}")
        });
        let state = RecordVersion {
            record: Some(Record::Lead(lead)),
        };
        findings.expect(after == Some(events::hash(&state)), || {
            format!("the last event of the lead {record} has another state than the lead")
        });
        compared += 1;
        if compared == COMPARED {
            break;
        }
    }
    findings.fact("leads compared with their last event", compared);
    findings.expect(compared > 0, || "no lead was compared".to_owned());
    Ok(())
}

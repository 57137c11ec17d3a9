//! The effect of one caller's large and slow lists on other callers, none of whose calls may be rejected: 64
//! concurrent lists that each scan all leads; lists of leads of 400 KB, whose pages are limited by size; and, on
//! SQLite, overlapping lists during changes, which must not make the write-ahead log grow without bound. Shown to
//! fail by `lists-unlimited`, `pages-uncut` and `log-unkept`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use leadsmith_proto::{self as proto, Lead};
use tokio::task::JoinSet;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, Fixture};
use crate::harness::database::Kind;
use crate::harness::neighbour::{Calls, Neighbour};
use crate::harness::program::Serving;
use crate::harness::report::Findings;
use crate::harness::strain::check_alive;

/// The limit of the p99 of another principal's lists during the slow ones. About 25 ms were measured, and 640 to
/// 850 ms if one principal can use every connection.
const LIST_TIME: Duration = Duration::from_millis(300);
/// How many lists of one caller are in flight.
const AT_ONCE: usize = 64;
/// The size of a large lead's custom fields, the number of large leads, and the number of concurrent lists of
/// them.
const LARGE: usize = 400_000;
const LARGE_LEADS: usize = 250;
const LARGE_LISTS: usize = 8;
/// How much the server's memory may grow during these lists, in MiB. Each response has 3 MiB.
const MEMORY: f64 = 256.0;
/// The limit of the write-ahead log, in MiB, and how much must be written to make a violation visible.
const LOG: f64 = 112.0;
const WRITTEN: f64 = 256.0;
/// How many times as long this may take on a slow machine.
const SLOWER: u32 = 5;
/// How often a rejected list is retried, and after which pause.
const RETRIES: usize = 100;
const RETRY: Duration = Duration::from_millis(200);
/// The actor that deactivated the large leads.
const ACTOR: &str =
    r#"{"kind":"OPERATOR","id":"00000000-0000-7000-8000-000000000001","name":"load"}"#;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    load(&fixture, context.size(60_000, 1_000_000)).await?;
    let server = context.serve(&fixture, &[]).await?;
    let (caller, busy) = (
        fixture.caller(&server).await?,
        fixture.caller_as(&server, 1).await?,
    );
    let lead = caller.create("Neighbour", "").await?.id;
    let neighbour = Neighbour::new(&caller, &lead);
    slow_lists(context, &neighbour, &busy, &mut findings).await;
    large_lists(&server, &neighbour, &busy, &mut findings).await?;
    if context.kind == Kind::Sqlite {
        overlapping_lists(context, &fixture, &caller, &busy, &mut findings).await?;
    }
    check_alive(&server, &caller, &mut findings).await?;
    findings.finish()
}

/// Many leads. Half of them have the source and the other half the country: each filter alone matches so many that
/// its index is no help, and both together match none. Some leads are large.
async fn load(fixture: &Fixture, leads: usize) -> Result<()> {
    let db = fixture.database.connect().await?;
    let postgres = fixture.database.kind() == Kind::Postgres;
    let (numbers, id, time, json, object) = match postgres {
        true => (
            format!("generate_series(1, {leads}) AS n(i)"),
            "gen_random_uuid()",
            "TIMESTAMPTZ '2024-01-01T00:00:00Z' + i * interval '1s'",
            "'{}'::jsonb",
            format!(
                "(SELECT jsonb_object_agg('f' || n, repeat('x', 4000)) \
                 FROM generate_series(1, {}) AS n)",
                LARGE / 4_000
            ),
        ),
        false => (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {leads}) \
                 SELECT i FROM n)"
            ),
            "randomblob(16)",
            "strftime('%Y-%m-%dT%H:%M:%S+00:00', 1704067200 + i, 'unixepoch')",
            "'{}'",
            format!(
                "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {}) \
                 SELECT json_group_object('f' || n, hex(zeroblob(2000))) FROM n)",
                LARGE / 4_000
            ),
        ),
    };
    let texts = [
        "company",
        "email",
        "phone",
        "fax",
        "vat_id",
        "street",
        "city",
        "region",
        "postal_code",
        "language",
        "owner_id",
        "company_key",
        "email_key",
    ];
    let empty = vec!["''"; texts.len()].join(", ");
    db.execute(&format!(
        "INSERT INTO leads (id, version, state, first_name, last_name, last_name_key, country_code, \
         source, custom_fields, create_time, update_time, {}) SELECT {id}, 1, 'OPEN', 'Ada', \
         CAST(i AS text), CAST(i AS text), CASE i % 2 WHEN 0 THEN 'DE' ELSE '' END, \
         CASE i % 2 WHEN 1 THEN 'odd' ELSE '' END, {json}, {time}, {time}, {empty} FROM {numbers}",
        texts.join(", ")
    ))
    .await?;
    db.execute(&format!(
        "UPDATE leads SET custom_fields = {object}, state = 'DEACTIVATED', \
         deactivation_time = create_time, deactivation_actor = '{ACTOR}' WHERE seq <= {LARGE_LEADS}"
    ))
    .await?;
    db.execute("ANALYZE").await?;
    db.close().await
}

/// A list that scans all leads and finds none. Returns the reason if it is rejected.
async fn slow_list(caller: &Caller) -> String {
    let request = proto::ListLeadsRequest {
        source: "odd".into(),
        country_code: "DE".into(),
        order_by: "last_name".into(),
        ..Default::default()
    };
    match caller.leads().list(caller.request(request)).await {
        Ok(_) => String::new(),
        Err(status) => reason(&status),
    }
}

async fn slow_lists(
    context: &Context<'_>,
    neighbour: &Neighbour,
    busy: &Caller,
    findings: &mut Findings,
) {
    let time = Duration::from_secs(context.size(3, 60));
    let (gets, lists) = neighbour.during(many_slow_lists(busy, time)).await;
    findings.fact(
        &format!("Gets during {AT_ONCE} concurrent lists of all leads"),
        &gets,
    );
    findings.fact("these lists, and how many were rejected", lists);
    let (others, _) = neighbour.lists_during(many_slow_lists(busy, time)).await;
    findings.fact("other lists meanwhile", &others);
    let p99 = others.percentile(99);
    findings.expect(p99 <= LIST_TIME, || {
        format!("other lists took {p99:?}: they waited for those of one principal")
    });
    for (what, calls) in [("Gets", gets), ("lists", others)] {
        none_rejected(what, &calls, findings);
    }
}

fn none_rejected(what: &str, calls: &Calls, findings: &mut Findings) {
    findings.expect(calls.rejected == 0 && calls.count() > 20, || {
        format!(
            "{} of {} other {what} were rejected",
            calls.rejected,
            calls.count()
        )
    });
}

/// Keeps [`AT_ONCE`] lists in flight for this time.
async fn many_slow_lists(busy: &Caller, time: Duration) -> String {
    let started = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..AT_ONCE {
        let busy = busy.clone();
        loops.spawn(async move {
            let (mut lists, mut rejected) = (0, 0);
            while started.elapsed() < time {
                lists += 1;
                rejected += usize::from(!slow_list(&busy).await.is_empty());
            }
            (lists, rejected)
        });
    }
    let all = loops.join_all().await;
    let sum = all.iter().fold((0, 0), |(a, b), (lists, rejected)| {
        (a + lists, b + rejected)
    });
    format!("{} and {}", sum.0, sum.1)
}

async fn large_lists(
    server: &Serving,
    neighbour: &Neighbour,
    busy: &Caller,
    findings: &mut Findings,
) -> Result<()> {
    // Resets the peak that the kernel reports.
    fs::write(format!("/proc/{}/clear_refs", server.id()), "5")?;
    let before = server.memory()?;
    let lists = async {
        let mut lists = JoinSet::new();
        for _ in 0..LARGE_LISTS {
            lists.spawn(large_list(busy.clone()));
        }
        lists.join_all().await
    };
    let (gets, pages) = neighbour.during(lists).await;
    let grown = server.memory_of("VmHWM:")? - before;
    findings.fact(
        &format!("memory of {LARGE_LISTS} lists of large leads"),
        format!("+{grown:.0} MiB"),
    );
    findings.fact("Gets meanwhile", &gets);
    none_rejected("Gets", &gets, findings);
    for leads in pages {
        let leads = leads?;
        findings.expect(leads == LARGE_LEADS, || {
            format!("a list had {leads} large leads of {LARGE_LEADS}")
        });
    }
    findings.expect(grown <= MEMORY, || {
        format!("{LARGE_LISTS} lists of large leads took {grown:.0} MiB")
    });
    Ok(())
}

/// Reads all pages of the large leads. Returns the number of leads. The lists of one caller share a part of the
/// connections, so a list may have to retry.
async fn large_list(caller: Caller) -> Result<usize> {
    let mut request = proto::ListLeadsRequest {
        page_size: 1_000,
        states: vec![proto::LeadState::Deactivated.into()],
        ..Default::default()
    };
    let (mut leads, mut retries) = (0, 0);
    for _ in 0..LARGE_LEADS {
        let page = loop {
            match caller.leads().list(caller.request(request.clone())).await {
                Ok(page) => break page.into_inner(),
                Err(status) if reason(&status) == "SERVER_OVERLOADED" && retries < RETRIES => {
                    retries += 1;
                    tokio::time::sleep(RETRY).await;
                }
                Err(status) => return Err(status).context("a list of large leads failed"),
            }
        };
        leads += page.leads.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    Ok(leads)
}

/// Overlapping lists during changes, and the largest size of the write-ahead log.
async fn overlapping_lists(
    context: &Context<'_>,
    fixture: &Fixture,
    caller: &Caller,
    busy: &Caller,
    findings: &mut Findings,
) -> Result<()> {
    let file = fixture.database.file().with_extension("db-wal");
    let length = || fs::metadata(&file).map_or(0, |log| log.len());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let changes = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..3 {
        let (busy, stopped) = (busy.clone(), stopped.clone());
        readers.spawn(async move {
            while !*stopped.borrow() {
                slow_list(&busy).await;
            }
        });
    }
    let mut writers = JoinSet::new();
    for number in 0..8 {
        let (caller, stopped, changes) = (caller.clone(), stopped.clone(), Arc::clone(&changes));
        writers.spawn(async move { write_much(&caller, number, &stopped, &changes).await });
    }
    let time = Duration::from_secs(context.size(20, 300));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let written = || mib(changes.load(Ordering::Relaxed) * CHANGE);
    let (started, mut longest) = (Instant::now(), 0);
    // A slow machine needs longer to write enough for the log to become too large.
    while started.elapsed() < time || (written() < WRITTEN && started.elapsed() < time * SLOWER) {
        longest = longest.max(length());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send_replace(true);
    readers.join_all().await;
    let failed: u64 = writers.join_all().await.into_iter().sum();
    let (longest, written) = (mib(longest), written());
    findings.fact(
        "changes during overlapping lists",
        format!(
            "{}, {written:.0} MiB in {:.0} s",
            changes.load(Ordering::Relaxed),
            started.elapsed().as_secs_f64()
        ),
    );
    findings.fact("largest write-ahead log", format!("{longest:.0} MiB"));
    findings.expect(failed == 0, || format!("{failed} changes failed"));
    findings.expect(longest <= LOG, || {
        format!("the write-ahead log had {longest:.0} MiB")
    });
    anyhow::ensure!(written >= WRITTEN, "only {written:.0} MiB were written");
    Ok(())
}

/// How many bytes a change replaces.
const CHANGE: u64 = 14 * 4_000;

/// Replaces a lead's custom fields repeatedly and counts the changes. Returns how many failed.
async fn write_much(
    caller: &Caller,
    number: usize,
    stopped: &tokio::sync::watch::Receiver<bool>,
    changes: &AtomicU64,
) -> u64 {
    let Ok(lead) = caller.create(&format!("Large {number}"), "").await else {
        return 1;
    };
    let mut failed = 0;
    for value in ["x", "y"].into_iter().cycle() {
        if *stopped.borrow() {
            break;
        }
        let value = value.repeat(4_000);
        let fields = (0..14).map(|field| (format!("f{field}"), value.clone()));
        let request = proto::UpdateLeadRequest {
            lead: Some(Lead {
                id: lead.id.clone(),
                custom_fields: fields.collect(),
                ..Lead::default()
            }),
            ..Default::default()
        };
        match caller.leads().update(caller.request(request)).await {
            Ok(_) => {
                changes.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => failed += 1,
        }
    }
    failed
}

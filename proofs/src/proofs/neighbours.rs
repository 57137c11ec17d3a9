//! What a caller's large and slow lists cost the others, of whom none is refused: 64 lists at once that
//! each go through every lead; lists of leads of 400 KB, whose pages are cut by their size; and, on
//! SQLite, lists that overlap beside changes, for which its log must not grow without end. Shown to
//! fail by `lists-unlimited`, `pages-uncut` and `log-unkept`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use leadsmith::wire::proto::{self, Lead};
use tokio::task::JoinSet;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, Desk};
use crate::harness::database::Kind;
use crate::harness::neighbour::{Calls, Neighbour};
use crate::harness::program::Serving;
use crate::harness::report::Findings;
use crate::harness::strain::is_well;

/// How long a list of another principal may take beside the slow ones, at the 99th percentile: about 25 ms
/// were measured, and 640 to 850 ms where one principal has every connection.
const LIST_TIME: Duration = Duration::from_millis(300);
/// How many lists one caller has at once.
const AT_ONCE: usize = 64;
/// The size of the custom fields of a large lead, how many there are, and of how many lists at once.
const LARGE: usize = 400_000;
const LARGE_LEADS: usize = 250;
const LARGE_LISTS: usize = 8;
/// How much more memory the server may take for these, in MiB. Their responses have 3 MiB each.
const MEMORY: f64 = 256.0;
/// How long SQLite's log may become, in MiB, and how much has to be written to see that.
const LOG: f64 = 112.0;
const WRITTEN: f64 = 256.0;
/// How many times as long a slow machine may take for that.
const SLOWER: u32 = 5;
/// How often a list of these may be refused, and after how long it is retried.
const RETRIES: usize = 100;
const RETRY: Duration = Duration::from_millis(200);
/// Who deactivated the large leads.
const ACTOR: &str =
    r#"{"kind":"OPERATOR","id":"00000000-0000-7000-8000-000000000001","name":"load"}"#;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    load(&desk, context.size(60_000, 1_000_000)).await?;
    let server = context.serve(&desk, &[]).await?;
    let (caller, busy) = (
        desk.caller(&server).await?,
        desk.caller_as(&server, 1).await?,
    );
    let lead = caller.create("Neighbour", "").await?.id;
    let neighbour = Neighbour::new(&caller, &lead);
    slow_lists(context, &neighbour, &busy, &mut findings).await;
    large_lists(&server, &neighbour, &busy, &mut findings).await?;
    if context.kind == Kind::Sqlite {
        overlapping_lists(context, &desk, &caller, &busy, &mut findings).await?;
    }
    is_well(&server, &caller, &mut findings).await?;
    findings.finish()
}

/// Many leads, half of one source and half of one country, none of both: each filter by itself matches
/// so many that its index is no help, and together they match none. Besides some that are large.
async fn load(desk: &Desk, leads: usize) -> Result<()> {
    let db = desk.database.connect().await?;
    let postgres = desk.database.kind() == Kind::Postgres;
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

/// A list that goes through all leads and finds none. Returns the reason where it is refused.
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
    findings.fact(&format!("Gets beside {AT_ONCE} lists of all leads"), &gets);
    findings.fact("these lists, and how many were refused", lists);
    let (others, _) = neighbour.lists_during(many_slow_lists(busy, time)).await;
    findings.fact("lists beside them", &others);
    let p99 = others.percentile(99);
    findings.expect(p99 <= LIST_TIME, || {
        format!("lists of others took {p99:?}: they waited for those of one principal")
    });
    for (what, calls) in [("Gets", gets), ("lists", others)] {
        none_refused(what, &calls, findings);
    }
}

fn none_refused(what: &str, calls: &Calls, findings: &mut Findings) {
    findings.expect(calls.refused == 0 && calls.count() > 20, || {
        format!(
            "{} of {} {what} of others were refused",
            calls.refused,
            calls.count()
        )
    });
}

/// As many as there are to be at once, for so long.
async fn many_slow_lists(busy: &Caller, time: Duration) -> String {
    let begun = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..AT_ONCE {
        let busy = busy.clone();
        loops.spawn(async move {
            let (mut lists, mut refused) = (0, 0);
            while begun.elapsed() < time {
                lists += 1;
                refused += usize::from(!slow_list(&busy).await.is_empty());
            }
            (lists, refused)
        });
    }
    let all = loops.join_all().await;
    let sum = all
        .iter()
        .fold((0, 0), |(a, b), (lists, refused)| (a + lists, b + refused));
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
    findings.fact("Gets beside them", &gets);
    none_refused("Gets", &gets, findings);
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

/// Goes through all pages of the large leads. Returns how many there were. One caller's lists share a part of
/// the connections, so it may have to retry.
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

/// Lists that overlap beside changes, and how long the log becomes.
async fn overlapping_lists(
    context: &Context<'_>,
    desk: &Desk,
    caller: &Caller,
    busy: &Caller,
    findings: &mut Findings,
) -> Result<()> {
    let file = desk.database.file().with_extension("db-wal");
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
    let (begun, mut longest) = (Instant::now(), 0);
    // On a slow machine it takes longer until so much is written that the log could be too long.
    while begun.elapsed() < time || (written() < WRITTEN && begun.elapsed() < time * SLOWER) {
        longest = longest.max(length());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send_replace(true);
    readers.join_all().await;
    let failed: u64 = writers.join_all().await.into_iter().sum();
    let (longest, written) = (mib(longest), written());
    findings.fact(
        "changes beside lists that overlap",
        format!(
            "{}, {written:.0} MiB in {:.0} s",
            changes.load(Ordering::Relaxed),
            begun.elapsed().as_secs_f64()
        ),
    );
    findings.fact("the longest log", format!("{longest:.0} MiB"));
    findings.expect(failed == 0, || format!("{failed} changes failed"));
    findings.expect(longest <= LOG, || format!("the log had {longest:.0} MiB"));
    anyhow::ensure!(written >= WRITTEN, "only {written:.0} MiB were written");
    Ok(())
}

/// What a change replaces, in bytes.
const CHANGE: u64 = 14 * 4_000;

/// Replaces a lead's custom fields again and again, and counts the changes. Returns how many failed.
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

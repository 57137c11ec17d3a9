//! Personal data is removed from everything that the database stores: tables, the search index, logs and
//! statistics.

use leadsmith_proto::{self as proto, Lead};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};

use super::{Known, SAID, asked, erase, known, person, request_id, stored};
use crate::harness::{Backend, Harness, eventually, reason};
use crate::leads::complete;
use crate::on_both;

/// The number of rows of SQLite's search index: none for a lead without texts.
async fn sets(h: &Harness) -> i64 {
    h.count("SELECT count(*) FROM search_index").await
}

/// The number of leads whose texts are not in SQLite's search index yet.
async fn pending(h: &Harness) -> i64 {
    h.count("SELECT count(*) FROM search_pending").await
}

/// The values in PostgreSQL's column statistics, and the statements of its connections.
const SAMPLES: &str = "SELECT coalesce(string_agg(concat_ws(' ', tablename, attname, \
     most_common_vals::text, histogram_bounds::text, most_common_elems::text), E'\\n'), '') || \
     (SELECT string_agg(query, E'\\n') FROM pg_stat_activity WHERE datname = current_database()) \
     FROM pg_stats WHERE schemaname = 'public'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_said_of_somebody_is_in_the_statistics_of_postgres() {
    let h = Harness::start(Backend::Postgres).await;
    let Known { lead, .. } = known(&h).await;
    for n in 0..20 {
        h.sales.create_lead(&format!("Another {n}")).await;
    }
    let db = h.database.connect().await;
    let samples = async || {
        let statement = Statement::from_string(db.get_database_backend(), SAMPLES);
        let row = db.query_one_raw(statement).await.unwrap().unwrap();
        let text: String = row.try_get_by_index(0).unwrap();
        let found = SAID.iter().filter(|said| text.contains(**said));
        found.copied().collect::<Vec<_>>()
    };
    db.execute_unprepared("ANALYZE").await.unwrap();
    let before = samples().await;
    for said in [
        "Lovelaceford",
        "Engineworks",
        "second-mail@",
        "+44-555-0001",
        "engineworks",
        "named-opportunity",
        "sold-as-item",
        "value-of-tier",
    ] {
        assert!(
            before.contains(&said),
            "it looks where samples are: {said} not in {before:?}"
        );
    }
    h.admin.erase(&lead.id).await.unwrap();
    eventually("no sample of it is left", async || {
        samples().await.is_empty()
    })
    .await;
}

on_both! {
    async fn nothing_that_was_said_of_somebody_is_stored_any_more(h: Harness) {
        let Known { lead, .. } = known(&h).await;
        let before = stored(&h).await;
        let missing: Vec<_> = SAID.iter().filter(|said| !before.contains(**said)).collect();
        assert_eq!(missing, Vec::<&&str>::new(), "it looks where things are stored");

        let erased = erase(&h.admin, asked(&lead.id)).await.unwrap();
        let after = stored(&h).await;
        let left: Vec<_> = SAID.iter().filter(|said| after.contains(**said)).collect();
        assert_eq!(left, Vec::<&&str>::new());

        // What remains of the lead.
        let by = erased.erasure.clone().unwrap();
        assert_eq!(by.actor.unwrap().id, h.admin.id.to_string());
        assert_eq!(by.time, erased.update_time);
        let expected = Lead {
            id: lead.id.clone(),
            owner_id: lead.owner_id.clone(),
            state: lead.state,
            conversion: lead.conversion.clone(),
            create_time: lead.create_time,
            etag: erased.etag.clone(),
            update_time: erased.update_time,
            erasure: erased.erasure.clone(),
            ..Lead::default()
        };
        assert_eq!(erased, expected);
        assert_ne!(erased.etag, lead.etag);
        assert_eq!(h.viewer.get(&lead.id).await, erased);
        let request = proto::GetClientRequest { id: lead.id.clone() };
        let client = h.viewer.clients().get(request).await.unwrap().into_inner().client.unwrap();
        assert_eq!(client.erasure, erased.erasure);
        assert_eq!(client.company, "");

        if h.database.backend == Backend::Sqlite {
            assert_eq!((sets(&h).await, pending(&h).await), (0, 0));
        } else {
            eventually("the tables are vacuumed", async || {
                h.count(
                    "SELECT count(*) FROM pg_stat_user_tables WHERE vacuum_count > 0 AND relname IN \
                     ('leads', 'lead_search', 'opportunities', 'orders', 'action_runs', 'history', \
                     'events', 'idempotency_records')",
                )
                .await
                    == 8
            })
            .await;
        }
    }

    async fn texts_that_wait_for_the_search_index_are_erased_too(h: Harness) {
        let neighbour = h.sales.create_lead("Hopper").await;
        let lead = h.sales.create(person("")).await.unwrap();
        let other = h.sales.create(complete("")).await.unwrap();
        // This erasure also writes all pending texts to the index.
        h.admin.erase(&other.id).await.unwrap();
        let renamed = Lead {
            id: lead.id.clone(),
            last_name: "Renamed".into(),
            company: "Renamed".into(),
            ..Lead::default()
        };
        h.sales.update(renamed, &["last_name", "company"]).await.unwrap();
        if h.database.backend == Backend::Sqlite {
            assert_eq!(pending(&h).await, 1);
            let old = "SELECT count(*) FROM search_pending WHERE instr(indexed, 'lovelaceford') > 0";
            assert_eq!(h.count(old).await, 1);
        }
        h.admin.erase(&lead.id).await.unwrap();
        let after = stored(&h).await;
        let left: Vec<_> = SAID.iter().filter(|said| after.contains(**said)).collect();
        assert_eq!(left, Vec::<&&str>::new());
        assert_eq!(h.viewer.get(&neighbour.id).await, neighbour);
        if h.database.backend == Backend::Sqlite {
            assert_eq!(pending(&h).await, 0);
            let db = h.database.connect().await;
            crate::lists::search_index::check(&db).await;
            let request = proto::SearchLeadsRequest { query: "hopper".into(), ..Default::default() };
            let found = h.viewer.leads().search(request).await.unwrap().into_inner().leads;
            assert_eq!(found, [neighbour]);
        }
    }

    async fn what_workers_said_is_erased_and_so_are_responses_about_several_leads(h: Harness) {
        let lead = h.sales.create(person("")).await.unwrap();
        let other = h.sales.create_lead("Hopper").await;
        for id in [&lead.id, &lead.id, &other.id] {
            let install = proto::OrderAction {
                key: "install".into(),
                r#type: proto::ActionType::External.into(),
                ..Default::default()
            };
            h.sales.create_order(id, vec![install]).await;
        }
        let request = proto::ClaimActionsRequest {
            actions: vec!["install".into()],
            max: 3,
            lease: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            request_id: request_id(),
            ..Default::default()
        };
        let claimed = h.sales.orders().claim_actions(request).await.unwrap().into_inner().runs;
        let mut of_lead = claimed.iter().filter(|run| run.lead.as_ref().unwrap().id == lead.id);
        let report = proto::ReportActionRequest {
            run_id: of_lead.next().unwrap().id.clone(),
            outcome: proto::RunOutcome::Failed.into(),
            note: "noted-by-worker".into(),
            reference: "worker-refers-to".into(),
            request_id: request_id(),
            ..Default::default()
        };
        h.sales.orders().report_action(report).await.unwrap();
        let release = proto::ReleaseActionRequest {
            run_id: of_lead.next().unwrap().id.clone(),
            reason: "released-because".into(),
            request_id: request_id(),
            ..Default::default()
        };
        h.sales.orders().release_action(release).await.unwrap();
        let said = ["noted-by-worker", "worker-refers-to", "released-because"];
        let before = stored(&h).await;
        assert!(said.iter().chain(&["Lovelaceford"]).all(|said| before.contains(said)));
        h.admin.erase(&lead.id).await.unwrap();
        let after = stored(&h).await;
        let left: Vec<_> = SAID.iter().chain(&said).filter(|said| after.contains(**said)).collect();
        assert_eq!(left, Vec::<&&str>::new());
        // Who did what remains.
        let kinds = "SELECT count(*) FROM action_runs WHERE kind IN ('CLAIM', 'RUN', 'RELEASE')";
        assert_eq!(h.count(kinds).await, 5);
    }

    async fn of_many_who_erase_and_change_at_once_nothing_is_left(h: Harness) {
        let Known { lead, order, .. } = known(&h).await;
        let open = h.sales.create(person("")).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..24 {
            let (admin, sales) = (h.admin.clone(), h.sales.clone());
            let (id, open, order) = (lead.id.clone(), open.id.clone(), order.id.clone());
            calls.spawn(async move {
                match number % 4 {
                    0 => drop(admin.erase(&id).await),
                    1 => drop(admin.erase(&open).await),
                    2 => drop(sales.run(&order, "provision").await),
                    _ => {
                        let change = Lead { id: open, company: "Engineworks".into(), ..Lead::default() };
                        drop(sales.update(change, &["company"]).await);
                    }
                }
            });
        }
        calls.join_all().await;
        for id in [&lead.id, &open.id] {
            if h.viewer.get(id).await.erasure.is_none() {
                let erased = async || match h.admin.erase(id).await {
                    Ok(_) => true,
                    Err(status) => {
                        // Password attempts that overlapped still count for two seconds.
                        assert_eq!(reason(&status), "PASSWORD_ATTEMPTS_EXCEEDED");
                        false
                    }
                };
                eventually("the lead is erased", erased).await;
            }
        }
        let after = stored(&h).await;
        let left: Vec<_> = SAID.iter().filter(|said| after.contains(**said)).collect();
        assert_eq!(left, Vec::<&&str>::new());
        assert_eq!(h.count("SELECT count(*) FROM events WHERE type = 'lead.erased'").await, 2);
    }
}

/// While a read transaction is open, the write-ahead log keeps its content. When the transaction ends, the
/// server truncates the log by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_only_puts_off_that_the_log_is_cut() {
    let h = Harness::start_with(Backend::Sqlite, |settings| {
        settings.limits.retention_interval = std::time::Duration::from_millis(200);
    })
    .await;
    let Known { lead, .. } = known(&h).await;
    let reader = h.database.connect().await;
    let reading = reader.begin().await.unwrap();
    crate::harness::count(&h.database.connect().await, "SELECT count(*) FROM leads").await;
    reading
        .execute_unprepared("SELECT count(*) FROM leads")
        .await
        .unwrap();
    h.admin.erase(&lead.id).await.unwrap();
    assert!(
        stored(&h).await.contains("Lovelaceford"),
        "the reader still sees it"
    );
    h.sales.create_lead("Hopper").await;
    reading.rollback().await.unwrap();
    eventually("the log is cut", async || {
        !stored(&h).await.contains("Lovelaceford")
    })
    .await;
}

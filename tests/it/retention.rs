//! Retention: records are deleted in time, never before, and by one replica at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use leadsmith::config::ServeSettings;
use leadsmith::core::role::Role;
use leadsmith_proto::{self as proto, Lead};
use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::harness::{Backend, Caller, Harness, OF_LEADS, count, eventually, sign_in};
use crate::on_both;
use crate::program::leadsmith;

/// A server that continuously looks for records to delete.
fn eager(settings: &mut ServeSettings) {
    settings.limits.retention_interval = Duration::from_millis(20);
}

async fn another(h: &Harness, change: impl FnOnce(&mut ServeSettings)) -> leadsmith::app::Running {
    h.another_server(|settings| {
        eager(settings);
        change(settings);
    })
    .await
}

/// Long enough for several rounds.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

async fn create(caller: &Caller, request_id: &str) -> Lead {
    let request = proto::CreateLeadRequest {
        lead: Some(Lead {
            last_name: "Lovelace".into(),
            ..Lead::default()
        }),
        request_id: request_id.into(),
        ..Default::default()
    };
    let answer = caller.leads().create(request).await.unwrap();
    answer.into_inner().lead.unwrap()
}

const RECORDS: &str = "SELECT count(*) FROM idempotency_records";

/// Responses stored long ago.
async fn keep_old(h: &Harness, db: &DatabaseConnection, rows: u32) {
    let sql = match h.database.backend {
        Backend::Sqlite => format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             INSERT INTO idempotency_records (principal_id, request_id, fingerprint, response, \
             create_time) SELECT randomblob(16), randomblob(16), x'00', x'00', \
             '2020-01-01T00:00:00+00:00' FROM n"
        ),
        Backend::Postgres => format!(
            "INSERT INTO idempotency_records (principal_id, request_id, fingerprint, response, \
             create_time) SELECT gen_random_uuid(), gen_random_uuid(), '\\x00', '\\x00', \
             '2020-01-01' FROM generate_series(1, {rows})"
        ),
    };
    db.execute_unprepared(&sql).await.unwrap();
}

/// The query that counts the rows of a table that are about leads.
fn of_leads(table: &str) -> String {
    format!("SELECT count(*) FROM {table} WHERE {OF_LEADS}")
}

on_both! {
    async fn a_request_id_is_good_for_its_time_and_then_free_again(h: Harness) {
        let server = another(&h, |_| {}).await;
        let caller = h.service_account("crm", Role::Sales).await;
        let id = "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e57";
        let first = create(&caller, id).await;
        h.clock.advance(chrono::Duration::hours(47));
        a_while().await;
        assert_eq!(create(&caller, id).await, first, "a repeat");
        assert_eq!(h.count(RECORDS).await, 1);

        h.clock.advance(chrono::Duration::minutes(61));
        eventually("the answer goes", async || h.count(RECORDS).await == 0).await;
        assert_ne!(create(&caller, id).await.id, first.id, "a call of its own");
        assert_eq!(caller.get(&first.id).await, first, "the lead stays");
        assert_eq!(h.count(&of_leads("history")).await, 2);
        assert_eq!(h.count(&of_leads("events")).await, 2, "kept for 30 days unless told");
        server.stop().await.unwrap();
    }

    async fn sessions_and_attempts_go_when_they_count_no_more(h: Harness) {
        let sessions = "SELECT count(*) FROM sessions";
        let attempts = "SELECT count(*) FROM password_attempts";
        sign_in(h.channel(), "sales", "not the password").await.unwrap_err();
        let server = another(&h, |_| {}).await;
        // The attempts of the three operators' sign-ins were credited back, so they expire immediately.
        eventually("only the wrong one is left", async || h.count(attempts).await == 3).await;
        h.clock.advance(chrono::Duration::minutes(14));
        a_while().await;
        assert_eq!(h.count(attempts).await, 3);
        assert_eq!(h.count(sessions).await, 3);
        h.clock.advance(chrono::Duration::minutes(2));
        eventually("it counts no more", async || h.count(attempts).await == 0).await;
        h.clock.advance(chrono::Duration::hours(11));
        a_while().await;
        assert_eq!(h.count(sessions).await, 3);
        h.clock.advance(chrono::Duration::hours(1));
        eventually("they ended", async || h.count(sessions).await == 0).await;
        server.stop().await.unwrap();
    }

    async fn events_go_when_they_are_told_to(h: Harness) {
        let caller = h.service_account("crm", Role::Sales).await;
        for _ in 0..3 {
            create(&caller, "").await;
        }
        let server = another(&h, |settings| settings.limits.keep_events = 2).await;
        h.clock.advance(chrono::Duration::hours(47));
        let last = create(&caller, "").await;
        a_while().await;
        assert_eq!(h.count(&of_leads("events")).await, 4);
        let newest = h.count("SELECT max(seq) FROM events").await;
        h.clock.advance(chrono::Duration::hours(2));
        eventually("the old ones go", async || {
            h.count("SELECT count(*) FROM events").await == 1
        })
        .await;
        assert_eq!(h.count("SELECT seq FROM events").await, newest);
        assert_eq!(h.count(&of_leads("history")).await, 4, "history stays");
        caller.deactivate(&last.id).await.unwrap();
        assert_eq!(h.count("SELECT max(seq) FROM events").await, newest + 1, "counted on");
        server.stop().await.unwrap();
    }

    async fn much_goes_in_batches_between_which_others_write(h: Harness) {
        let db = h.database.connect().await;
        keep_old(&h, &db, 3_500).await;
        let server = another(&h, |_| {}).await;
        let mut seen = BTreeSet::new();
        eventually("all are gone", async || {
            let left = count(&db, RECORDS).await;
            seen.insert(left);
            left == 0
        })
        .await;
        assert!(seen.len() > 2, "{seen:?}");
        let batches = BTreeSet::from([3_500, 2_500, 1_500, 500, 0]);
        assert!(seen.is_subset(&batches), "{seen:?}");
        server.stop().await.unwrap();
    }

    async fn a_server_that_stops_deletes_nothing_more(h: Harness) {
        let db = h.database.connect().await;
        another(&h, |_| {}).await.stop().await.unwrap();
        drop(another(&h, |_| {}).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
        keep_old(&h, &db, 10).await;
        a_while().await;
        assert_eq!(count(&db, RECORDS).await, 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_deletes_at_a_time() {
    let h = Harness::start(Backend::Postgres).await;
    let db = h.database.connect().await;
    // A trigger records when each deletion runs, and delays it.
    for sql in [
        "CREATE TABLE seen (pid integer, began timestamptz, ended timestamptz)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE b timestamptz; BEGIN \
         b := clock_timestamp(); PERFORM pg_sleep(0.1); \
         INSERT INTO seen VALUES (pg_backend_pid(), b, clock_timestamp()); RETURN NULL; END $$",
        "CREATE TRIGGER note BEFORE DELETE ON idempotency_records EXECUTE FUNCTION note()",
    ] {
        db.execute_unprepared(sql).await.unwrap();
    }
    let servers = [another(&h, |_| {}).await, another(&h, |_| {}).await];
    keep_old(&h, &db, 4_500).await;
    eventually("all are gone", async || count(&db, RECORDS).await == 0).await;
    a_while().await;
    let overlapping = "SELECT count(*) FROM seen a JOIN seen b ON a.pid < b.pid \
                       AND a.began < b.ended AND b.began < a.ended";
    assert_eq!(count(&db, overlapping).await, 0);
    assert_eq!(
        count(&db, "SELECT count(DISTINCT pid) FROM seen WHERE pid > 0")
            .await
            .min(2),
        2,
        "both were there"
    );
    for server in servers {
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_request_id_is_kept_for_a_day_at_least() {
    let ended = leadsmith("serve --keep-request-ids 23").run().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .err
            .contains("'--keep-request-ids <HOURS>': a whole number from 24 to 876000"),
        "{ended:?}"
    );
    let ended = leadsmith("config --keep-request-ids 24").run().await;
    assert!(ended.out.contains("24 h"), "{ended:?}");
}

//! Database connections that break: safe operations are retried, and a change whose commit got no response is
//! reported with its real outcome.

use std::time::{Duration, Instant};

use leadsmith_proto::Lead;
use sea_orm::ConnectionTrait;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Backend, Harness, reason, update};
use crate::on_both;

fn change(lead: &Lead, phone: &str) -> leadsmith_proto::UpdateLeadRequest {
    let change = Lead {
        id: lead.id.clone(),
        phone: phone.into(),
        ..Lead::default()
    };
    update(change, &["phone"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_notice_that_the_database_ended_their_connections() {
    let h = Harness::start(Backend::Postgres).await;
    let lead = h.sales.create_lead("Failover").await;
    for turn in 0..10 {
        h.database.end_sessions().await;
        let phone = turn.to_string();
        if turn % 2 == 0 {
            h.sales.get(&lead.id).await;
        }
        let changed = h.sales.leads().update(change(&lead, &phone)).await;
        assert_eq!(changed.unwrap().into_inner().lead.unwrap().phone, phone);
        assert_eq!(h.sales.get(&lead.id).await.phone, phone);
    }
}

/// Terminates the next two transactions that write to a table during their commit: a deferred trigger runs inside
/// COMMIT and terminates the session there. For the service it is unknown whether the rows are on disk.
async fn die_twice_at(h: &Harness, table: &str) {
    let sql = format!(
        "CREATE SEQUENCE {table}_deaths; \
         CREATE FUNCTION die_at_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF nextval('{table}_deaths') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
           RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER die AFTER INSERT ON {table} \
           DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die_at_{table}()"
    );
    let beside = h.database.connect().await;
    beside.execute_unprepared(&sql).await.unwrap();
}

async fn assert_it_died_twice(h: &Harness, table: &str) {
    let tries = format!("SELECT last_value FROM {table}_deaths");
    assert_eq!(h.count(&tries).await, 3, "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_commit_died_is_made_once() {
    let h = Harness::start(Backend::Postgres).await;
    let lead = h.sales.create_lead("Fate").await;
    die_twice_at(&h, "history").await;
    let changed = h.sales.leads().update(change(&lead, "once")).await;
    assert_eq!(changed.unwrap().into_inner().lead.unwrap().phone, "once");
    let rows = "SELECT count(*) FROM history WHERE rpc LIKE '%/Update'";
    assert_eq!(h.count(rows).await, 1);
    assert_it_died_twice(&h, "history").await;
}

/// A rejected run leaves only a row of the ledger, and a change without effect only its stored response. Neither
/// has a history entry that would reveal the outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_nothing_is_answered_as_well_when_its_commit_died() {
    let h = Harness::start(Backend::Postgres).await;
    let lead = h.sales.create_lead("Fate").await;
    let order = h.sales.create_order(&lead.id, Vec::new()).await;
    h.sales.deactivate(&lead.id).await.unwrap();
    let run = async || {
        h.sales
            .run(&order.id, "provision-client")
            .await
            .unwrap_err()
    };
    assert_eq!(reason(&run().await), "LEAD_DEACTIVATED");
    die_twice_at(&h, "action_runs").await;
    assert_eq!(reason(&run().await), "LEAD_DEACTIVATED");
    assert_eq!(h.count("SELECT count(*) FROM action_runs").await, 2);
    assert_it_died_twice(&h, "action_runs").await;

    let lead = h.sales.reactivate(&lead.id).await.unwrap();
    die_twice_at(&h, "idempotency_records").await;
    let mut same = change(&lead, &lead.phone);
    same.request_id = "0190a5f2-0000-4000-8000-00000000fa7e".into();
    let answer = h.sales.leads().update(same).await.unwrap().into_inner();
    assert_eq!(answer.lead, Some(lead));
    let kept = "SELECT count(*) FROM idempotency_records";
    assert_eq!(h.count(kept).await, 1);
    assert_it_died_twice(&h, "idempotency_records").await;
}

on_both! {
    /// One change that the database rejects must not make others of its batch fail and, above all, must not make
    /// them look committed.
    async fn a_change_that_fails_in_a_batch_fails_alone(h: Harness) {
        let beside = h.database.connect().await;
        let trap = if h.database.backend == Backend::Postgres {
            "CREATE FUNCTION choke() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.phone = 'poison' THEN RAISE EXCEPTION 'choked'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER choke BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION choke()"
        } else {
            "CREATE TRIGGER choke BEFORE UPDATE ON leads WHEN NEW.phone = 'poison' \
             BEGIN SELECT RAISE(ABORT, 'choked'); END"
        };
        let mut leads = Vec::new();
        for number in 0..24 {
            leads.push(h.sales.create_lead(&format!("Batch {number}")).await);
        }
        beside.execute_unprepared(trap).await.unwrap();
        for round in 0..3 {
            let calls = leads.iter().enumerate().map(|(number, lead)| {
                let phone = if number == 7 { "poison".to_owned() } else { format!("{round}-{number}") };
                let (mut client, request) = (h.sales.leads(), change(lead, &phone));
                tokio::spawn(async move { (phone, client.update(request).await) })
            });
            let calls: Vec<_> = calls.collect();
            for (call, lead) in calls.into_iter().zip(&leads) {
                let (phone, answer) = call.await.unwrap();
                if phone == "poison" {
                    assert_eq!(reason(&answer.unwrap_err()), "INTERNAL");
                } else {
                    answer.unwrap();
                    assert_eq!(h.sales.get(&lead.id).await.phone, phone, "what was answered is there");
                }
            }
        }
        assert_ne!(h.sales.get(&leads[7].id).await.phone, "poison");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_follows_the_database_and_liveness_does_not() {
    let h = Harness::start(Backend::Postgres).await;
    let (server, name) = h.database.url.rsplit_once('/').unwrap();
    let admin = crate::harness::connect(&format!("{server}/postgres"))
        .await
        .unwrap();
    let allow = async |allowed: bool| {
        let sql = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {allowed}");
        admin.execute_unprepared(&sql).await.unwrap();
    };
    let until = async |service: &str, status: i32| {
        let begun = Instant::now();
        loop {
            let request = HealthCheckRequest {
                service: service.into(),
            };
            let answer = HealthClient::new(h.channel()).check(request).await.unwrap();
            if answer.into_inner().status == status {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{service} is not {status}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until("leadsmith.v1.LeadService", 1).await;
    allow(false).await;
    admin
        .execute_unprepared(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await
        .unwrap();
    until("leadsmith.v1.LeadService", 2).await;
    until("", 2).await;
    until("liveness", 1).await;
    allow(true).await;
    until("", 1).await;
}

//! Connections that die under the service: what is safe is done again, and a change whose commit was
//! not answered is answered by what became of it.

use std::time::{Duration, Instant};

use leadsmith::wire::proto::Lead;
use sea_orm::ConnectionTrait;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Backend, Harness, reason, update};
use crate::on_both;

fn change(lead: &Lead, phone: &str) -> leadsmith::wire::proto::UpdateLeadRequest {
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

/// A deferred trigger runs inside COMMIT: it ends the session there, before or after the change is on
/// disk as far as the service can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_commit_died_is_made_once() {
    let h = Harness::start(Backend::Postgres).await;
    let lead = h.sales.create_lead("Fate").await;
    let beside = h.database.connect().await;
    beside
        .execute_unprepared(
            "CREATE SEQUENCE deaths; \
             CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF nextval('deaths') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
               RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER die AFTER INSERT ON history \
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
        )
        .await
        .unwrap();
    let changed = h.sales.leads().update(change(&lead, "once")).await;
    assert_eq!(changed.unwrap().into_inner().lead.unwrap().phone, "once");
    let rows = "SELECT count(*) FROM history WHERE rpc LIKE '%/Update'";
    assert_eq!(h.count(rows).await, 1);
    assert_eq!(
        h.count("SELECT last_value FROM deaths").await,
        3,
        "it died twice"
    );
}

on_both! {
    /// One change that the database chokes on must not take others with it, and above all must not
    /// make them look done.
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

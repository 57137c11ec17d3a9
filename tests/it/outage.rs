//! The database is unavailable, or there is too much load: calls fail immediately with a clear error, and
//! everything works again afterwards.

use std::time::{Duration, Instant};

use leadsmith_proto::Lead;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::harness::{Backend, Caller, Harness, connect, metadata_free, reason, update};

fn change(lead: &Lead, phone: &str) -> leadsmith_proto::UpdateLeadRequest {
    let change = Lead {
        id: lead.id.clone(),
        phone: phone.into(),
        ..Lead::default()
    };
    update(change, &["phone"])
}

fn assert_unavailable(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(reason(status), "DATABASE_UNAVAILABLE");
    assert!(
        status.get_error_details().retry_info().is_some(),
        "says when to retry"
    );
    assert!(metadata_free(status), "says nothing of the database");
}

/// Retries a call until it succeeds.
async fn until_it_works(caller: &Caller, lead: &Lead) -> Duration {
    let begun = Instant::now();
    while caller.leads().update(change(lead, "after")).await.is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it does not recover"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

async fn administrator(h: &Harness) -> (DatabaseConnection, String) {
    let (server, name) = h.database.url.rsplit_once('/').unwrap();
    (
        connect(&format!("{server}/postgres")).await.unwrap(),
        name.to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_calls_answer_unavailable_and_recover() {
    let h = Harness::start(Backend::Postgres).await;
    let lead = h.sales.create_lead("Outage").await;
    let (admin, name) = administrator(&h).await;
    let run = async |sql: String| admin.execute_unprepared(&sql).await.unwrap();
    run(format!(
        "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"
    ))
    .await;
    run(format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    ))
    .await;

    for _ in 0..20 {
        assert_unavailable(
            &h.sales
                .leads()
                .update(change(&lead, "during"))
                .await
                .unwrap_err(),
        );
        let get = leadsmith_proto::GetLeadRequest {
            id: lead.id.clone(),
        };
        assert_unavailable(&h.viewer.leads().get(get).await.unwrap_err());
    }

    run(format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")).await;
    until_it_works(&h.sales, &lead).await;
    let after = h.sales.get(&lead.id).await;
    assert_eq!(
        (after.phone.as_str(), after.etag.as_str()),
        ("after", "\"2\"")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_another_program_writes_to_sqlite_changes_wait_and_reads_go_on() {
    let h = Harness::start(Backend::Sqlite).await;
    let lead = h.sales.create_lead("Busy").await;
    let other = h.database.connect().await;
    other.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
    let refused = h.sales.leads().update(change(&lead, "during")).await;
    assert_unavailable(&refused.unwrap_err());
    assert_eq!(h.sales.get(&lead.id).await, lead, "reads go on");
    other.execute_unprepared("ROLLBACK").await.unwrap();
    until_it_works(&h.sales, &lead).await;
}

/// The caller's token is not cached. Its look-up waits for the only connection of the pool, and the call then
/// waits for the lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finding_out_who_calls_counts_into_what_the_call_waits() {
    let wait = Duration::from_secs(4);
    let h = Harness::start_with(Backend::Postgres, |settings| {
        settings.limits.connection_wait = wait;
        settings.limits.postgres_connections = 2;
    })
    .await;
    let lead = h.sales.create_lead("Wait").await;
    let account = h
        .service_account("website", leadsmith::core::role::Role::Sales)
        .await;
    let held = h.hold_changes().await;
    held.lock_out_readers().await;
    let mut lists = Vec::new();
    for _ in 0..3 {
        // Each uses the only connection for a quarter of the time.
        let viewer = h.viewer.clone();
        lists.push(tokio::spawn(async move {
            let list = leadsmith_proto::ListLeadsRequest::default();
            assert_unavailable(&viewer.leads().list(list).await.unwrap_err());
        }));
    }
    tokio::time::sleep(wait / 20).await;
    let begun = Instant::now();
    let refused = account.leads().update(change(&lead, "late")).await;
    let refused = refused.unwrap_err();
    // Depending on the timing, the call was still waiting to be written, or for the lead.
    let reason = reason(&refused);
    assert!(
        ["DATABASE_UNAVAILABLE", "WRITE_CONFLICT"].contains(&reason.as_str()),
        "{refused:?}"
    );
    assert!(begun.elapsed() < wait + wait / 20, "{:?}", begun.elapsed());
    for list in lists {
        list.await.unwrap();
    }
    held.release().await;
    until_it_works(&account, &lead).await;
}

/// Otherwise acknowledged changes would be lost when the server stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_file_sqlite_takes_no_changes() {
    let h = Harness::start(Backend::Sqlite).await;
    let lead = h.sales.create_lead("Gone").await;
    let file = h.database.url.strip_prefix("sqlite:").unwrap();
    let (away, other) = (format!("{file}.away"), format!("{file}.other"));
    std::fs::write(&other, "another file").unwrap();
    std::fs::rename(file, &away).unwrap();
    for _ in 0..2 {
        let refused = h.sales.leads().update(change(&lead, "during")).await;
        assert_unavailable(&refused.unwrap_err());
        let refused = crate::harness::sign_in(h.channel(), "sales", crate::harness::PASSWORD).await;
        assert_unavailable(&refused.unwrap_err());
        crate::harness::eventually("not serving", async || health(&h, "").await == 2).await;
        std::fs::rename(&other, file).unwrap_or_default();
    }
    std::fs::rename(&away, file).unwrap();
    until_it_works(&h.sales, &lead).await;
    crate::harness::eventually("serving", async || health(&h, "").await == 1).await;
}

/// The reported health of a service.
async fn health(h: &Harness, service: &str) -> i32 {
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let answer = HealthClient::new(h.channel()).check(request).await.unwrap();
    answer.into_inner().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_at_once_and_its_health_still_answers() {
    let h = Harness::start_with(Backend::Postgres, |settings| settings.limits.max_calls = 1).await;
    let lead = h.sales.create_lead("Full").await;
    let held = h.hold_changes().await;

    let (sales, request) = (h.sales.clone(), change(&lead, "1"));
    let waiting = tokio::spawn(async move { sales.leads().update(request).await });
    let waiting_sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let begun = Instant::now();
    while h.count(waiting_sql).await < 1 {
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "the change does not wait"
        );
    }
    let get = leadsmith_proto::GetLeadRequest {
        id: lead.id.clone(),
    };
    let refused = h.viewer.leads().get(get).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "SERVER_OVERLOADED");
    assert!(refused.get_error_details().retry_info().is_some());
    let health = HealthClient::new(h.channel())
        .check(HealthCheckRequest::default())
        .await;
    assert_eq!(health.unwrap().into_inner().status, 1);

    held.release().await;
    waiting.await.unwrap().unwrap();
}

//! Stopping: calls in progress complete, and idle connections do not delay the end.

use std::time::{Duration, Instant};

use leadsmith_proto::Lead;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Backend, Harness, update};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_and_a_watch_do_not_hold_the_server() {
    let h = Harness::start_with(Backend::Sqlite, |settings| {
        settings.limits.drain = Duration::from_secs(60);
    })
    .await;
    let _silent = tokio::net::TcpStream::connect(h.server.address)
        .await
        .unwrap();
    let mut health = HealthClient::new(h.channel());
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1, "serving");

    let begun = Instant::now();
    h.server.stop().await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it waited for the drain"
    );
    assert_eq!(
        watch.message().await.unwrap().unwrap().status,
        2,
        "a client that watches is notified"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_is_finished_first() {
    let h = Harness::start(Backend::Postgres).await;
    let lead = h.sales.create_lead("Last").await;
    let held = h.hold_changes().await;
    let change = Lead {
        id: lead.id.clone(),
        phone: "1".into(),
        ..Lead::default()
    };
    let sales = h.sales.clone();
    let call = tokio::spawn(async move { sales.leads().update(update(change, &["phone"])).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let begun = Instant::now();
    while h.count(waiting).await < 1 {
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "the call does not wait"
        );
    }

    let address = h.server.address;
    let stopping = tokio::spawn(h.server.stop());
    // When the server accepts no new connections, it has started to stop.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "it does not begin to stop"
        );
    }
    held.release().await;
    assert_eq!(
        call.await
            .unwrap()
            .unwrap()
            .into_inner()
            .lead
            .unwrap()
            .phone,
        "1"
    );
    stopping.await.unwrap().unwrap();
}

//! A server that starts, responds to health checks, and stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leadsmith_proto as proto;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::SECRET;
use crate::harness::{self, Backend, Caller, PASSWORD, TestDatabase, sign_in};
use crate::program::leadsmith;
use crate::{on_both, on_both_empty};

#[tokio::test]
async fn a_log_for_machines_is_one_object_a_line() {
    let run = leadsmith("migrate up").env("LEADSMITH_LOG_FORMAT", "json");
    let ended = run.run().await;
    assert!(ended.err.contains("the schema is up to date"), "{ended:?}");
    for line in ended.err.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        for field in ["timestamp", "level", "target", "message"] {
            assert!(object[field].is_string(), "{line}");
        }
    }
    ended.done();
}

#[tokio::test]
async fn a_database_that_is_away_or_none_is_refused() {
    let server = std::env::var("LEADSMITH_TEST_POSTGRES_URL").unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    for url in [
        format!("postgres://dev:{SECRET}@127.0.0.1:1/postgres"),
        format!("{base}/there_is_no_such_database"),
    ] {
        let ended = leadsmith("serve").database(&url).quiet().run().await;
        ended.refused(" cannot be opened (");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter.txt");
    std::fs::write(&file, "Dear Ada, this is no database. ".repeat(100)).unwrap();
    let before = std::fs::read(&file).unwrap();
    let url = format!("sqlite:{}", file.display());
    let ended = leadsmith("serve").database(&url).quiet().run().await;
    ended.refused("letter.txt cannot be opened (file is not a database)");
    assert_eq!(std::fs::read(&file).unwrap(), before, "it is left as it is");
}

#[tokio::test]
async fn postgres_that_may_lose_an_answered_change_is_refused() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let (_, name) = database.url.rsplit_once('/').unwrap();
    let db = database.connect().await;
    let set = |value: &str| format!("ALTER DATABASE {name} SET synchronous_commit = {value}");
    db.execute_unprepared(&set("off")).await.unwrap();
    let serve = || leadsmith("serve").database(&database.url).quiet();
    serve().run().await.refused("synchronous_commit = off");
    db.execute_unprepared(&set("on")).await.unwrap();
    leadsmith("serve").database(&database.url).serve().await;
}

on_both! {
    async fn healthcheck_tells_whether_a_server_serves(h: Harness) {
        let address = h.server.address.to_string();
        let check = |listen: &str| leadsmith("healthcheck").env("LEADSMITH_LISTEN", listen).quiet();
        assert_eq!(check(&address).run().await.done(), "SERVING\n");
        // A server in a container listens on all addresses, and its health check gets the same setting.
        let everywhere = format!("0.0.0.0:{}", h.server.address.port());
        assert_eq!(check(&everywhere).run().await.done(), "SERVING\n");

        let taken = leadsmith("serve")
            .database(&h.database.url)
            .env("LEADSMITH_LISTEN", &address)
            .quiet();
        taken.run().await.refused(&format!("cannot listen on {address}"));

        h.server.stop().await.unwrap();
        check(&address).run().await.refused(&format!("the health check of {address} failed"));
        // A process that accepts connections but does not respond is not healthy either.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        check(&address).run().await.refused(&format!("the health check of {address} failed"));
    }
}

/// Blocks all writes to leads until [`release`].
async fn hold(database: &TestDatabase) -> DatabaseConnection {
    let mut options = ConnectOptions::new(&database.url);
    options
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None);
    let db = Database::connect(options).await.unwrap();
    let sql = match database.backend {
        Backend::Sqlite => "BEGIN IMMEDIATE",
        Backend::Postgres => "BEGIN; LOCK TABLE leads IN EXCLUSIVE MODE",
    };
    db.execute_unprepared(sql).await.unwrap();
    db
}

async fn release(db: DatabaseConnection) {
    db.execute_unprepared("ROLLBACK").await.unwrap();
    db.close().await.unwrap();
}

const CALLS: usize = 12;

on_both_empty! {
    async fn a_signal_ends_the_server_at_once_when_there_is_nothing_to_do(database: TestDatabase) {
        let mut server = leadsmith("serve").database(&database.url).serve().await;
        // A client is connected but has no call in progress.
        let channel = harness::channel(server.address);
        let request = HealthCheckRequest::default();
        HealthClient::new(channel.clone()).check(request).await.unwrap();
        server.terminate();
        let status = server.ended(Duration::from_secs(5)).await;
        assert_eq!(status.code(), Some(0), "{}", server.log());
        assert!(server.log().contains("stopped"), "{}", server.log());
        drop(channel);
    }

    async fn calls_under_way_when_the_signal_comes_all_succeed(database: TestDatabase) {
        let mut server = leadsmith("serve").database(&database.url).serve().await;
        let channel = harness::channel(server.address);
        leadsmith("operator create --username ada --role SALES")
            .database(&database.url)
            .input(PASSWORD)
            .run()
            .await
            .done();
        let token = sign_in(channel.clone(), "ada", PASSWORD).await.unwrap();
        let ada = Caller { id: uuid::Uuid::nil(), token, channel: channel.clone() };

        let held = hold(&database).await;
        let begun = Arc::new(AtomicUsize::new(0));
        let mut calls = JoinSet::new();
        for n in 0..CALLS {
            let (ada, begun) = (ada.clone(), Arc::clone(&begun));
            calls.spawn(async move {
                begun.fetch_add(1, Ordering::SeqCst);
                ada.create(proto::Lead { last_name: format!("L{n}"), ..Default::default() }).await
            });
        }
        for _ in 0..500 {
            if begun.load(Ordering::SeqCst) == CALLS {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(begun.load(Ordering::SeqCst), CALLS);
        // On the same connection, so it arrives after the calls.
        let request = HealthCheckRequest::default();
        HealthClient::new(channel).check(request).await.unwrap();
        assert!(calls.try_join_next().is_none(), "they wait");

        server.terminate();
        for _ in 0..500 {
            if server.log().contains("stopping") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(server.log().contains("stopping"), "{}", server.log());
        release(held).await;
        for answer in calls.join_all().await {
            let lead = answer.unwrap();
            assert!(lead.last_name.starts_with('L'));
        }
        let status = server.ended(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(0), "{}", server.log());
        let db = database.connect().await;
        let leads = harness::count(&db, "SELECT count(*) FROM leads").await;
        assert_eq!(leads, i64::try_from(CALLS).unwrap());
    }
}

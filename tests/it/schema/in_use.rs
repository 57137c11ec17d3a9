//! No migration is reverted under a server, and nothing is reverted without having been asked for.

use std::time::Duration;

use leadsmith::db::migrate;
use sea_orm::ConnectionTrait;

use super::{MIGRATIONS, applied, up};
use crate::harness::{Backend, TestDatabase, count, eventually};
use crate::on_both_empty;
use crate::program::{leadsmith, leadsmith_on_a_terminal};

/// The sessions that hold the lock of a server.
const HOLDERS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' \
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

on_both_empty! {
    async fn nothing_is_reverted_while_a_server_runs(database: TestDatabase) {
        let down = || leadsmith("migrate down --yes").quiet().database(&database.url).run();
        let why = match database.backend {
            Backend::Sqlite => "another process uses",
            Backend::Postgres => "servers are running on this database",
        };
        let mut servers = vec![leadsmith("serve").database(&database.url).serve().await];
        if database.backend == Backend::Postgres {
            servers.push(leadsmith("serve --migrate false").database(&database.url).serve().await);
        }
        while let Some(mut server) = servers.pop() {
            down().await.refused(why);
            // Other commands may run beside a server.
            leadsmith("operator list").database(&database.url).run().await.done();
            leadsmith("migrate up").database(&database.url).run().await.done();
            assert_eq!(applied(&database).await, MIGRATIONS as usize);
            server.terminate();
            server.ended(Duration::from_secs(10)).await;
        }
        down().await.done();
        assert_eq!(applied(&database).await, MIGRATIONS as usize - 1);
        let mut killed = leadsmith("serve").database(&database.url).serve().await;
        down().await.refused(why);
        killed.kill();
        if database.backend == Backend::Postgres {
            let db = database.connect().await;
            eventually("no holder", async || count(&db, HOLDERS).await == 0).await;
        }
        down().await.done();
    }

    async fn reverting_is_confirmed(database: TestDatabase) {
        up(&database).await.unwrap();
        let all = MIGRATIONS as usize;
        let steps = migrate::status(&database.url.clone().into()).await.unwrap();
        let [newest, before] = [1, 2].map(|last| steps[all - last].name.clone());
        let ended = leadsmith("migrate down").quiet().database(&database.url).run().await;
        ended.refused("add --yes");
        ended.refused(&format!("This reverts {newest} on "));
        for answer in ["no\n", "\n", "y\n", "YES\n", ""] {
            let run = leadsmith_on_a_terminal("migrate down").quiet().database(&database.url);
            let ended = run.input(answer).run().await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.out.contains("nothing was changed"), "{ended:?}");
            assert_eq!(applied(&database).await, all, "{answer:?}");
        }
        let run = leadsmith_on_a_terminal("migrate down --steps 2").quiet().database(&database.url);
        let ended = run.input("yes\n").run().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let question = format!("This reverts {newest}, {before} on ");
        assert!(ended.out.contains(&question), "{ended:?}");
        assert_eq!(applied(&database).await, all - 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_holds_the_schema_again_after_it_lost_its_connections() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let _server = leadsmith("serve").database(&database.url).serve().await;
    let db = database.connect().await;
    let before = "SELECT pid::bigint FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' \
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let before = count(&db, before).await;
    db.close().await.unwrap();
    database.end_sessions().await;
    let db = database.connect().await;
    let others = format!("{HOLDERS} AND pid <> {before}");
    eventually("held again", async || count(&db, &others).await == 1).await;
    let ended = leadsmith("migrate down --yes")
        .quiet()
        .database(&database.url)
        .run()
        .await;
    ended.refused("servers are running on this database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_when_reverting_has_ended() {
    let database = TestDatabase::create(Backend::Postgres).await;
    up(&database).await.unwrap();
    let reverting = database.connect().await;
    let lock = "SELECT pg_advisory_lock(1818583396, hashtext('public'))";
    reverting.execute_unprepared(lock).await.unwrap();
    let server = leadsmith("serve").database(&database.url).serve();
    let mut server = std::pin::pin!(server);
    let early = tokio::time::timeout(Duration::from_secs(2), &mut server).await;
    assert!(
        early.is_err(),
        "it serves although migrations are being reverted"
    );
    reverting.close().await.unwrap();
    server.await;
}

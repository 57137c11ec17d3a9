//! The schema when the program starts: on a new database, with pending migrations, and with a schema that
//! is newer than the program.

use std::collections::BTreeSet;

use sea_orm::ConnectionTrait;
use tokio::task::JoinSet;

use super::{MIGRATIONS, down, schema, tables, up};
use crate::harness::{Backend, count};
use crate::on_both_empty;
use crate::program::leadsmith;

on_both_empty! {
    async fn several_that_start_at_once_on_a_new_database_serve(database: TestDatabase) {
        let mut starts = JoinSet::new();
        for _ in 0..4 {
            starts.spawn(leadsmith("serve").database(&database.url).serve());
        }
        let (mut serving, mut ended) = (Vec::new(), Vec::new());
        while let Some(start) = starts.join_next().await {
            match start {
                Ok(server) => serving.push(server),
                Err(error) => ended.push(*error.into_panic().downcast::<String>().unwrap()),
            }
        }
        // One SQLite file has one server.
        let expected = if database.backend == Backend::Sqlite { 1 } else { 4 };
        assert_eq!(serving.len(), expected, "{ended:?}");
        assert!(ended.iter().all(|why| why.contains("another server uses the database")), "{ended:?}");
        let db = database.connect().await;
        assert_eq!(count(&db, "SELECT count(*) FROM seaql_migrations").await, i64::from(MIGRATIONS));
        assert_eq!(count(&db, "SELECT count(*) FROM server_keys").await, 1);
    }

    async fn a_schema_newer_than_the_program_is_refused(database: TestDatabase) {
        up(&database).await.unwrap();
        let db = database.connect().await;
        db.execute_unprepared("INSERT INTO seaql_migrations VALUES ('m9999_future', 0)")
            .await
            .unwrap();
        let before = schema(&db).await;
        for command in [
            "serve",
            "serve --migrate false",
            "migrate up",
            "migrate status",
            "migrate down --yes",
            "operator list",
        ] {
            let ended = leadsmith(command).quiet().database(&database.url).run().await;
            ended.refused("newer than this program");
            assert!(ended.err.contains("m9999_future"), "{ended:?}");
            assert_eq!(ended.out, "", "{command}");
        }
        assert_eq!(schema(&db).await, before);
        assert_eq!(count(&db, "SELECT count(*) FROM seaql_migrations").await, i64::from(MIGRATIONS) + 1);
    }

    async fn serving_without_migrating_needs_a_whole_schema(database: TestDatabase) {
        let serve = || leadsmith("serve --migrate false").database(&database.url);
        if database.backend == Backend::Sqlite {
            serve().quiet().run().await.refused("there is no database file");
            std::fs::write(database.folder.path().join("test.db"), "").unwrap();
        }
        serve().quiet().run().await.refused(&format!("lacks {MIGRATIONS} migrations: run leadsmith migrate up"));
        let db = database.connect().await;
        assert_eq!(tables(&db).await, BTreeSet::new());
        db.close().await.unwrap();
        up(&database).await.unwrap();
        down(&database, 1).await.unwrap();
        serve().quiet().run().await.refused("lacks 1 migration");
        up(&database).await.unwrap();
        serve().serve().await;
    }
}

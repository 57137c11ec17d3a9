//! What the database says about programs that do not know its newest migrations.

use std::collections::BTreeSet;

use leadsmith::db::migrate;
use sea_orm::ConnectionTrait;

use super::{MIGRATIONS, down, schema, texts, up};
use crate::harness::TestDatabase;
use crate::on_both_empty;
use crate::program::leadsmith;

/// The first migration whose compatibility the database knows.
const FIRST: &str = "m0016_compatibility";

/// Adds a migration that this program does not know, and what the database says about it: `requires` in SQL.
async fn migrate_further(database: &TestDatabase, name: &str, requires: &str) {
    let db = database.connect().await;
    for sql in [
        format!("INSERT INTO seaql_migrations VALUES ('{name}', 0)"),
        format!("INSERT INTO schema_compatibility VALUES ('{name}', {requires})"),
    ] {
        db.execute_unprepared(&sql).await.unwrap();
    }
    db.close().await.unwrap();
}

on_both_empty! {
    async fn every_migration_says_who_works_with_it(database: TestDatabase) {
        up(&database).await.unwrap();
        let steps = migrate::status(&database.url.clone().into()).await.unwrap();
        let known: BTreeSet<String> = steps.into_iter().map(|step| step.name).collect();
        let since: BTreeSet<String> =
            known.iter().filter(|name| name.as_str() >= FIRST).cloned().collect();
        let db = database.connect().await;
        let marked = texts(&db, "SELECT migration FROM schema_compatibility").await;
        assert_eq!(marked, since, "add it to migrations/src/lib.rs by expand(...) or contract(...)");
        let required = "SELECT requires FROM schema_compatibility WHERE requires IS NOT NULL";
        assert!(texts(&db, required).await.is_subset(&known));
        db.close().await.unwrap();

        // What is reverted is not described any more.
        down(&database, 1).await.unwrap();
        let db = database.connect().await;
        let left = texts(&db, "SELECT migration FROM schema_compatibility").await;
        assert_eq!(left.len(), since.len() - 1);
    }

    async fn a_program_works_on_a_schema_that_newer_ones_have_expanded(database: TestDatabase) {
        up(&database).await.unwrap();
        migrate_further(&database, "m9998_expansion", "NULL").await;
        // It removes what was replaced by a migration that this program knows.
        migrate_further(&database, "m9999_contraction", &format!("'{FIRST}'")).await;
        let db = database.connect().await;
        let before = schema(&db).await;
        db.close().await.unwrap();

        let run = |command: &str| leadsmith(command).quiet().database(&database.url);
        for command in ["serve", "serve --migrate false"] {
            let mut server = leadsmith(command).database(&database.url).serve().await;
            assert!(server.log().contains("m9998_expansion, m9999_contraction"), "{}", server.log());
            server.kill();
        }
        run("migrate up").run().await.done();
        run("operator list").run().await.done();
        let listed = run("migrate status").run().await.done();
        assert!(listed.ends_with("newer    m9998_expansion\nnewer    m9999_contraction\n"), "{listed}");
        assert_eq!(listed.matches("applied  m").count(), MIGRATIONS as usize, "{listed}");
        // It cannot revert what it does not know, and applies nothing beside it.
        run("migrate down --yes").run().await.refused("newer than this program (it has the migration m9998");

        let db = database.connect().await;
        assert_eq!(schema(&db).await, before);
        db.execute_unprepared("DELETE FROM seaql_migrations WHERE version = 'm0017_identities'")
            .await
            .unwrap();
        db.close().await.unwrap();
        run("migrate up").run().await.refused("newer than this program");
        run("serve --migrate false").run().await.refused("lacks 1 migration");
    }

    async fn a_program_refuses_a_schema_that_newer_ones_have_contracted(database: TestDatabase) {
        up(&database).await.unwrap();
        migrate_further(&database, "m9998_expansion", "NULL").await;
        migrate_further(&database, "m9999_contraction", "'m9998_expansion'").await;
        for command in ["serve", "serve --migrate false", "migrate up", "migrate status", "operator list"] {
            let ended = leadsmith(command).quiet().database(&database.url).run().await;
            ended.refused("newer than this program (it has the migration m9999_contraction)");
        }
    }
}

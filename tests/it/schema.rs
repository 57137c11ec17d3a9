//! The database schema: the migrations and the entities. This file has what the tests share: the
//! migrations as functions, and queries of the stored schema.

mod compatibility;
mod entities;
mod in_use;
mod keys;
mod migrations;
mod startup;

use std::collections::BTreeSet;

use leadsmith::config::StartupError;
use leadsmith::db::migrate::{self, StepState};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::harness::{Backend, TestDatabase, connect};

const MIGRATIONS: u32 = 24;

/// The first column of every row of a query, as text.
async fn texts(db: &DatabaseConnection, sql: &str) -> BTreeSet<String> {
    let statement = Statement::from_string(db.get_database_backend(), sql.to_owned());
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| row.try_get_by_index(0).unwrap())
        .collect()
}

async fn tables(db: &DatabaseConnection) -> BTreeSet<String> {
    texts(
        db,
        if db.get_database_backend() == DbBackend::Postgres {
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'"
        } else {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        },
    )
    .await
}

/// Every object of the schema as a line of text.
async fn schema(db: &DatabaseConnection) -> BTreeSet<String> {
    texts(
        db,
        if db.get_database_backend() == DbBackend::Postgres {
            "SELECT format('column %s.%s %s %s %s %s', table_name, column_name, udt_name, \
               is_nullable, collation_name, column_default) \
             FROM information_schema.columns WHERE table_schema = 'public' \
             UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' \
             UNION ALL SELECT format('constraint %s %s', conrelid::regclass, \
               pg_get_constraintdef(oid)) FROM pg_constraint \
             WHERE connamespace = 'public'::regnamespace \
             UNION ALL SELECT 'sequence ' || sequence_name FROM information_schema.sequences"
        } else {
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master \
             WHERE name <> 'sqlite_sequence'"
        },
    )
    .await
}

/// The number of applied migrations, which must be the first ones.
async fn applied(database: &TestDatabase) -> usize {
    let steps = migrate::status(&database.url.clone().into()).await.unwrap();
    assert_eq!(steps.len(), MIGRATIONS as usize);
    let applied = steps
        .iter()
        .take_while(|step| step.state == StepState::Applied)
        .count();
    assert!(
        steps[applied..]
            .iter()
            .all(|step| step.state == StepState::Pending)
    );
    applied
}

/// A connection to a database that may have no file yet.
async fn connect_to_new(database: &TestDatabase) -> DatabaseConnection {
    let url = match database.backend {
        Backend::Sqlite => format!("{}?mode=rwc", database.url),
        Backend::Postgres => database.url.clone(),
    };
    connect(&url).await.unwrap()
}

async fn up(database: &TestDatabase) -> Result<(), StartupError> {
    migrate::up(&database.url.clone().into()).await
}

async fn down(database: &TestDatabase, steps: u32) -> Result<(), StartupError> {
    migrate::down(&database.url.clone().into(), steps).await
}

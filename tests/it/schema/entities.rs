//! The entities define the same tables, columns and keys as the migrations.

use std::collections::BTreeSet;

use leadsmith::db::entities::{
    action_run, api_key, claimable_action, event, history, idempotency_record, idempotency_root,
    lead, operator, opportunity, order, order_queue, password_attempt, server_key, service_account,
    session,
};
use sea_orm::sea_query::ColumnType;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, IdenStatic, Iterable,
    PrimaryKeyToColumn, Statement,
};

use super::{tables, texts, up};
use crate::harness::Backend;
use crate::on_both_empty;

/// A table as its entity defines it.
struct Expected {
    name: String,
    columns: BTreeSet<(String, String, bool)>,
    key: BTreeSet<String>,
}

fn expected<E: EntityTrait>(entity: E, backend: DbBackend) -> Expected {
    let columns = E::Column::iter().map(|column| {
        let definition = column.def();
        let kind = spelled(definition.get_column_type(), backend);
        (
            column.as_str().to_owned(),
            kind.to_owned(),
            definition.is_null(),
        )
    });
    let key = E::PrimaryKey::iter().map(|key| key.into_column().as_str().to_owned());
    Expected {
        name: entity.table_name().to_owned(),
        columns: columns.collect(),
        key: key.collect(),
    }
}

fn entities(backend: DbBackend) -> Vec<Expected> {
    vec![
        expected(action_run::Entity, backend),
        expected(api_key::Entity, backend),
        expected(claimable_action::Entity, backend),
        expected(event::Entity, backend),
        expected(history::Entity, backend),
        expected(idempotency_record::Entity, backend),
        expected(idempotency_root::Entity, backend),
        expected(lead::Entity, backend),
        expected(operator::Entity, backend),
        expected(opportunity::Entity, backend),
        expected(order::Entity, backend),
        expected(order_queue::Entity, backend),
        expected(password_attempt::Entity, backend),
        expected(server_key::Entity, backend),
        expected(service_account::Entity, backend),
        expected(session::Entity, backend),
    ]
}

/// The name of a column type in a database.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a new type fails here until it is added"
)]
fn spelled(kind: &ColumnType, backend: DbBackend) -> &'static str {
    let (postgres, sqlite) = match kind {
        ColumnType::Uuid => ("uuid", "uuid_text"),
        ColumnType::String(_) | ColumnType::Text => ("text", "text"),
        ColumnType::BigInteger => ("int8", "integer"),
        ColumnType::Integer => ("int4", "integer"),
        ColumnType::Boolean => ("bool", "boolean"),
        ColumnType::TimestampWithTimeZone => ("timestamptz", "timestamp_with_timezone_text"),
        ColumnType::JsonBinary => ("jsonb", "jsonb_text"),
        ColumnType::VarBinary(_) | ColumnType::Binary(_) | ColumnType::Blob => ("bytea", "blob(1)"),
        ColumnType::Date => ("date", "date_text"),
        other => panic!("no column had this type before: {other:?}"),
    };
    if backend == DbBackend::Postgres {
        postgres
    } else {
        sqlite
    }
}

async fn columns(db: &DatabaseConnection, table: &str) -> BTreeSet<(String, String, bool)> {
    let sql = if db.get_database_backend() == DbBackend::Postgres {
        format!(
            "SELECT column_name::text, udt_name::text, \
             CASE is_nullable WHEN 'YES' THEN 1 ELSE 0 END \
             FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = '{table}'"
        )
    } else {
        format!(
            "SELECT name, lower(type), CASE \"notnull\" WHEN 0 THEN 1 ELSE 0 END \
             FROM pragma_table_info('{table}')"
        )
    };
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| {
            let null: i32 = row.try_get_by_index(2).unwrap();
            let name = row.try_get_by_index(0).unwrap();
            (name, row.try_get_by_index(1).unwrap(), null == 1)
        })
        .collect()
}

/// The sets of columns whose values are unique in a table.
async fn unique_keys(db: &DatabaseConnection, table: &str) -> Vec<BTreeSet<String>> {
    let sql = if db.get_database_backend() == DbBackend::Postgres {
        format!(
            "SELECT string_agg(a.attname, ',') FROM pg_index i \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
             WHERE i.indrelid = 'public.{table}'::regclass AND i.indisunique \
             AND i.indpred IS NULL GROUP BY i.indexrelid"
        )
    } else {
        format!(
            "SELECT group_concat(i.name) FROM pragma_index_list('{table}') l, \
             pragma_index_info(l.name) i WHERE l.\"unique\" = 1 AND l.partial = 0 GROUP BY l.name \
             UNION SELECT name FROM pragma_table_info('{table}') WHERE pk = 1 AND lower(type) = 'integer'"
        )
    };
    let split = |text: &String| text.split(',').map(str::to_owned).collect();
    texts(db, &sql).await.iter().map(split).collect()
}

on_both_empty! {
    async fn the_entities_are_what_the_migrations_make(database: TestDatabase) {
        up(&database).await.unwrap();
        let db = database.connect().await;
        let entities = entities(db.get_database_backend());
        let mut named: BTreeSet<String> = entities.iter().map(|e| e.name.clone()).collect();
        let without = [
            "seaql_migrations",
            "schema_compatibility",
            "lead_search",
            "event_log",
        ];
        named.extend(without.map(str::to_owned));
        if database.backend == Backend::Sqlite {
            named.extend(["search_index".to_owned(), "search_pending".to_owned()]);
        }
        assert_eq!(tables(&db).await, named, "every table has an entity, and every entity one");
        for entity in entities {
            let name = &entity.name;
            assert_eq!(columns(&db, name).await, entity.columns, "{name}");
            let keys = unique_keys(&db, name).await;
            assert!(keys.contains(&entity.key), "{name}: {:?} not in {keys:?}", entity.key);
        }
    }
}

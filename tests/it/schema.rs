//! The schema: what the migrations make is what the entities expect, and making it is safe.

use std::collections::BTreeSet;

use leadsmith::clock::Clock;
use leadsmith::config::Refusal;
use leadsmith::db::entities::{
    action_run, api_key, event, history, idempotency_record, lead, operator, opportunity, order,
    password_attempt, server_key, service_account, session,
};
use leadsmith::db::migrate;
use leadsmith::leads::model::email;
use leadsmith::{operators, server};
use sea_orm::sea_query::ColumnType;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, IdenStatic, Iterable,
    PrimaryKeyToColumn, Statement,
};
use tokio::task::JoinSet;

use crate::harness::{Backend, TestDatabase, connect, count};
use crate::on_both_empty;
use crate::program::{Ended, leadsmith};

const MIGRATIONS: u32 = 12;

/// A table as an entity has it.
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
        expected(event::Entity, backend),
        expected(history::Entity, backend),
        expected(idempotency_record::Entity, backend),
        expected(lead::Entity, backend),
        expected(operator::Entity, backend),
        expected(opportunity::Entity, backend),
        expected(order::Entity, backend),
        expected(password_attempt::Entity, backend),
        expected(server_key::Entity, backend),
        expected(service_account::Entity, backend),
        expected(session::Entity, backend),
    ]
}

/// What a database calls a type.
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

/// The sets of columns no two rows of a table can share.
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

/// Everything that makes up the schema, a line each.
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

/// How many migrations are applied; they must be the first ones.
async fn applied(database: &TestDatabase) -> usize {
    let steps = migrate::status(&database.url.clone().into()).await.unwrap();
    assert_eq!(steps.len(), MIGRATIONS as usize);
    let applied = steps.iter().take_while(|step| step.applied).count();
    assert!(steps[applied..].iter().all(|step| !step.applied));
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

async fn up(database: &TestDatabase) -> Result<(), Refusal> {
    migrate::up(&database.url.clone().into()).await
}

async fn down(database: &TestDatabase, steps: u32) -> Result<(), Refusal> {
    migrate::down(&database.url.clone().into(), steps).await
}

/// How many migrations there are since the one that computes keys again, itself among them.
const SINCE_KEYS: u32 = 2;

/// An id, as SQL.
fn id(db: &DatabaseConnection, number: usize) -> String {
    if db.get_database_backend() == DbBackend::Postgres {
        format!("'{}'", uuid::Uuid::from_u128(number as u128 + 1))
    } else {
        format!("x'{:032x}'", number + 1)
    }
}

/// A lead as it was stored before keys were computed again.
async fn insert_lead(db: &DatabaseConnection, number: usize, email: &str, key: &str) {
    let id = id(db, number);
    let sql = format!(
        "INSERT INTO leads (id, version, state, first_name, last_name, company, email, phone, fax, vat_id, \
         street, city, region, postal_code, country_code, language, owner_id, source, custom_fields, \
         last_name_key, company_key, email_key, create_time, update_time) VALUES ({id}, 1, 'OPEN', '', \
         'x', '', '{email}', '', '', '', '', '', '', '', '', '', '', '', '{{}}', 'x', '', '{key}', \
         '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00')"
    );
    db.execute_unprepared(&sql).await.unwrap();
}

/// An operator as they were stored before keys came in.
async fn insert_operator(db: &DatabaseConnection, number: usize, username: &str) {
    let id = id(db, number);
    let sql = format!(
        "INSERT INTO operators (id, username, display_name, role, password_hash, create_time, update_time) \
         VALUES ({id}, '{username}', '', 'SALES', '', '2026-01-01 00:00:00+00:00', \
         '2026-01-01 00:00:00+00:00')"
    );
    db.execute_unprepared(&sql).await.unwrap();
}

/// The program said no in one sentence.
fn refused(ended: &Ended, why: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(ended.err.starts_with("leadsmith: "), "{ended:?}");
    assert!(ended.err.contains(why), "{ended:?}");
}

/// What stands in the way of the last statement of each migration; none where it changes nothing in the
/// schema of this database.
fn obstacles(backend: Backend) -> [Option<&'static str>; MIGRATIONS as usize] {
    let on = |database: Backend, name| (backend == database).then_some(name);
    [
        Some("password_attempts_bucket"),
        on(Backend::Sqlite, "lead_search").or(Some("lead_search_trigrams")),
        Some("opportunities_owner"),
        Some("action_runs_order"),
        Some("idempotency_records_create_time"),
        Some("password_attempts_expire"),
        Some("service_accounts_certificate_name"),
        Some("action_runs_order_seq"),
        Some("leads_country"),
        on(Backend::Sqlite, "search_pending"),
        Some("operators_by_username_key"),
        Some("leads_owner_converted"),
    ]
}

on_both_empty! {
    async fn the_entities_are_what_the_migrations_make(database: TestDatabase) {
        up(&database).await.unwrap();
        let db = database.connect().await;
        let entities = entities(db.get_database_backend());
        let mut named: BTreeSet<String> = entities.iter().map(|e| e.name.clone()).collect();
        named.extend(["seaql_migrations".to_owned(), "lead_search".to_owned()]);
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

    async fn migrations_go_up_and_down_to_nothing_and_up_again(database: TestDatabase) {
        let db = connect_to_new(&database).await;
        assert_eq!(applied(&database).await, 0);
        up(&database).await.unwrap();
        assert_eq!(applied(&database).await, MIGRATIONS as usize);
        let whole = schema(&db).await;
        up(&database).await.expect("nothing left to do");
        assert_eq!(schema(&db).await, whole);
        for left in (0..MIGRATIONS as usize).rev() {
            down(&database, 1).await.unwrap();
            assert_eq!(applied(&database).await, left);
        }
        let left = tables(&db).await;
        assert_eq!(left, BTreeSet::from(["seaql_migrations".to_owned()]));
        up(&database).await.unwrap();
        assert_eq!(schema(&db).await, whole);
        down(&database, MIGRATIONS).await.unwrap();
        assert_eq!(tables(&db).await, left);
    }

    async fn a_migration_that_fails_leaves_nothing_behind(database: TestDatabase) {
        let db = connect_to_new(&database).await;
        for (before, obstacle) in obstacles(database.backend).into_iter().enumerate() {
            let Some(obstacle) = obstacle else { continue };
            db.execute_unprepared(&format!("CREATE TABLE {obstacle} (x integer)"))
                .await
                .unwrap();
            let refusal = up(&database).await.unwrap_err().to_string();
            assert!(refusal.contains("a migration failed and was rolled back"), "{refusal}");
            assert!(refusal.contains(obstacle), "{refusal}");
            assert_eq!(applied(&database).await, before, "{obstacle}");
            db.execute_unprepared(&format!("DROP TABLE {obstacle}")).await.unwrap();
            let left = schema(&db).await;

            // Without the obstacle it continues where it stopped.
            up(&database).await.unwrap();
            assert_eq!(applied(&database).await, MIGRATIONS as usize);
            down(&database, MIGRATIONS - u32::try_from(before).unwrap()).await.unwrap();
            assert_eq!(schema(&db).await, left, "{obstacle}");
            down(&database, u32::try_from(before).unwrap()).await.unwrap();
        }
    }

    async fn keys_of_what_is_there_are_made_anew(database: TestDatabase) {
        up(&database).await.unwrap();
        down(&database, SINCE_KEYS).await.unwrap();
        let db = database.connect().await;
        // More than are looked at together, and among them those whose keys differ.
        let odd = [
            ("J\u{30c}AN@example.com", "\u{1f0}an@example.com", "j\u{30c}an@example.com"),
            ("ada@bücher.example", "ada@xn--bcher-kva.example", "ada@bücher.example"),
            ("bob@XN--BCHER-KVA.example", "bob@bücher.example", "bob@xn--bcher-kva.example"),
            ("Strauß@example.com", "STRAUSS@example.com", "strauß@example.com"),
        ];
        for number in 0..1_200 {
            let plain = format!("é{number}@example.com");
            let (email, key) = match odd.get(number / 300).filter(|_| number % 300 == 299) {
                Some((email, _, key)) => ((*email).to_owned(), (*key).to_owned()),
                None => (plain.clone(), plain),
            };
            insert_lead(&db, number, &email, &key).await;
        }
        for (number, username) in ["jürgen", "strauß", "strauss"].iter().enumerate() {
            insert_operator(&db, number, username).await;
        }
        up(&database).await.unwrap();
        let keys = "SELECT username || '=' || coalesce(username_key, '') FROM operators";
        let expected = ["jürgen=jürgen", "strauß=strauss", "strauss="].map(str::to_owned);
        assert_eq!(texts(&db, keys).await, BTreeSet::from(expected));

        let server = server::start(&database.settings(), Clock::default()).await.unwrap();
        let desk = &server.desk;
        for username in ["strauss", "strauß", "JU\u{308}RGEN"] {
            let found = operators::find(&desk.db, username).await.unwrap();
            let expected = if username.starts_with('J') { "jürgen" } else { username };
            assert_eq!(found.username, expected);
        }
        for (email, spelled, key) in odd {
            let sql = format!("SELECT count(*) FROM leads WHERE email = '{email}' AND email_key = ");
            let now = email::key(spelled);
            assert_eq!(email::key(email), now);
            assert_eq!(count(&db, &format!("{sql}'{now}'")).await, 1, "{email}");
            assert_eq!(count(&db, &format!("{sql}'{key}'")).await, i64::from(key == now), "{email}");
        }
        server.stop().await.unwrap();
        down(&database, SINCE_KEYS).await.unwrap();
        for (email, _, key) in odd {
            let sql = format!("SELECT count(*) FROM leads WHERE email = '{email}' AND email_key = '{key}'");
            assert_eq!(count(&db, &sql).await, 1, "{email}");
        }
    }

    async fn several_that_migrate_at_once_do_it_once(database: TestDatabase) {
        let mut runs = JoinSet::new();
        for _ in 0..6 {
            runs.spawn(leadsmith("migrate up").quiet().database(&database.url).run());
        }
        for ended in runs.join_all().await {
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert_eq!(ended.out.matches("applied  m").count(), MIGRATIONS as usize, "{ended:?}");
            assert_eq!(ended.err, "");
        }
        let db = database.connect().await;
        assert_eq!(count(&db, "SELECT count(*) FROM seaql_migrations").await, i64::from(MIGRATIONS));
        let alone = TestDatabase::create(database.backend).await;
        up(&alone).await.unwrap();
        assert_eq!(schema(&db).await, schema(&alone.connect().await).await);
    }

    async fn several_that_start_at_once_on_a_new_database_all_serve(database: TestDatabase) {
        let mut starts = JoinSet::new();
        for _ in 0..4 {
            starts.spawn(leadsmith("serve").database(&database.url).serve());
        }
        let serving = starts.join_all().await;
        assert_eq!(serving.len(), 4);
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
            "migrate down",
            "operator list",
        ] {
            let ended = leadsmith(command).quiet().database(&database.url).run().await;
            refused(&ended, "newer than this program");
            assert!(ended.err.contains("m9999_future"), "{ended:?}");
            assert_eq!(ended.out, "", "{command}");
        }
        assert_eq!(schema(&db).await, before);
        assert_eq!(count(&db, "SELECT count(*) FROM seaql_migrations").await, i64::from(MIGRATIONS) + 1);
    }

    async fn serving_without_migrating_needs_a_whole_schema(database: TestDatabase) {
        let serve = || leadsmith("serve --migrate false").database(&database.url);
        if database.backend == Backend::Sqlite {
            refused(&serve().quiet().run().await, "there is no database file");
            std::fs::write(database.folder.path().join("test.db"), "").unwrap();
        }
        refused(&serve().quiet().run().await, &format!("lacks {MIGRATIONS} migrations: run leadsmith migrate up"));
        let db = database.connect().await;
        assert_eq!(tables(&db).await, BTreeSet::new());
        up(&database).await.unwrap();
        down(&database, 1).await.unwrap();
        refused(&serve().quiet().run().await, "lacks 1 migration");
        up(&database).await.unwrap();
        serve().serve().await;
    }
}

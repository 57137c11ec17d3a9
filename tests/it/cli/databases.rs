//! Commands on a database that does not exist, is not migrated, or belongs to another role.

use std::time::Duration;

use leadsmith_proto as proto;
use sea_orm::ConnectionTrait as _;
use uuid::Uuid;

use crate::harness::{Backend, Caller, PASSWORD, TestDatabase, channel, count, sign_in};
use crate::on_both_empty;
use crate::program::{Program, leadsmith};

/// Every command that uses a database, except `migrate up` and a server that migrates.
const COMMANDS: [&str; 13] = [
    "serve --migrate false",
    "migrate down",
    "operator create --username ada --role ADMIN",
    "operator list",
    "operator set-password --username ada",
    "operator disable --username ada",
    "operator unlock --username ada",
    "service-account create --name billing --role SALES",
    "service-account list",
    "service-account create-key --name billing",
    "service-account set-certificate --name billing",
    "service-account revoke-key --id 0190a5f2-0000-7000-8000-000000000001",
    "migrate status",
];

fn names(database: &TestDatabase) -> Vec<String> {
    let files = std::fs::read_dir(database.folder.path()).unwrap();
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

on_both_empty! {
    async fn no_command_creates_or_migrates_a_database(database: TestDatabase) {
        let run = |command: &str| {
            leadsmith(command).database(&database.url).quiet().input(PASSWORD).run()
        };
        if database.backend == Backend::Sqlite {
            for command in COMMANDS {
                let ended = run(command).await;
                ended.refused("there is no database file");
                ended.refused("leadsmith migrate up");
            }
            let backup = database.folder.path().join("backup.db");
            let ended = run(&format!("backup {}", backup.display())).await;
            ended.refused("there is no database file");
            assert_eq!(names(&database), Vec::<String>::new());
            std::fs::write(database.folder.path().join("test.db"), "").unwrap();
        }
        let pending = async |command: &str, migrations: usize| match command {
            "migrate status" => {
                let listed = run(command).await.done();
                assert_eq!(listed.matches("pending").count(), migrations, "{listed}");
            }
            "migrate down" => {}
            _ => {
                let why = format!("lacks {migrations} migrations: run leadsmith migrate up");
                run(command).await.refused(&why);
            }
        };
        let all = run("migrate status").await.done().lines().count();
        for command in COMMANDS {
            pending(command, all).await;
        }
        run("migrate down").await.refused("the database has 0 migrations");
        let db = database.connect().await;
        let tables = match database.backend {
            Backend::Sqlite => "SELECT count(*) FROM sqlite_master",
            Backend::Postgres => "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
        };
        assert_eq!(count(&db, tables).await, 0);
        db.close().await.unwrap();

        // An older schema is not changed either.
        run("migrate up").await.done();
        run("migrate down").await.done();
        for command in COMMANDS {
            pending(command, 1).await;
        }
        run("migrate up").await.done();
        run("operator create --username ada --role ADMIN").await.done();
        let steps = format!("migrate down --steps {}", all + 1);
        run(&steps).await.refused(&format!("the database has {all} migrations"));
        run("operator list").await.done();
    }
}

/// The database of another application, named by mistake.
#[tokio::test]
async fn a_foreign_sqlite_database_is_left_as_it_is() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let file = database.folder.path().join("test.db");
    let db = crate::harness::connect(&format!("{}?mode=rwc", database.url))
        .await
        .unwrap();
    db.execute_unprepared("CREATE TABLE x (y)").await.unwrap();
    db.close().await.unwrap();
    let before = std::fs::read(&file).unwrap();
    for command in COMMANDS {
        let run = leadsmith(command).database(&database.url).quiet();
        run.input(PASSWORD).run().await;
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(names(&database), ["test.db"]);
}

/// A role that may use existing objects but create none, as in a deployment in which another role migrates.
struct Restricted {
    name: String,
    url: String,
}

impl Restricted {
    async fn create(database: &TestDatabase) -> Self {
        let name = format!("it_{}", Uuid::now_v7().simple());
        let db = database.connect().await;
        db.execute_unprepared(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'restricted'; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}; \
             REVOKE INSERT, UPDATE, DELETE ON seaql_migrations FROM {name}; \
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}"
        ))
        .await
        .unwrap();
        db.close().await.unwrap();
        let (_, host) = database.url.rsplit_once('@').unwrap();
        let url = format!("postgres://{name}:restricted@{host}");
        Self { name, url }
    }

    fn run(&self, arguments: &str) -> Program {
        leadsmith(arguments).database(&self.url)
    }

    async fn drop(self, database: &TestDatabase) {
        let db = database.connect().await;
        let sql = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        db.execute_unprepared(&sql).await.unwrap();
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_use_the_tables_serves() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let owner = leadsmith("migrate up").database(&database.url);
    owner.run().await.done();
    let role = Restricted::create(&database).await;
    let create = role.run("operator create --username ada --role ADMIN");
    create.quiet().input(PASSWORD).run().await.done();
    role.run("migrate status").run().await.done();
    let mut server = role.run("serve --retention-interval 0.05").serve().await;
    let channel = channel(server.address);
    let token = sign_in(channel.clone(), "ada", PASSWORD).await.unwrap();
    let ada = Caller {
        id: Uuid::nil(),
        token,
        channel,
    };
    let lead = ada.create_lead("Lovelace").await;
    let change = proto::Lead {
        id: lead.id.clone(),
        phone: "1".into(),
        ..Default::default()
    };
    let update = crate::harness::update(change, &["phone"]);
    ada.leads().update(update).await.unwrap();
    let order = ada.create_order(&lead.id, Vec::new()).await;
    ada.run(&order.id, "provision-client").await.unwrap();
    ada.erase(&lead.id).await.unwrap();
    for _ in 0..200 {
        if server.log().contains("VACUUM") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = server.log();
    assert!(log.contains("does not own the tables"), "{log}");
    server.terminate();
    server.ended(Duration::from_secs(10)).await;
    for word in ["denied", "ERROR", "not deleted yet"] {
        assert!(!server.log().contains(word), "{}", server.log());
    }
    role.drop(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_migrate_is_told_who_may() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let owner = |command: &str| leadsmith(command).database(&database.url).run();
    owner("migrate up").await.done();
    let role = Restricted::create(&database).await;
    owner("migrate down").await.done();
    for command in ["serve", "migrate up"] {
        let ended = role.run(command).quiet().run().await;
        ended.refused("as the role that owns the tables");
    }
    let ended = role.run("serve --migrate false").quiet().run().await;
    ended.refused("lacks 1 migrations: run leadsmith migrate up");
    role.drop(&database).await;
}

//! Commands on a database that does not exist or is not migrated.

use sea_orm::ConnectionTrait as _;

use crate::harness::{Backend, PASSWORD, TestDatabase, count};
use crate::on_both_empty;
use crate::program::leadsmith;

/// Every command that uses a database, except `migrate up` and a server that migrates.
const COMMANDS: [&str; 17] = [
    "serve --migrate false",
    "migrate down --yes",
    "operator create --username ada --role ADMIN",
    "operator list",
    "operator set-password --username ada",
    "operator set-role --username ada --role SALES",
    "operator disable --username ada",
    "operator enable --username ada",
    "operator unlock --username ada",
    "service-account create --name billing --role SALES",
    "service-account list",
    "service-account create-key --name billing",
    "service-account set-certificate --name billing",
    "service-account disable --name billing",
    "service-account enable --name billing",
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
            "migrate down --yes" => {}
            _ => {
                let why = format!("lacks {migrations} migrations: run leadsmith migrate up");
                run(command).await.refused(&why);
            }
        };
        let all = run("migrate status").await.done().lines().count();
        for command in COMMANDS {
            pending(command, all).await;
        }
        run("migrate down --yes").await.refused("the database has 0 migrations");
        let db = database.connect().await;
        let tables = match database.backend {
            Backend::Sqlite => "SELECT count(*) FROM sqlite_master",
            Backend::Postgres => "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
        };
        assert_eq!(count(&db, tables).await, 0);
        db.close().await.unwrap();

        // An older schema is not changed either.
        run("migrate up").await.done();
        run("migrate down --yes").await.done();
        for command in COMMANDS {
            pending(command, 1).await;
        }
        run("migrate up").await.done();
        run("operator create --username ada --role ADMIN").await.done();
        let steps = format!("migrate down --yes --steps {}", all + 1);
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

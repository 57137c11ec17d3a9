//! Backup and restore of SQLite while it is written: the backup is complete, and a restore never overwrites a
//! database in use.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sea_orm::{ConnectionTrait, Statement};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::harness::{Backend, Harness, PASSWORD, channel, connect, count, eventually, sign_in};
use crate::on_both_empty;
use crate::program::{Ended, leadsmith};

async fn backup(arguments: &str, file: &Path, url: &str) -> Ended {
    let arguments = format!("backup {arguments} {}", file.display());
    leadsmith(&arguments).quiet().database(url).run().await
}

async fn restore(arguments: &str, file: &Path, url: &str) -> Ended {
    let arguments = format!("restore {arguments} {}", file.display());
    leadsmith(&arguments).quiet().database(url).run().await
}

fn refused(ended: &Ended, why: &str) {
    ended.refused(why);
}

fn url(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

fn names(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A backup of one lead, in its own folder.
async fn backed_up(h: &Harness) -> (tempfile::TempDir, PathBuf) {
    h.sales.create_lead("Lovelace").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    let ended = backup("", &file, &h.database.url).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    (folder, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_writes_is_a_consistent_prefix() {
    let h = Harness::start(Backend::Sqlite).await;
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (caller, acknowledged) = (h.sales.clone(), acknowledged.clone());
        writers.spawn(async move {
            for round in 0..100_000 {
                let lead = caller.create_lead(&format!("{writer}-{round}")).await;
                acknowledged.lock().await.insert(lead.id.clone());
                caller.deactivate(&lead.id).await.unwrap();
            }
        });
    }
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        eventually("there is something to lose", async || {
            acknowledged.lock().await.len() > 50 * (round + 1)
        })
        .await;
        let before = acknowledged.lock().await.clone();
        let file = folder.path().join("backup.db");
        let ended = backup("--force", &file, &h.database.url).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");

        let restored = folder.path().join(format!("restored-{round}.db"));
        let again = restore("", &file, &url(&restored)).await;
        assert_eq!(again.code, Some(0), "{again:?}");
        let told = |out: &str| out.split_once(": ").unwrap().1.to_owned();
        assert_eq!(told(&ended.out), told(&again.out), "both tell the same");

        let db = connect(&url(&restored)).await.unwrap();
        let leads = count(&db, "SELECT count(*) FROM leads").await;
        let last = count(&db, "SELECT max(seq) FROM events").await;
        let bytes = fs::metadata(&file).unwrap().len();
        let expected = format!("{bytes} bytes, {leads} leads, up to event {last}\n");
        assert_eq!(told(&ended.out), expected);
        for sql in [
            "SELECT count(*) FROM events",
            "SELECT count(*) FROM history",
            "SELECT (SELECT sum(version) FROM leads) + (SELECT sum(version) FROM operators)",
        ] {
            assert_eq!(count(&db, sql).await, last, "{sql}");
        }
        let sql = "SELECT lower(hex(id)) FROM leads";
        let statement = Statement::from_string(db.get_database_backend(), sql);
        let rows = db.query_all_raw(statement).await.unwrap();
        let there: BTreeSet<String> = rows
            .iter()
            .map(|row| row.try_get_by_index(0).unwrap())
            .collect();
        let missing: Vec<_> = before
            .iter()
            .filter(|id| !there.contains(&id.replace('-', "")))
            .collect();
        assert_eq!(
            missing,
            Vec::<&String>::new(),
            "acknowledged before the backup began"
        );
        db.close().await.unwrap();
    }
    writers.abort_all();
    while writers.join_next().await.is_some() {}

    // A server works on it.
    let restored = folder.path().join("restored-2.db");
    let server = leadsmith("serve").database(&url(&restored)).serve().await;
    let token = sign_in(channel(server.address), "sales", PASSWORD)
        .await
        .unwrap();
    let caller = crate::harness::Caller {
        token,
        channel: channel(server.address),
        ..h.sales.clone()
    };
    caller.create_lead("Afterwards").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_its_owners_alone_and_replaces_nothing_unasked() {
    let h = Harness::start(Backend::Sqlite).await;
    let (folder, file) = backed_up(&h).await;
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let first = fs::read(&file).unwrap();
    h.sales.create_lead("Hopper").await;
    refused(&backup("", &file, &h.database.url).await, "use --force");
    assert_eq!(fs::read(&file).unwrap(), first);
    let ended = backup("--force", &file, &h.database.url).await;
    // Three operators were created before the leads.
    assert!(ended.out.contains("2 leads, up to event 5"), "{ended:?}");

    let nowhere = folder.path().join("nowhere/backup.db");
    refused(
        &backup("", &nowhere, &h.database.url).await,
        "its folder exists",
    );
    let none = url(&folder.path().join("none.db"));
    let ended = backup("--force", &file, &none).await;
    refused(&ended, "there is no database file");
    assert_eq!(
        names(folder.path()),
        BTreeSet::from(["backup.db".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_use_is_not_replaced() {
    let h = Harness::start(Backend::Sqlite).await;
    let (_folder, file) = backed_up(&h).await;
    let later = h.sales.create_lead("Hopper").await;
    refused(&restore("", &file, &h.database.url).await, "use --force");
    refused(
        &restore("--force", &file, &h.database.url).await,
        "stop the server first",
    );
    assert_eq!(h.viewer.get(&later.id).await, later);
    h.sales.create_lead("Hamilton").await;

    h.server.stop().await.unwrap();
    let database = h.database.folder.path().join("test.db");
    // The state after a crash: a log that belongs to the file that is replaced.
    let db = connect(&h.database.url).await.unwrap();
    db.execute_unprepared("PRAGMA journal_mode = WAL")
        .await
        .unwrap();
    db.execute_unprepared("DELETE FROM leads").await.unwrap();
    let wal = fs::read(database.with_extension("db-wal")).unwrap();
    db.close().await.unwrap();
    assert!(!wal.is_empty());
    fs::write(database.with_extension("db-wal"), &wal).unwrap();
    let ended = restore("--force", &file, &h.database.url).await;
    assert!(ended.out.contains("1 leads, up to event 4"), "{ended:?}");
    assert!(
        !names(h.database.folder.path())
            .iter()
            .any(|name| name.ends_with("-wal"))
    );
    assert_eq!(
        fs::metadata(&database).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let db = connect(&h.database.url).await.unwrap();
    assert_eq!(count(&db, "SELECT count(*) FROM leads").await, 1);
    db.close().await.unwrap();

    // A file that is no longer readable can be replaced too.
    fs::write(&database, b"nonsense").unwrap();
    let ended = restore("--force", &file, &h.database.url).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_foreign_or_newer_is_not_restored() {
    let h = Harness::start(Backend::Sqlite).await;
    let (folder, file) = backed_up(&h).await;
    let target = url(&folder.path().join("target.db"));
    let broken = folder.path().join("broken.db");

    let mut bytes = fs::read(&file).unwrap();
    for byte in &mut bytes[4096 * 3..4096 * 20] {
        *byte = 0x5a;
    }
    fs::write(&broken, &bytes).unwrap();
    refused(&restore("", &broken, &target).await, "use another backup");
    fs::write(
        &broken,
        b"no database at all, and longer than the header of one would be........",
    )
    .unwrap();
    refused(&restore("", &broken, &target).await, "broken.db");
    fs::remove_file(&broken).unwrap();
    let db = connect(&format!("{}?mode=rwc", url(&broken)))
        .await
        .unwrap();
    db.execute_unprepared("CREATE TABLE x (y)").await.unwrap();
    db.close().await.unwrap();
    refused(
        &restore("", &broken, &target).await,
        "not a Leadsmith database",
    );

    fs::copy(&file, &broken).unwrap();
    let db = connect(&url(&broken)).await.unwrap();
    db.execute_unprepared("INSERT INTO seaql_migrations VALUES ('m9999_future', 0)")
        .await
        .unwrap();
    db.close().await.unwrap();
    refused(
        &restore("", &broken, &target).await,
        "newer than this program",
    );
    refused(
        &restore("", &folder.path().join("none.db"), &target).await,
        "none.db cannot be read",
    );
    let left = BTreeSet::from(["backup.db".to_owned(), "broken.db".to_owned()]);
    assert_eq!(names(folder.path()), left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_not_replaced_by_its_own_backup() {
    let h = Harness::start(Backend::Sqlite).await;
    h.sales.create_lead("Lovelace").await;
    let file = PathBuf::from(h.database.url.strip_prefix("sqlite:").unwrap());
    let link = h.database.folder.path().join("link.db");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for name in [&file, &link] {
        let ended = backup("--force", name, &h.database.url).await;
        refused(&ended, "is the database itself");
        let ended = restore("--force", name, &h.database.url).await;
        refused(&ended, "is the database itself");
    }
    h.sales.create_lead("Hopper").await;
}

/// A killed server leaves its newest changes in the write-ahead log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_with_a_log_beside_it_is_no_backup() {
    let h = Harness::start(Backend::Sqlite).await;
    h.sales.create_lead("Lovelace").await;
    let file = h.database.url.strip_prefix("sqlite:").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let to = format!("{}{suffix}", copy.display());
        fs::copy(format!("{file}{suffix}"), to).unwrap();
    }
    let target = folder.path().join("restored.db");
    let ended = restore("", &copy, &url(&target)).await;
    refused(&ended, "is not a backup");
    assert!(!target.exists());

    let whole = folder.path().join("whole.db");
    let ended = backup("", &whole, &url(&copy)).await;
    assert!(
        ended.out.contains(" 1 leads"),
        "as the refusal says: {ended:?}"
    );
    let ended = restore("", &whole, &url(&target)).await;
    assert!(ended.out.contains(" 1 leads"), "{ended:?}");
}

on_both_empty! {
    async fn postgresql_is_backed_up_by_its_own_means(database: TestDatabase) {
        let file = database.folder.path().join("backup.db");
        let (backup, restore) = (
            backup("", &file, &database.url).await,
            restore("", &file, &database.url).await,
        );
        if database.backend == Backend::Postgres {
            refused(&backup, "pg_dump");
            refused(&restore, "pg_restore");
        } else {
            refused(&backup, "there is no database file");
            refused(&restore, "cannot be read");
        }
        assert!(!file.exists());
    }
}

//! The files of an SQLite database and its backups: links are followed, files that are not regular are left alone,
//! and only the owner can access the files that the program creates.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;

use crate::harness::{connect, count};
use crate::program::{Ended, leadsmith, leadsmith_without_umask};

/// A database with the operator `ada`, and a backup of it from before `ada`.
struct Place {
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        place.run("migrate up").await.done();
        place.run("backup backup.db").await.done();
        let create = "operator create --username ada --role ADMIN";
        place.run(create).await.done();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command on the database `x.db`, in its folder.
    async fn run(&self, arguments: &str) -> Ended {
        self.run_on("sqlite:x.db", arguments).await
    }

    async fn run_on(&self, url: &str, arguments: &str) -> Ended {
        let run = leadsmith(arguments).database(url).quiet();
        let run = run.in_folder(self.folder.path());
        run.input(crate::harness::PASSWORD).run().await
    }

    /// Every name in the folder, with the contents of regular files.
    fn content(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let entry = entries.map(|entry| {
            let entry = entry.unwrap();
            let is_file = entry.file_type().unwrap().is_file();
            let bytes = is_file.then(|| fs::read(entry.path()).unwrap());
            (entry.file_name().into_string().unwrap(), bytes)
        });
        entry.collect()
    }

    fn mode(&self, name: &str) -> u32 {
        self.path(name).metadata().unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

async fn operators(file: &Path) -> i64 {
    let db = connect(&format!("sqlite:{}", file.display()))
        .await
        .unwrap();
    let operators = count(&db, "SELECT count(*) FROM operators").await;
    db.close().await.unwrap();
    operators
}

fn make_fifo(file: &Path) {
    rustix::fs::mknodat(CWD, file, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[tokio::test]
async fn a_link_to_a_backup_stays_and_what_it_leads_to_is_replaced() {
    let place = Place::new().await;
    fs::create_dir(place.path("volume")).unwrap();
    symlink("volume/first", place.path("link")).unwrap();
    symlink("link", place.path("link-to-link")).unwrap();
    symlink("nowhere/file", place.path("astray")).unwrap();
    symlink("circle", place.path("circle")).unwrap();

    // The target does not exist yet, so nothing is replaced.
    place.run("backup link-to-link").await.done();
    assert_eq!(operators(&place.path("volume/first")).await, 1);
    place.run("backup link").await.refused("use --force");
    fs::write(place.path("volume/first"), "an old backup").unwrap();
    place.run("backup --force link").await.done();
    assert_eq!(operators(&place.path("volume/first")).await, 1);
    assert_eq!(
        fs::read_link(place.path("link")).unwrap(),
        Path::new("volume/first")
    );
    assert_eq!(
        fs::read_link(place.path("link-to-link")).unwrap(),
        Path::new("link")
    );
    assert_eq!(place.mode("volume/first"), 0o600);

    for astray in ["astray", "circle"] {
        let ended = place.run(&format!("backup --force {astray}")).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(place.path(astray).is_symlink());
    }
}

#[tokio::test]
async fn a_database_behind_a_link_is_served_restored_and_locked_where_it_is() {
    let place = Place::new().await;
    fs::create_dir(place.path("volume")).unwrap();
    symlink("volume/y.db", place.path("link.db")).unwrap();
    let url = "sqlite:link.db";
    place.run_on(url, "restore backup.db").await.done();
    place
        .run_on(url, "operator create --username eve --role SALES")
        .await
        .done();
    // The state after a crash: a log that belongs to the file that is replaced.
    fs::write(place.path("volume/y.db-wal"), "old").unwrap();
    fs::write(place.path("volume/y.db-journal"), "old").unwrap();
    place
        .run_on(url, "restore backup.db")
        .await
        .refused("use --force");
    place.run_on(url, "restore --force backup.db").await.done();
    assert_eq!(
        fs::read_link(place.path("link.db")).unwrap(),
        Path::new("volume/y.db")
    );
    assert_eq!(operators(&place.path("volume/y.db")).await, 0);
    place.run_on(url, "operator list").await.done();

    place.run_on(url, "migrate down --yes").await.done();
    place.run_on(url, "migrate up").await.done();
    assert!(place.path("volume/y.db.migrate-lock").exists());
    let beside: Vec<_> = place
        .content()
        .into_keys()
        .filter(|name| name.starts_with("link"))
        .collect();
    assert_eq!(
        beside,
        ["link.db"],
        "what belongs to it is beside the file, not beside the link"
    );
}

#[tokio::test]
async fn what_is_no_plain_file_is_neither_read_nor_replaced() {
    let place = Place::new().await;
    fs::create_dir(place.path("folder")).unwrap();
    make_fifo(&place.path("pipe"));
    let _listener = UnixListener::bind(place.path("socket")).unwrap();
    symlink("pipe", place.path("link-to-pipe")).unwrap();
    symlink("/dev/full", place.path("link-to-device")).unwrap();
    let before = place.content();
    for (name, what) in [
        ("folder", "a folder"),
        ("folder/", "a folder"),
        ("pipe", "a named pipe"),
        ("socket", "a socket"),
        ("/dev/null", "a device"),
        ("link-to-pipe", "a named pipe"),
        ("link-to-device", "a device"),
    ] {
        let why = format!("is {what}, not a regular file");
        for command in ["backup", "backup --force", "restore --force"] {
            place.run(&format!("{command} {name}")).await.refused(&why);
        }
        for command in [
            "restore --force backup.db",
            "backup new.db",
            "migrate up",
            "serve",
            "operator list",
        ] {
            place
                .run_on(&format!("sqlite:{name}"), command)
                .await
                .refused(&why);
        }
    }
    assert_eq!(place.content(), before);
    assert!(Path::new("/dev/null").metadata().unwrap().rdev() != 0);
}

#[tokio::test]
async fn a_file_with_several_names_is_no_database_and_is_not_replaced() {
    let place = Place::new().await;
    fs::hard_link(place.path("x.db"), place.path("y.db")).unwrap();
    fs::write(place.path("old"), "an old backup").unwrap();
    fs::hard_link(place.path("old"), place.path("old-too")).unwrap();
    let why = "has 2 names (hard links)";
    for command in [
        "serve",
        "migrate up",
        "operator list",
        "backup new.db",
        "restore --force backup.db",
    ] {
        place.run_on("sqlite:y.db", command).await.refused(why);
    }
    fs::remove_file(place.path("y.db")).unwrap();
    place.run("backup --force old").await.refused(why);
    assert_eq!(fs::read(place.path("old-too")).unwrap(), b"an old backup");

    // Rotation makes hard links to backups. A restore only reads them.
    fs::hard_link(place.path("backup.db"), place.path("weekly.db")).unwrap();
    place.run("restore --force weekly.db").await.done();
    assert_eq!(operators(&place.path("x.db")).await, 0);
}

#[tokio::test]
async fn what_lies_beside_a_database_must_be_a_plain_file() {
    let place = Place::new().await;
    fs::write(place.path("letter"), "Dear Ada").unwrap();
    for suffix in ["-wal", "-shm", "-journal"] {
        let beside = place.path(&format!("x.db{suffix}"));
        symlink("letter", &beside).unwrap();
        for command in [
            "serve",
            "migrate up",
            "operator list",
            "backup new.db",
            "restore --force backup.db",
        ] {
            place
                .run(command)
                .await
                .refused("is a symbolic link, not a regular file");
        }
        fs::remove_file(&beside).unwrap();
        make_fifo(&beside);
        for command in ["serve", "operator list", "restore --force backup.db"] {
            place
                .run(command)
                .await
                .refused("is a named pipe, not a regular file");
        }
        fs::remove_file(&beside).unwrap();
    }
    assert_eq!(fs::read(place.path("letter")).unwrap(), b"Dear Ada");
    assert!(!place.path("new.db").exists());
    assert_eq!(operators(&place.path("x.db")).await, 1);
}

#[tokio::test]
async fn the_lock_of_migrations_empties_nothing_and_follows_nothing() {
    let place = Place::new().await;
    let lock = place.path("x.db.migrate-lock");
    assert_eq!(place.mode("x.db.migrate-lock"), 0o600);
    // The state that an older version leaves.
    fs::write(&lock, "content").unwrap();
    place.set_mode("x.db.migrate-lock", 0o666);
    place.run("migrate down --yes").await.done();
    assert_eq!(fs::read(&lock).unwrap(), b"content");
    assert_eq!(place.mode("x.db.migrate-lock"), 0o600);

    fs::write(place.path("letter"), "Dear Ada").unwrap();
    place.set_mode("letter", 0o644);
    fs::remove_file(&lock).unwrap();
    let refused = async |why: &str| {
        for command in ["migrate up", "migrate down --yes", "serve"] {
            place.run(command).await.refused(why);
        }
        fs::remove_file(&lock).unwrap();
    };
    symlink("letter", &lock).unwrap();
    refused("is a symbolic link, not a regular file").await;
    symlink("new", &lock).unwrap();
    refused("is a symbolic link, not a regular file").await;
    make_fifo(&lock);
    refused("is a named pipe, not a regular file").await;
    fs::hard_link(place.path("letter"), &lock).unwrap();
    refused("has 2 names (hard links)").await;
    assert_eq!(fs::read(place.path("letter")).unwrap(), b"Dear Ada");
    assert_eq!(place.mode("letter"), 0o644);
    assert!(!place.path("new").exists());
    place.run("migrate up").await.done();
}

#[tokio::test]
async fn what_the_program_creates_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let run = leadsmith_without_umask(arguments).database("sqlite:x.db");
        run.in_folder(folder.path())
    };
    run("migrate up").run().await.done();
    run("backup backup.db").run().await.done();
    run("restore backup.db")
        .database("sqlite:y.db")
        .run()
        .await
        .done();
    fs::write(folder.path().join("old.db"), "an old backup").unwrap();
    fs::set_permissions(
        folder.path().join("old.db"),
        fs::Permissions::from_mode(0o666),
    )
    .unwrap();
    run("backup --force old.db").run().await.done();
    let url = format!("sqlite:{}", folder.path().join("x.db").display());
    let _serving = leadsmith_without_umask("serve")
        .database(&url)
        .serve()
        .await;
    let mut names = Vec::new();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    let wanted = [
        "backup.db",
        "old.db",
        "x.db",
        "x.db-shm",
        "x.db-wal",
        "x.db.migrate-lock",
        "x.db.serve-lock",
        "y.db",
    ];
    assert_eq!(names, wanted);
}

#[tokio::test]
async fn a_database_that_others_may_read_or_change_is_warned_of() {
    let place = Place::new().await;
    let url = format!("sqlite:{}", place.path("x.db").display());
    let warnings = async || {
        let mut server = leadsmith("serve").database(&url).serve().await;
        server.kill();
        let log = server.log();
        let lines = log.lines().filter(|line| line.contains("WARN"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(warnings().await, Vec::<String>::new());
    for mode in [0o640, 0o604, 0o620, 0o602, 0o666] {
        place.set_mode("x.db", mode);
        let found = warnings().await;
        let say = format!(
            "run chmod 600 {}",
            place.path("x.db").canonicalize().unwrap().display()
        );
        assert!(
            found.iter().any(|line| line.contains(&say)),
            "{mode:o}: {found:?}"
        );
        place.set_mode("x.db", 0o600);
        for suffix in ["x.db-wal", "x.db-shm"] {
            let _ = fs::remove_file(place.path(suffix));
        }
    }
    for mode in [0o770, 0o707, 0o1777] {
        place.set_mode("", mode);
        let found = warnings().await;
        assert_eq!(found.len(), 1, "{mode:o}: {found:?}");
        assert!(found[0].contains("run chmod 700"), "{found:?}");
    }
    // Others can list the names in it, but change nothing.
    place.set_mode("", 0o755);
    assert_eq!(warnings().await, Vec::<String>::new());
    // The write-ahead log of a process with another umask that has the database open. SQLite corrects the mode of
    // an empty log itself.
    let db = connect(&url).await.unwrap();
    db.execute_unprepared("PRAGMA user_version = 1")
        .await
        .unwrap();
    place.set_mode("x.db-wal", 0o644);
    let found = warnings().await;
    assert!(
        found
            .iter()
            .any(|line| line.contains("chmod 600") && line.contains("x.db-wal")),
        "{found:?}"
    );
    db.close().await.unwrap();
}

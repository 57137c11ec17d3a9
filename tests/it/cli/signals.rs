//! Signals, the limit of open files, and a second server on one SQLite file.

use std::fs;
use std::time::Duration;

use crate::harness::{Backend, PASSWORD, TestDatabase, eventually};
use crate::program::{Serving, leadsmith, leadsmith_after};

/// Waits until the log contains a text.
async fn logged(server: &Serving, text: &str) {
    let found = async || server.log().contains(text);
    eventually(&format!("the log has {text:?}"), found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_some_signals_stop_a_server_and_all_of_them_let_calls_finish() {
    for name in ["TERM", "INT", "QUIT", "XCPU"] {
        let database = TestDatabase::create(Backend::Sqlite).await;
        let mut server = leadsmith("serve").database(&database.url).serve().await;
        // Those with numbers: SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGXFSZ, SIGSTKFLT and a real-time one.
        for ignored in [
            "PIPE", "USR1", "USR2", "ALRM", "26", "27", "29", "30", "25", "16", "40",
        ] {
            server.signal(ignored);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let check = format!("healthcheck --listen {}", server.address);
        leadsmith(&check).run().await.done();
        server.signal(name);
        let status = server.ended(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(0), "SIG{name}: {}", server.log());
        let log = server.log();
        assert!(
            log.contains("waiting for running calls") && log.contains("stopped"),
            "{log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_reads_the_log_level_of_the_file_again() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let file = database.folder.path().join("leadsmith.toml");
    let config = file.to_str().unwrap();
    fs::write(&file, "log = \"info\"").unwrap();
    let serve = || {
        leadsmith("serve")
            .database(&database.url)
            .env("LEADSMITH_CONFIG", config)
    };
    let mut server = serve().serve().await;
    for (content, text) in [
        (
            "log = \"debug\"",
            "read from the configuration file again log=DEBUG",
        ),
        (
            "log = \"loud\"",
            "the log level stays: the configuration file cannot be used",
        ),
        (
            "# the default",
            "read from the configuration file again log=INFO",
        ),
    ] {
        fs::write(&file, content).unwrap();
        server.signal("HUP");
        logged(&server, text).await;
    }
    fs::write(&file, "log = \"error\"").unwrap();
    server.signal("HUP");
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.terminate();
    assert_eq!(server.ended(Duration::from_secs(10)).await.code(), Some(0));
    assert!(
        !server.log().contains("stopping"),
        "only errors are logged: {}",
        server.log()
    );

    // What a variable or a flag says counts more than the file, also after a change of the file.
    let server = serve().env("LEADSMITH_LOG", "info").serve().await;
    server.signal("HUP");
    server.signal("USR1");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!server.log().contains("again"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_open_files_is_raised_or_warned_of() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let serve = |limit: &str, flags: &str| {
        leadsmith_after(limit, &format!("serve {flags}")).database(&database.url)
    };
    let mut server = serve("ulimit -Sn 256; ulimit -Hn 2000", "--max-connections 1000")
        .serve()
        .await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let numbers: Vec<_> = line
        .split_whitespace()
        .filter(|word| word.parse::<u64>().is_ok())
        .collect();
    assert_eq!(numbers, ["2000", "2000"], "{line}");
    assert!(!server.log().contains("fewer files"), "{}", server.log());
    server.kill();
    let server = serve("ulimit -Sn 500; ulimit -Hn 500", "--max-connections 1000")
        .serve()
        .await;
    let log = server.log();
    assert!(
        log.contains("fewer files than --max-connections needs") && log.contains("limit=500"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_one_file_is_refused_and_commands_are_not() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let run = |command: &str| {
        leadsmith(command)
            .database(&database.url)
            .quiet()
            .input(PASSWORD)
    };
    let mut server = leadsmith("serve").database(&database.url).serve().await;
    let link = database.folder.path().join("link.db");
    std::os::unix::fs::symlink("test.db", &link).unwrap();
    for url in [database.url.clone(), format!("sqlite:{}", link.display())] {
        let second = leadsmith("serve --listen 127.0.0.1:0")
            .database(&url)
            .quiet()
            .run()
            .await;
        assert_eq!(second.code, Some(1), "{second:?}");
        second.refused("another server uses the database");
    }
    run("operator create --username ada --role ADMIN")
        .run()
        .await
        .done();
    run("service-account create --name crm --role SALES")
        .run()
        .await
        .done();
    run("service-account create-key --name crm").run().await;
    run("operator list").run().await.done();
    run("migrate up").run().await.done();
    let backup = database.folder.path().join("backup.db");
    run(&format!("backup {}", backup.display()))
        .run()
        .await
        .done();
    let check = format!("healthcheck --listen {}", server.address);
    leadsmith(&check).run().await.done();
    // A server that was killed leaves no lock behind.
    server.kill();
    leadsmith("serve").database(&database.url).serve().await;
}

//! Standard output that cannot be written: an error message, and never a panic.

use std::time::Duration;

use leadsmith::core::role::Role;

use crate::harness::PASSWORD;
use crate::on_both;
use crate::program::{Ended, Program, leadsmith};

const UNWRITTEN: &str = "standard output cannot be written (No space left on device";

impl Ended {
    /// It ended like other programs whose reader has closed the pipe, without a message.
    fn cut_short(&self) {
        let (code, err) = (self.code, self.err.as_str());
        assert_eq!((code, err), (Some(141), ""), "{self:?}");
    }
}

/// The keys that are not revoked.
fn valid_keys(listed: &str) -> usize {
    let keys = listed
        .lines()
        .filter(|line| line.trim_start().starts_with("key "));
    keys.filter(|line| !line.contains("revoked")).count()
}

#[tokio::test]
async fn help_and_version_that_cannot_be_printed_say_so() {
    for arguments in [
        "--help",
        "--version",
        "-h",
        "-V",
        "serve --help",
        "operator create -h",
    ] {
        let run = || leadsmith(arguments);
        run().onto_a_full_disk().run().await.refused(UNWRITTEN);
        run().onto_a_closed_pipe().run().await.cut_short();
        let mute = run().onto_a_full_disk().mute().run().await;
        assert_eq!(mute.code, Some(1), "{arguments}");
    }
    let misused = leadsmith("nonsense").onto_a_full_disk().mute().run().await;
    assert_eq!(misused.code, Some(2), "{misused:?}");
}

#[tokio::test]
async fn a_demo_that_cannot_be_printed_ends() {
    let demo = || leadsmith("demo --listen 127.0.0.1:0").quiet();
    demo().onto_a_full_disk().run().await.refused(UNWRITTEN);
    demo().onto_a_closed_pipe().run().await.cut_short();
}

#[tokio::test]
async fn a_server_whose_log_cannot_be_written_serves() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("x.db").display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let serve = format!("serve --listen {address}");
    let server = tokio::spawn(
        leadsmith(&serve)
            .database(&url)
            .mute()
            .run_for(Duration::from_secs(3)),
    );
    let check = format!("healthcheck --listen {address}");
    let mut healthy = false;
    for _ in 0..100 {
        let ended = leadsmith(&check).quiet().run().await;
        healthy = ended.code == Some(0);
        if healthy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(healthy, "it does not serve");
    assert_eq!(server.await.unwrap(), None, "it goes on");
}

on_both! {
    async fn what_is_only_looked_at_ends_quietly_when_nobody_reads_it(h: Harness) {
        h.service_account("billing", Role::Sales).await;
        let address = h.server.address.to_string();
        for arguments in [
            "config",
            "migrate status",
            "operator list",
            "service-account list",
            "healthcheck",
        ] {
            let run = || {
                let run = leadsmith(arguments).database(&h.database.url).quiet();
                run.env("LEADSMITH_LISTEN", &address)
            };
            run().onto_a_full_disk().run().await.refused(UNWRITTEN);
            run().onto_a_closed_pipe().run().await.cut_short();
            let mute = run().onto_a_full_disk().mute().run().await;
            assert_eq!(mute.code, Some(1), "{arguments}");
        }
    }

    async fn what_was_changed_is_said_when_it_cannot_be_printed(h: Harness) {
        let unprinted: [fn(Program) -> Program; 2] =
            [Program::onto_a_full_disk, Program::onto_a_closed_pipe];
        for (number, unprinted) in unprinted.into_iter().enumerate() {
            let run = |arguments: &str| {
                let run = leadsmith(arguments).database(&h.database.url).quiet();
                unprinted(run.input(PASSWORD))
            };
            let create = format!("operator create --username ada{number} --role SALES");
            let ended = run(&create).run().await;
            ended.refused("the operator was created, but standard output cannot be written");
            run(&create).run().await.refused("already");
            let create = format!("service-account create --name billing{number} --role SALES");
            let ended = run(&create).run().await;
            ended.refused("the service account was created, but standard output");
            run(&create).run().await.refused("already");
            let ended = run("migrate up").run().await;
            ended.refused("the schema was migrated, but standard output cannot be written");
        }
    }

    async fn a_key_that_cannot_be_printed_is_revoked(h: Harness) {
        h.service_account("billing", Role::Sales).await;
        let run = |arguments: &str| leadsmith(arguments).database(&h.database.url).quiet();
        let create = || run("service-account create-key --name billing");
        for ended in [
            create().onto_a_full_disk().run().await,
            create().onto_a_closed_pipe().run().await,
        ] {
            assert_eq!(ended.code, Some(1), "{ended:?}");
            let last = ended.err.lines().last().unwrap();
            assert!(last.contains("cannot be printed") && last.contains("was revoked"), "{ended:?}");
            assert!(!ended.err.contains("panicked"), "{ended:?}");
        }
        let mute = create().onto_a_full_disk().mute().run().await;
        assert_eq!(mute.code, Some(1));
        let listed = run("service-account list").run().await.done();
        assert_eq!(listed.matches("revoked").count(), 3, "{listed}");
        assert_eq!(valid_keys(&listed), 1, "the one that the test made: {listed}");

        for discarded in [create().onto_nothing(), create().onto_a_closed_output()] {
            discarded.run().await.refused("standard output is closed or /dev/null");
        }
        assert_eq!(run("service-account list").run().await.done(), listed, "none was made");

        // The key must not be lost because its id cannot be written to standard error.
        let ended = create().mute().run().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.out.lines().count(), 1);
        let listed = run("service-account list").run().await.done();
        assert_eq!(valid_keys(&listed), 2, "{listed}");
    }
}

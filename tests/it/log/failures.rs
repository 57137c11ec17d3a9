//! What the log says when something fails: the start of the program, a change after its client has disconnected, and the
//! database.

use std::time::Duration;

use leadsmith_proto as proto;
use serde_json::Value;
use tonic::Request;

use super::{PASSWORD, caller, command, lines, lines_so_far, logged, serve, text};
use crate::harness::{Backend, TestDatabase, reason};
use crate::program::leadsmith;

#[tokio::test]
async fn a_failed_start_is_a_line_of_the_log() {
    for (arguments, message, why) in [
        (
            "serve --log-format json --listen nonsense",
            "the command line is invalid",
            "--listen",
        ),
        (
            "serve --log-format=json --what",
            "the command line is invalid",
            "--what",
        ),
        (
            "serve --log-format json --database-url sqlite:",
            "the command failed",
            "file name",
        ),
        (
            "operator list --log-format json",
            "the command failed",
            "there is no database file",
        ),
    ] {
        let ended = leadsmith(arguments).run().await;
        assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
        let lines = lines(&ended.err);
        assert_eq!(lines.len(), 1, "{ended:?}");
        assert_eq!(
            (text(&lines[0], "level"), text(&lines[0], "message")),
            ("ERROR", message)
        );
        assert!(text(&lines[0], "error").contains(why), "{ended:?}");
    }
    // The file itself is wrong, so its format is all that is known of the settings.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leadsmith.toml");
    std::fs::write(&file, "log-format = \"json\"\nwhat = 1\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, format, is_json) in [
        (format!("serve --config {file}"), "", true),
        (format!("serve --config={file}"), "text", false),
        (
            format!("serve --config {file} --log-format json"),
            "text",
            true,
        ),
    ] {
        let ended = leadsmith(&arguments)
            .env("LEADSMITH_LOG_FORMAT", format)
            .run()
            .await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let wrong = "line 2 is not a setting";
        assert!(ended.err.contains(wrong), "{ended:?}");
        if is_json {
            let lines = lines(&ended.err);
            assert_eq!(lines.len(), 1, "{ended:?}");
            assert!(text(&lines[0], "error").contains(wrong), "{ended:?}");
        } else {
            assert!(ended.err.starts_with("leadsmith: "), "{ended:?}");
        }
    }
    let help = leadsmith("--help")
        .env("LEADSMITH_LOG_FORMAT", "json")
        .run()
        .await;
    assert!(
        help.out.contains("Usage:") && help.err.is_empty(),
        "{help:?}"
    );
}

#[tokio::test]
async fn a_change_that_outlives_its_call_has_a_line_of_its_own() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let server = serve(&database).await;
    command(&database, "operator create --username sam --role SALES")
        .run()
        .await;
    let sam = caller(&server, "sam").await;
    let lead = sam.create_lead("Lovelace").await;
    // The commit takes longer than the call may.
    let db = database.connect().await;
    use sea_orm::ConnectionTrait as _;
    for sql in [
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON history DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION slow()",
    ] {
        db.execute_unprepared(sql).await.unwrap();
    }
    db.close().await.unwrap();
    let request_id = uuid::Uuid::now_v7().to_string();
    let mut request = Request::new(proto::DeactivateLeadRequest {
        id: lead.id.clone(),
        reason: "no budget".into(),
        request_id: request_id.clone(),
        ..Default::default()
    });
    request.set_timeout(Duration::from_millis(500));
    let status = sam.leads().deactivate(request).await.unwrap_err();
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
    let is_late = |line: &Value| text(line, "message") == "change committed after its call ended";
    logged(&server, "the change is logged", is_late).await;
    let of_request = |line: &Value| line["request_id"] == request_id.as_str();
    let found: Vec<_> = lines_so_far(&server)
        .into_iter()
        .filter(of_request)
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(text(&found[0], "code"), "DEADLINE_EXCEEDED");
    assert!(found[0]["effect"].is_null(), "not committed yet");
    assert_eq!(
        (text(&found[1], "effect"), text(&found[1], "principal")),
        ("changed", "sam")
    );
    for line in &found {
        assert_eq!(text(line, "records"), format!("lead/{}", lead.id));
    }
}

#[tokio::test]
async fn an_outage_is_two_lines_however_many_calls_fail() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let program = leadsmith("serve --sqlite-write-wait 0.2 --log-format json");
    let server = program.database(&database.url).serve().await;
    command(&database, "operator create --username sam --role SALES")
        .run()
        .await;
    let sam = caller(&server, "sam").await;
    let db = database.connect().await;
    use sea_orm::ConnectionTrait as _;
    let held = sea_orm::TransactionTrait::begin(&db).await.unwrap();
    held.execute_unprepared("UPDATE leads SET version = version")
        .await
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let sam = sam.clone();
        calls.spawn(async move {
            let lead = proto::Lead {
                last_name: "Lovelace".into(),
                ..Default::default()
            };
            sam.create(lead).await
        });
    }
    for refused in calls.join_all().await {
        assert_eq!(reason(&refused.unwrap_err()), "DATABASE_UNAVAILABLE");
    }
    held.rollback().await.unwrap();
    db.close().await.unwrap();
    let is_end = |line: &Value| text(line, "message") == "the database is available again";
    for _ in 0..300 {
        if lines_so_far(&server).iter().any(is_end) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let lines = lines_so_far(&server);
    let warnings: Vec<_> = lines
        .iter()
        .filter(|line| line["level"] == "WARN")
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(text(warnings[0], "message"), "the database is unavailable");
    assert!(!text(warnings[0], "cause").is_empty());
    assert_eq!(warnings[1]["failed_calls"], 10);
    assert!(warnings[1]["elapsed_ms"].is_f64());
    assert!(
        !lines
            .iter()
            .any(|line| text(line, "rpc").ends_with("/Create"))
    );
    assert!(!server.log().contains(PASSWORD));
}

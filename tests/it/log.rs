//! The log of a server: from its lines alone, without the database, an administrator finds out who did what, and why it
//! was refused.

mod events;
mod failures;
mod people;

use std::collections::BTreeSet;
use std::time::Duration;

use leadsmith_proto as proto;
use serde_json::Value;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use uuid::Uuid;

use crate::harness::{self, Caller, PASSWORD, TestDatabase, reason, sign_in};
use crate::on_both_empty;
use crate::program::{Program, Serving, leadsmith};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Personal data of a lead, and what else must not be in a log.
const PERSONAL: [&str; 4] = [
    "Lovelace",
    "ada.lovelace@example.com",
    "+44 1632",
    "wrong password",
];

/// The lines of a log. Every one is a JSON object.
pub fn lines(log: &str) -> Vec<Value> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    log.lines().map(parse).collect()
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}

/// A server whose log is in JSON.
async fn serve(database: &TestDatabase) -> Serving {
    let program = leadsmith("serve").env("LEADSMITH_LOG_FORMAT", "json");
    program.database(&database.url).serve().await
}

fn command(database: &TestDatabase, arguments: &str) -> Program {
    let program = leadsmith(arguments).database(&database.url);
    program.env("LEADSMITH_LOG_FORMAT", "json").input(PASSWORD)
}

/// Waits until a line of the log fulfils a condition.
async fn logged(server: &Serving, what: &str, condition: impl Fn(&Value) -> bool) {
    let found = async || lines_so_far(server).iter().any(&condition);
    harness::eventually(what, found).await;
}

/// The complete lines so far.
fn lines_so_far(server: &Serving) -> Vec<Value> {
    let log = server.log();
    lines(&log[..log.rfind('\n').map_or(0, |end| end + 1)])
}

async fn caller(server: &Serving, username: &str) -> Caller {
    let channel = harness::channel(server.address);
    let token = sign_in(channel.clone(), username, PASSWORD).await.unwrap();
    let id = Uuid::nil();
    Caller { id, token, channel }
}

on_both_empty! {
    async fn a_day_is_understood_from_the_lines_of_all_replicas(database: TestDatabase) {
        let mut servers = vec![serve(&database).await];
        // An SQLite file has one server.
        if !database.url.starts_with("sqlite:") {
            servers.push(serve(&database).await);
        }
        let other = servers.len() - 1;
        let mut commands = Vec::new();
        for (name, role) in [("ada", "ADMIN"), ("sam", "SALES"), ("vic", "VIEWER")] {
            let create = format!("operator create --username {name} --role {role}");
            let ended = command(&database, &create).run().await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
            commands.extend(lines(&ended.err));
        }
        let [sam, ada] = [caller(&servers[0], "sam").await, caller(&servers[other], "ada").await];
        let vic = caller(&servers[other], "vic").await;
        let at = |caller: &Caller, server: &Serving| Caller {
            channel: harness::channel(server.address),
            ..caller.clone()
        };

        // Sam creates a lead, does not get the response, and retries, at the other replica if there is one.
        let request_id = Uuid::now_v7().to_string();
        let create = proto::CreateLeadRequest {
            lead: Some(proto::Lead {
                first_name: "Ada".into(),
                last_name: "Lovelace".into(),
                email: "ada.lovelace@example.com".into(),
                phone: "+44 1632 960123".into(),
                ..Default::default()
            }),
            request_id: request_id.clone(),
            ..Default::default()
        };
        let mut request = Request::new(create.clone());
        let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        let lead = sam.leads().create(request).await.unwrap().into_inner().lead.unwrap();
        let again = at(&sam, &servers[other]).leads().create(create).await.unwrap();
        assert_eq!(again.into_inner().lead.unwrap(), lead);
        // Others change it, or try to.
        let convert = proto::ConvertLeadRequest { id: lead.id.clone(), ..Default::default() };
        let refused = vic.leads().convert(convert.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), "ROLE_INSUFFICIENT");
        let tried = proto::ConvertLeadRequest { validate_only: true, ..convert.clone() };
        ada.leads().convert(tried).await.unwrap();
        let stale = proto::ConvertLeadRequest { etag: "\"9\"".into(), ..convert.clone() };
        assert_eq!(reason(&sam.leads().convert(stale).await.unwrap_err()), "ETAG_MISMATCH");
        ada.leads().convert(convert).await.unwrap();
        let get = proto::GetLeadRequest { id: lead.id.clone() };
        vic.leads().get(get).await.unwrap();
        // Somebody guesses a password, and somebody has no token.
        for _ in 0..5 {
            let guess = sign_in(vic.channel.clone(), "vic", "a wrong password").await;
            assert_eq!(reason(&guess.unwrap_err()), "SIGN_IN_FAILED");
        }
        let locked = sign_in(vic.channel.clone(), "vic", PASSWORD).await.unwrap_err();
        assert_eq!(reason(&locked), "PASSWORD_ATTEMPTS_EXCEEDED");
        let nobody = Caller { token: String::new(), ..vic.clone() };
        nobody.auth().who_am_i(proto::WhoAmIRequest {}).await.unwrap_err();
        // A stream ends with its client.
        let channel = harness::channel(servers[0].address);
        let watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await;
        let mut stream = watch.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        drop(stream);
        logged(&servers[0], "the stream ends", |line| line["message"] == "stream ended").await;
        let ended = command(&database, "operator unlock --username vic").run().await;
        commands.extend(lines(&ended.err));
        sam.auth().sign_out(proto::SignOutRequest::default()).await.unwrap();
        let mut replicas = Vec::new();
        for server in &mut servers {
            server.terminate();
            assert!(server.ended(Duration::from_secs(10)).await.success());
            replicas.push(lines(&server.log()));
        }

        for replica in &replicas {
            let start = replica.iter().find(|line| line["message"] == "serving").unwrap();
            for field in ["address", "version", "commit", "database", "location", "schema"] {
                assert!(!text(start, field).is_empty(), "{field}: {start}");
            }
            assert!(text(start, "schema").starts_with("m00"), "{start}");
            assert_eq!(replica.last().unwrap()["message"], "stopped");
        }
        let all: Vec<&Value> = replicas.iter().flatten().collect();
        for line in all.iter().copied().chain(&commands) {
            for personal in PERSONAL {
                assert!(!line.to_string().contains(personal), "{line}");
            }
        }
        assert!(all.iter().all(|line| line["level"] != "ERROR"));

        // Who changed the lead?
        let lead_name = format!("lead/{}", lead.id);
        let is_about = |line: &Value| text(line, "records").split(' ').any(|one| one == lead_name);
        let changes: Vec<_> = all
            .iter()
            .filter(|line| line["effect"] == "changed" && is_about(line))
            .map(|line| (text(line, "principal"), text(line, "rpc")))
            .collect();
        let changed = |name, rpc| (name, rpc);
        assert_eq!(changes, [
            changed("sam", "leadsmith.v1.LeadService/Create"),
            changed("ada", "leadsmith.v1.LeadService/Convert"),
        ]);
        // Who was refused, and why?
        let refusals: BTreeSet<_> = all
            .iter()
            .filter(|line| line["message"] == "call refused")
            .map(|line| {
                let rpc = text(line, "rpc").rsplit('/').next().unwrap();
                (text(line, "principal"), rpc, text(line, "code"), text(line, "reason"))
            })
            .collect();
        assert_eq!(refusals, BTreeSet::from([
            ("vic", "Convert", "PERMISSION_DENIED", "ROLE_INSUFFICIENT"),
            ("sam", "Convert", "ABORTED", "ETAG_MISMATCH"),
            ("", "SignIn", "UNAUTHENTICATED", "SIGN_IN_FAILED"),
            ("", "SignIn", "RESOURCE_EXHAUSTED", "PASSWORD_ATTEMPTS_EXCEEDED"),
            ("", "WhoAmI", "UNAUTHENTICATED", "TOKEN_INVALID"),
        ]));
        let stale = all.iter().find(|line| line["reason"] == "ETAG_MISMATCH").unwrap();
        assert!(is_about(stale), "{stale}");
        // Who was locked out?
        let lockouts: Vec<_> = all.iter().filter(|line| line["lockout"] == true).collect();
        assert_eq!(lockouts.len(), 1);
        let locked = lockouts[0];
        let unlocked = commands.iter().find(|line| line["command"] == "operator unlock").unwrap();
        assert_eq!(locked["records"], unlocked["records"]);
        assert_eq!(unlocked["name"], "vic");
        assert_eq!(text(locked, "peer"), "127.0.0.1");
        // What did one request id do, on all replicas?
        let caused: Vec<_> =
            all.iter().filter(|line| line["request_id"] == request_id.as_str()).collect();
        let [first, second] = caused[..] else { panic!("{caused:?}") };
        assert_eq!((text(first, "effect"), text(second, "effect")), ("changed", "replayed"));
        for line in [first, second] {
            assert_eq!((text(line, "code"), text(line, "principal_kind")), ("OK", "OPERATOR"));
            assert!(is_about(line) && Uuid::parse_str(text(line, "principal_id")).is_ok(), "{line}");
        }
        assert_eq!(first["trace_id"], TRACE);
        assert!(second["trace_id"].is_null());
        // Which calls were the slowest? And nothing that only reads is logged.
        let calls = all.iter().filter(|line| text(line, "message").starts_with("call "));
        let mut slowest: Vec<_> = calls
            .map(|line| (line["elapsed_ms"].as_f64().expect("a number"), text(line, "rpc")))
            .collect();
        slowest.sort_by(|one, other| other.0.total_cmp(&one.0));
        assert_eq!(slowest[0].1, "leadsmith.v1.AuthService/SignIn", "argon2 takes longest");
        assert!(slowest.iter().all(|(_, rpc)| !rpc.ends_with("/Get")), "{slowest:?}");
        // Who came and went?
        let sessions = all.iter().filter(|line| line["effect"] == "changed" && !is_about(line));
        let mut sessions: Vec<_> = sessions.map(|line| (text(line, "principal"), text(line, "rpc"))).collect();
        // The order of lines of several servers is that of the servers.
        sessions.sort_unstable();
        assert_eq!(sessions, [
            ("ada", "leadsmith.v1.AuthService/SignIn"),
            ("sam", "leadsmith.v1.AuthService/SignIn"),
            ("sam", "leadsmith.v1.AuthService/SignOut"),
            ("vic", "leadsmith.v1.AuthService/SignIn"),
        ]);
    }
}

//! The administrative listener: metrics that agree with the calls that were made, and probes. A client of it cannot harm
//! the calls of others.

mod text;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use leadsmith::auth::policy;
use leadsmith::config::{AdminListen, ServeSettings};
use leadsmith::metrics::PLACES;
use leadsmith_proto as proto;
use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Backend, Harness, PASSWORD, eventually, reason, sign_in};
use crate::program::leadsmith;
use text::Scrape;

/// A response: its code, its content type, its body.
async fn request(address: SocketAddr, method: Method, path: &str) -> (StatusCode, String, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let (parts, body) = client.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    drop(client);
    connection.await.unwrap().unwrap();
    let kind = parts.headers["content-type"].to_str().unwrap().to_owned();
    (
        parts.status,
        kind,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

async fn get(h: &Harness, path: &str) -> (StatusCode, String) {
    let address = h.server.admin_address.unwrap();
    let (code, _, body) = request(address, Method::GET, path).await;
    (code, body)
}

async fn scrape(h: &Harness) -> Scrape {
    let (code, body) = get(h, "/metrics").await;
    assert_eq!(code, StatusCode::OK, "{body}");
    Scrape::parse(&body)
}

/// A server with the listener. It is the second one on its database: what the first one wrote confirms its clock, so that
/// it deletes expired data at once.
async fn start(backend: Backend) -> Harness {
    let mut h = Harness::start(backend).await;
    let second = |settings: &mut ServeSettings| {
        settings.observe.admin_listen = AdminListen::Address("127.0.0.1:0".parse().unwrap());
        settings.limits.retention_interval = Duration::from_millis(50);
    };
    let second = h.another_server(second).await;
    let first = std::mem::replace(&mut h.server, second);
    first.stop().await.unwrap();
    for caller in [&mut h.admin, &mut h.sales, &mut h.viewer] {
        *caller = caller.at(&h.server);
    }
    sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
    h
}

/// The number of calls of an RPC that ended with this code.
fn handled(scrape: &Scrape, rpc: &str, code: &str) -> f64 {
    let (service, method) = rpc.split_once('/').unwrap();
    let labels = [
        ("grpc_code", code),
        ("grpc_method", method),
        ("grpc_service", service),
    ];
    scrape.value("grpc_server_handled_total", &labels)
}

const LEADS: &str = "leadsmith.v1.LeadService";

async fn counts_agree(h: Harness) {
    let before = scrape(&h).await;
    let lead = h.sales.create_lead("Lovelace").await;
    let gets = async |count: usize| {
        for _ in 0..count {
            let request = proto::GetLeadRequest {
                id: lead.id.clone(),
            };
            h.viewer.leads().get(request).await.unwrap();
        }
    };
    // Calls run while the metrics are read.
    let scrapes = async {
        for _ in 0..5 {
            scrape(&h).await;
        }
    };
    tokio::join!(gets(20), gets(20), gets(10), scrapes);
    let missing = proto::GetLeadRequest {
        id: uuid::Uuid::now_v7().to_string(),
    };
    for _ in 0..3 {
        let missing = h.viewer.leads().get(missing.clone()).await.unwrap_err();
        assert_eq!(reason(&missing), "LEAD_NOT_FOUND");
    }
    for _ in 0..2 {
        let convert = proto::ConvertLeadRequest {
            id: lead.id.clone(),
            ..Default::default()
        };
        let refused = h.viewer.leads().convert(convert).await.unwrap_err();
        assert_eq!(reason(&refused), "ROLE_INSUFFICIENT");
    }
    // The names of unknown RPCs are the client's to choose, and are no labels.
    for name in ["A", "B", "C"] {
        let path = format!("/leadsmith.v1.LeadService/{name}").parse().unwrap();
        let mut client = tonic::client::Grpc::new(h.channel());
        client.ready().await.unwrap();
        let request = tonic::Request::new(proto::GetLeadRequest::default());
        let codec = tonic_prost::ProstCodec::<_, proto::GetLeadResponse>::default();
        client.unary(request, path, codec).await.unwrap_err();
    }
    let after = scrape(&h).await;
    let more = |rpc: &str, code| handled(&after, rpc, code) - handled(&before, rpc, code);
    let get = format!("{LEADS}/Get");
    assert_eq!(more(&get, "OK"), 50.0);
    assert_eq!(more(&get, "NOT_FOUND"), 3.0);
    assert_eq!(more(&format!("{LEADS}/Create"), "OK"), 1.0);
    assert_eq!(more(&format!("{LEADS}/Convert"), "PERMISSION_DENIED"), 2.0);
    assert_eq!(more("unknown/unknown", "UNAUTHENTICATED"), 3.0);
    let errors = |name| after.value("leadsmith_errors_total", &[("reason", name)]);
    assert_eq!(errors("LEAD_NOT_FOUND"), 3.0);
    assert_eq!(errors("ROLE_INSUFFICIENT"), 2.0);
    let of_get = [("grpc_method", "Get"), ("grpc_service", LEADS)];
    assert_eq!(
        after.value("grpc_server_handling_seconds_count", &of_get),
        53.0
    );
    assert_eq!(after.value("grpc_server_started_total", &of_get), 53.0);
    let seconds = after.value("grpc_server_handling_seconds_sum", &of_get);
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");

    // What is read, not counted.
    assert_eq!(
        after.value("leadsmith_limit_allowed", &[("limit", "calls")]),
        1_000.0
    );
    assert_eq!(
        after.value("leadsmith_limit_used", &[("limit", "calls")]),
        0.0
    );
    assert!(after.value("leadsmith_limit_used", &[("limit", "connections")]) >= 1.0);
    assert!(after.value("leadsmith_database_size_bytes", &[]) > 100_000.0);
    assert_eq!(after.value("leadsmith_database_up", &[]), 1.0);
    assert!(after.value("leadsmith_commit_batch_changes_count", &[]) >= 1.0);
    assert!(
        after.value(
            "leadsmith_identity_cache_lookups_total",
            &[("result", "hit")]
        ) >= 50.0
    );
    assert_eq!(
        after.value("leadsmith_password_hash_seconds_count", &[]),
        1.0
    );
    eventually("retention has run", async || {
        scrape(&h)
            .await
            .value("leadsmith_retention_last_success_timestamp_seconds", &[])
            > 0.0
    })
    .await;
    // A stream counts when it ends.
    let watch = async || {
        let watched = handled(
            &scrape(&h).await,
            "grpc.health.v1.Health/Watch",
            "CANCELLED",
        );
        watched as usize
    };
    let mut client = HealthClient::new(h.channel());
    let mut stream = client
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap();
    assert_eq!(watch().await, 0);
    drop(stream);
    eventually("the stream ends", async || watch().await == 1).await;
    every_metric_is_in_the_manual(&scrape(&h).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_agree_with_the_calls_on_sqlite() {
    counts_agree(start(Backend::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_agree_with_the_calls_on_postgres() {
    counts_agree(start(Backend::Postgres).await).await;
}

/// The table of the manual has the metrics of a server, with their types and labels, and no other.
fn every_metric_is_in_the_manual(scrape: &Scrape) {
    let manual = format!("{}/docs/src/metrics.md", crate::ROOT);
    let manual = std::fs::read_to_string(manual).unwrap();
    let words = |cell: &str| {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let header = "| Metric | Type | Labels | Meaning |";
    let rows = manual.lines().skip_while(|line| *line != header).skip(2);
    let mut listed = Vec::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let mut labels = words(cells[2]);
        labels.sort();
        listed.push((
            words(cells[0])[0].clone(),
            cells[1].trim().to_owned(),
            labels,
        ));
    }
    listed.sort();
    let mut shown = scrape.families();
    shown.sort();
    assert_eq!(listed, shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_wrong() {
    let h = start(Backend::Sqlite).await;
    h.sales.create_lead("Lovelace").await;
    let (_, body) = get(&h, "/metrics").await;
    // The same rules, for machines without promtool.
    Scrape::parse(&body).check();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, &body).unwrap();
    let promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output();
    match promtool {
        Ok(checked) => assert!(checked.status.success(), "{checked:?}"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_other_paths() {
    let h = start(Backend::Sqlite).await;
    let address = h.server.admin_address.unwrap();
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&h, path).await, (StatusCode::OK, "ok\n".to_owned()));
    }
    for path in ["/", "/metrics/", "/metrics2", "/debug"] {
        assert_eq!(get(&h, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (code, kind, _) = request(address, Method::GET, "/metrics?name=x").await;
    assert_eq!(
        (code, kind.as_str()),
        (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8")
    );
    let (code, _, body) = request(address, Method::HEAD, "/metrics").await;
    assert_eq!((code, body.as_str()), (StatusCode::OK, ""));
    for method in [Method::POST, Method::DELETE] {
        let (code, _, _) = request(address, method, "/metrics").await;
        assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED);
    }
    // The database goes away: not ready, but alive, and the metrics say so.
    let moved = h.database.folder.path().join("moved.db");
    std::fs::rename(h.database.folder.path().join("test.db"), &moved).unwrap();
    eventually("it is not ready", async || {
        get(&h, "/readyz").await.0 == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert_eq!(get(&h, "/livez").await.0, StatusCode::OK);
    assert_eq!(get(&h, "/metrics").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_huge_clients_are_closed_and_harm_nobody() {
    let h = start(Backend::Sqlite).await;
    let address = h.server.admin_address.unwrap();
    // Clients that send nothing, or a part of a request, hold every connection.
    let mut slow = Vec::new();
    for index in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if index % 2 == 0 {
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n")
                .await
                .unwrap();
        }
        slow.push(stream);
    }
    let started = Instant::now();
    let lead = h.sales.create_lead("Lovelace").await;
    sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "calls are served meanwhile: {lead:?}"
    );
    // They are closed, and the listener serves again.
    for mut stream in slow {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut rest));
        // An error is a connection that was reset.
        let _ = closed.await.expect("closed in time");
    }
    eventually("it serves again", async || {
        get(&h, "/livez").await.0 == StatusCode::OK
    })
    .await;
    // Headers without an end, and a body that nobody asked for.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nx: ")
        .await
        .unwrap();
    let mut sent = 0;
    while sent < 64 << 20 {
        match stream.write(&[b'a'; 16 * 1024]).await {
            Ok(written) if written > 0 => sent += written,
            _ => break,
        }
    }
    assert!(
        sent < 16 << 20,
        "it stopped reading early, not after {sent} bytes"
    );
    let (code, _) = get(&h, "/metrics").await;
    assert_eq!(code, StatusCode::OK);
}

#[test]
fn every_rpc_has_a_place() {
    assert!(
        policy::RPCS.len() < PLACES,
        "raise PLACES in src/metrics/calls.rs"
    );
}

#[tokio::test]
async fn by_default_the_listener_is_on_loopback_unless_its_port_is_in_use() {
    // Another server of these tests may have the port.
    let _holder = TcpListener::bind("127.0.0.1:9464").await;
    let second = leadsmith("serve").env("LEADSMITH_ADMIN_LISTEN", "auto");
    let second = second.serve().await;
    assert!(
        second.log().contains("the metrics are not served"),
        "{}",
        second.log()
    );
    let chosen = leadsmith("serve --listen 127.0.0.1:0 --admin-listen 127.0.0.1:9464");
    let ended = chosen.env("LEADSMITH_LOG", "error").run().await;
    ended.refused("--admin-listen");
    let wrong = leadsmith("config --admin-listen 9464").run().await;
    wrong.misused("127.0.0.1:9464");
}

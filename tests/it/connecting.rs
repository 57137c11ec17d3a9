//! PostgreSQL servers that cannot be used: each error names the host, the port and the database, the cause, and what to
//! do.

use std::sync::Arc;
use std::time::Duration;

use rcgen::SanType;
use sea_orm::ConnectionTrait as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use uuid::Uuid;

use crate::harness::{Backend, TestDatabase, eventually};
use crate::program::leadsmith;
use crate::tls::Authority;

const SECRET: &str = "hunter2hunter2";

/// A URL, the exit code, and what the error says.
type Case = (String, i32, Vec<String>);

async fn check(cases: Vec<Case>) {
    let mut runs = JoinSet::new();
    for (url, code, parts) in cases {
        runs.spawn(async move {
            let run = leadsmith("migrate status").database(&url).quiet();
            (url, code, parts, run.run().await)
        });
    }
    while let Some(run) = runs.join_next().await {
        let (url, code, parts, ended) = run.unwrap();
        assert_eq!(ended.code, Some(code), "{url}: {ended:?}");
        for part in parts {
            assert!(ended.err.contains(&part), "{url}: {part}: {ended:?}");
        }
        assert!(!ended.err.contains(SECRET), "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_says_which_obstacle_it_is() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let db = database.connect().await;
    let role = format!("it_{}", Uuid::now_v7().simple());
    let roles = ["refused", "limited", "locked"].map(|kind| format!("{role}_{kind}"));
    let [refused, limited, locked] = &roles;
    let (rest, name) = database.url.rsplit_once('/').unwrap();
    let (_, host) = rest.rsplit_once('@').unwrap();
    for sql in [
        format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"),
        format!("CREATE ROLE {refused} LOGIN PASSWORD '{SECRET}'"),
        format!("CREATE ROLE {limited} LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 0"),
        format!("GRANT CONNECT ON DATABASE {name} TO {limited}"),
        format!("CREATE ROLE {locked} NOLOGIN PASSWORD '{SECRET}'"),
    ] {
        db.execute_unprepared(&sql).await.unwrap();
    }
    let url = |user: &str, database: &str| {
        format!("postgres://{user}:{SECRET}@{host}/{database}?sslmode=disable")
    };
    let place = format!("the database {name} at {host} cannot be opened (");
    let because = |why: &str, remedy: &str| vec![place.clone(), why.to_owned(), remedy.to_owned()];
    let (_, port) = host.rsplit_once(':').unwrap();
    check(vec![
        (
            url("nobody", name),
            69,
            because(
                "password authentication failed",
                "check the password of nobody",
            ),
        ),
        (
            url(locked, name),
            69,
            because(
                "not permitted to log in",
                &format!("ALTER ROLE {locked} LOGIN"),
            ),
        ),
        (
            url(limited, name),
            69,
            because("too many connections for role", "raise max_connections"),
        ),
        (
            url(refused, name),
            69,
            because(
                "permission denied for database",
                &format!("GRANT CONNECT ON DATABASE {name}"),
            ),
        ),
        (
            format!("{rest}/there_is_none"),
            69,
            vec![
                format!("the database there_is_none at {host} cannot be opened ("),
                "create the database there_is_none with ENCODING 'UTF8'".to_owned(),
            ],
        ),
        (
            format!("postgres://u:{SECRET}@nowhere.invalid:5433/leads"),
            69,
            texts([
                "the database leads at nowhere.invalid:5433 cannot be opened (",
                "the name of the host cannot be resolved",
                "the DNS of this machine",
            ]),
        ),
        (
            format!("postgres://u:{SECRET}@127.0.0.1:1/leads"),
            69,
            texts([
                "leads at 127.0.0.1:1 ",
                "Connection refused",
                "listen_addresses",
            ]),
        ),
        (
            format!("postgres://u:{SECRET}@[::1]:1/leads"),
            69,
            texts([
                "leads at [::1]:1 ",
                "Connection refused",
                "listen_addresses",
            ]),
        ),
        (
            format!("postgres://u:{SECRET}@localhost/leads?host=/nowhere&port=5433"),
            69,
            texts([
                "leads at /nowhere/.s.PGSQL.5433 ",
                "unix_socket_directories",
            ]),
        ),
        (
            format!("postgres://u:{SECRET}@127.0.0.1:1,nowhere.invalid/leads"),
            69,
            texts([
                "127.0.0.1:1 cannot",
                "nowhere.invalid:5432 cannot",
                "Connection refused",
            ]),
        ),
        (
            format!("postgres://u:{SECRET}@localhost:{port}/leads?sslmod=disable"),
            2,
            texts(["has the unknown parameter sslmod: did you mean sslmode?"]),
        ),
        (
            format!("postgres://u:{SECRET}@localhost:{port}/leads?channel_binding=require"),
            2,
            texts(["has the parameter channel_binding, which Leadsmith does not support"]),
        ),
    ])
    .await;
    for role in &roles {
        let sql = format!("DROP OWNED BY {role}; DROP ROLE {role}");
        db.execute_unprepared(&sql).await.unwrap();
    }
}

/// What a server that is not PostgreSQL does with a connection.
#[derive(Clone)]
enum Stranger {
    Silent,
    Closes,
    Speaks(&'static [u8]),
    Tls(Arc<ServerConfig>),
}

/// Starts one, and returns its port.
async fn start(stranger: Stranger) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let stranger = stranger.clone();
            tokio::spawn(async move {
                let mut request = [0; 8];
                let _ = client.read_exact(&mut request).await;
                match stranger {
                    Stranger::Silent => tokio::time::sleep(Duration::from_secs(60)).await,
                    Stranger::Closes => {}
                    Stranger::Speaks(bytes) => {
                        let _ = client.write_all(bytes).await;
                        let _ = client.read(&mut request).await;
                    }
                    Stranger::Tls(config) => {
                        let _ = client.write_all(b"S").await;
                        let _ = TlsAcceptor::from(config).accept(client).await;
                    }
                }
            });
        }
    });
    port
}

fn tls((certificate, key): (String, String)) -> Stranger {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Stranger::Tls(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_the_one_meant_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let ca = ca.display();
    let name = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let right = start(tls(authority.server())).await;
    let foreign = start(tls(other.server())).await;
    let misnamed = start(tls(authority.sign(name("db.example"), false))).await;
    let expired = start(tls(authority.sign(name("localhost"), true))).await;
    let plain = start(Stranger::Speaks(b"N")).await;
    let http = start(Stranger::Speaks(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let silent = start(Stranger::Silent).await;
    let closing = start(Stranger::Closes).await;
    let url = |port: u16, parameters: &str| {
        format!("postgres://u:{SECRET}@localhost:{port}/leads{parameters}")
    };
    let checked = format!("?sslrootcert={ca}");
    let case = |port: u16, parameters: &str, why: &str, remedy: &str| {
        let place = format!("the database leads at localhost:{port} cannot be opened (");
        (url(port, parameters), 69, texts([&place, why, remedy]))
    };
    check(vec![
        case(foreign, &checked, "TLS failed: ", "sslrootcert=FILE"),
        case(
            misnamed,
            &checked,
            "TLS failed: ",
            "a subject alternative name",
        ),
        case(
            expired,
            &checked,
            "TLS failed: ",
            "renew the server's certificate",
        ),
        case(
            plain,
            &checked,
            "server does not support TLS",
            "set ssl = on at the server",
        ),
        // The handshake succeeds, and the connection ends afterwards.
        case(right, &checked, "", "the connection was closed"),
        case(
            http,
            "",
            "does not speak PostgreSQL's protocol",
            "check the port",
        ),
        case(silent, "", "it did not respond within", "no firewall"),
        case(closing, "", "", "the connection was closed"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_becomes_unsafe_is_not_used() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let (_, name) = database.url.rsplit_once('/').unwrap();
    let mut server = leadsmith("serve").database(&database.url).serve().await;
    let db = database.connect().await;
    let set = |value: &str| format!("ALTER DATABASE {name} SET synchronous_commit = {value}");
    let health = async || {
        let check = leadsmith(&format!("healthcheck --listen {}", server.address));
        check.quiet().run().await.code == Some(0)
    };
    db.execute_unprepared(&set("off")).await.unwrap();
    // The sessions that exist keep their setting; new ones get the new one.
    database.end_sessions().await;
    eventually("it is not healthy", async || !health().await).await;
    eventually("the log says why", async || {
        server
            .log()
            .contains("synchronous_commit = off, so a confirmed change can be lost")
    })
    .await;
    let db = database.connect().await;
    db.execute_unprepared(&set("on")).await.unwrap();
    eventually("it is healthy", health).await;
    server.terminate();
    server.ended(Duration::from_secs(20)).await;
}

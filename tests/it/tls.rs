//! TLS: clients that use it are admitted, clients without it or with a wrong certificate are rejected, and new
//! files are loaded without a restart.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leadsmith::app::{self, Running};
use leadsmith::config::{ClientCertificates, TlsSettings};
use leadsmith::core::clock::Clock;
use leadsmith::core::role::Role;
use leadsmith_proto::auth_service_client::AuthServiceClient;
use leadsmith_proto::{WhoAmIRequest, WhoAmIResponse};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Backend, TestDatabase, console, eventually, reason};
use crate::program::leadsmith;

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate with its key, for these names, expired or not.
    pub fn sign(&self, names: Vec<SanType>, expired: bool) -> (String, String) {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = names;
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if expired {
            parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn server(&self) -> (String, String) {
        self.sign(
            vec![SanType::DnsName("localhost".try_into().unwrap())],
            false,
        )
    }

    pub fn client(&self, uri: &str) -> (String, String) {
        self.sign(vec![SanType::URI(uri.try_into().unwrap())], false)
    }
}

struct Files {
    folder: TempDir,
    settings: TlsSettings,
}

impl Files {
    fn new(server: &Authority, clients: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        let settings = TlsSettings {
            tls_certificate: Some(path("certificate.pem")),
            tls_key: Some(path("key.pem")),
            tls_client_ca: clients.map(|authority| {
                fs::write(path("clients.pem"), authority.pem()).unwrap();
                path("clients.pem")
            }),
            tls_client_certificates: ClientCertificates::Required,
        };
        let files = Self { folder, settings };
        files.put(server.server());
        files
    }

    fn put(&self, (certificate, key): (String, String)) {
        fs::write(self.folder.path().join("certificate.pem"), certificate).unwrap();
        fs::write(self.folder.path().join("key.pem"), key).unwrap();
    }
}

async fn connect(
    server: &Running,
    authority: &Authority,
    identity: Option<(String, String)>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Endpoint::from_shared(format!("https://{}", server.address))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
}

async fn who_am_i(channel: Channel, token: &str) -> Result<WhoAmIResponse, Status> {
    let authorization = match token {
        "" => String::new(),
        token => format!("Bearer {token}"),
    };
    who_says(channel, &authorization).await
}

/// With this header, unless it is empty.
async fn who_says(channel: Channel, authorization: &str) -> Result<WhoAmIResponse, Status> {
    let mut request = Request::new(WhoAmIRequest {});
    if !authorization.is_empty() {
        let value = authorization.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let answer = AuthServiceClient::new(channel).who_am_i(request).await;
    answer.map(tonic::Response::into_inner)
}

/// Whether the server rejects the connection. The client may notice this only at its first call. An error with a
/// reason comes from the service, so the connection was admitted.
async fn is_refused(channel: Result<Channel, tonic::transport::Error>) -> bool {
    match channel {
        Err(_) => true,
        Ok(channel) => {
            let answer = who_am_i(channel, "").await.unwrap_err();
            answer.get_error_details().error_info().is_none()
        }
    }
}

async fn start(files: &Files) -> (TestDatabase, Running) {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let mut settings = database.settings();
    settings.tls = files.settings.clone();
    let server = app::start(&settings, Clock::default()).await.unwrap();
    (database, server)
}

async fn token(server: &Running) -> String {
    let console = console(&server.app.db);
    console.create_account("crm", Role::Sales).await.unwrap();
    let (_, key) = console.create_key("crm").await.unwrap();
    key.expose().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_lets_in_who_trusts_the_authority_and_nobody_in_clear() {
    let authority = Authority::new();
    let files = Files::new(&authority, None);
    let (_database, server) = start(&files).await;
    let token = token(&server).await;

    let channel = connect(&server, &authority, None).await.unwrap();
    let who = who_am_i(channel, &token).await.unwrap();
    assert_eq!(who.principal.unwrap().name, "crm");

    assert!(connect(&server, &Authority::new(), None).await.is_err());
    let clear = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    assert!(is_refused(clear.connect().await).await, "in clear");

    let check = leadsmith(&format!("healthcheck --listen {}", server.address));
    assert_eq!(check.run().await.code, Some(1), "in clear");
    fs::write(files.folder.path().join("ca.pem"), authority.pem()).unwrap();
    let ca = files.folder.path().join("ca.pem");
    let address = server.address;
    let check = leadsmith(&format!(
        "healthcheck --listen {address} --tls-ca {}",
        ca.display()
    ));
    let ended = check.run().await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "SERVING\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_stands_for_its_service_account() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (_database, server) = start(&Files::new(&authority, Some(&clients))).await;
    let token = token(&server).await;
    let console = console(&server.app.db);
    let shown = clients.client("spiffe://example.org/crm");

    // A valid certificate whose name is not registered.
    let channel = connect(&server, &authority, Some(shown.clone()))
        .await
        .unwrap();
    let refused = who_am_i(channel.clone(), "").await.unwrap_err();
    assert_eq!(reason(&refused), "TOKEN_INVALID");

    let name = Some("URI:spiffe://example.org/crm");
    console.set_certificate("crm", name).await.unwrap();
    // The rejection is cached for one second.
    eventually("it is accepted", async || {
        match who_am_i(channel.clone(), "").await {
            Ok(who) => who.principal.unwrap().name == "crm",
            Err(refused) => {
                assert_eq!(reason(&refused), "TOKEN_INVALID");
                false
            }
        }
    })
    .await;
    // A token takes precedence over the certificate: a valid certificate does not make up for an invalid token.
    assert!(who_am_i(channel.clone(), &token).await.is_ok());
    for wrong in ["Bearer lsk_wrong", "Bearer", "Basic YTpi", &token] {
        let refused = who_says(channel.clone(), wrong).await.unwrap_err();
        assert_eq!(reason(&refused), "TOKEN_INVALID", "{wrong}");
    }

    console.set_certificate("crm", None).await.unwrap();
    let begun = Instant::now();
    while who_am_i(channel.clone(), "").await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "still accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    for (wrong, why) in [
        (None, "no certificate"),
        (
            Some(Authority::new().client("spiffe://example.org/crm")),
            "another authority",
        ),
        (
            Some(clients.sign(
                vec![SanType::URI("spiffe://example.org/crm".try_into().unwrap())],
                true,
            )),
            "expired",
        ),
    ] {
        assert!(
            is_refused(connect(&server, &authority, wrong).await).await,
            "{why}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_shows_its_certificate_anew() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (_database, server) = start(&Files::new(&authority, Some(&clients))).await;
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(der(&authority.pem())).unwrap();
    let (certificate, key) = clients.client("spiffe://example.org/crm");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    for version in [&TLS12, &TLS13] {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone());
        let chain = vec![der(&certificate)];
        let mut config = builder
            .with_client_auth_cert(chain, key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        // It would store a session of the first connection, if the server offered one.
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..2 {
            let stream = TcpStream::connect(server.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            // The server's settings. Session tickets would be sent before them.
            stream.read_u8().await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_files_are_taken_without_a_restart_and_broken_ones_are_not() {
    let (before, after) = (Authority::new(), Authority::new());
    let files = Files::new(&before, None);
    let (_database, server) = start(&files).await;
    files.put(("half a file".into(), "and nothing else".into()));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(
        connect(&server, &before, None).await.is_ok(),
        "the old one serves"
    );

    files.put(after.server());
    let begun = Instant::now();
    while connect(&server, &after, None).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15), "not taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(
        connect(&server, &before, None).await.is_err(),
        "the old one is gone"
    );
}

#[tokio::test]
async fn settings_that_would_send_passwords_in_clear_are_refused() {
    let refused = async |arguments: &str, why: &str| {
        let ended = leadsmith(arguments).run().await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains(why), "{ended:?}");
    };
    refused("serve --listen 0.0.0.0:0", "--insecure").await;
    refused(
        "serve --listen 127.0.0.1:0 --tls-certificate x.pem",
        "--tls-key",
    )
    .await;
    refused(
        "serve --listen 127.0.0.1:0 --tls-client-ca x.pem",
        "--tls-certificate",
    )
    .await;
    let files = "--tls-certificate missing.pem --tls-key missing.key";
    refused(
        &format!("serve --listen 127.0.0.1:0 {files}"),
        "missing.pem cannot be read",
    )
    .await;
    let ended = leadsmith("config --listen 0.0.0.0:1 --insecure")
        .run()
        .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

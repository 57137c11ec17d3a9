//! The health check of a server with TLS: it trusts the certificate that the server's own settings name.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{Backend, TestDatabase};
use crate::program::{Program, Serving, leadsmith};
use crate::tls::Authority;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, (certificate, key): (String, String)) {
        fs::write(self.path(&format!("{name}.pem")), certificate).unwrap();
        fs::write(self.path(&format!("{name}.key")), key).unwrap();
    }

    /// With the settings of a server whose certificate has this name.
    fn with_tls(&self, run: Program, name: &str) -> Program {
        let path = |ending: &str| self.path(&format!("{name}.{ending}"));
        run.env("LEADSMITH_TLS_CERTIFICATE", path("pem").to_str().unwrap())
            .env("LEADSMITH_TLS_KEY", path("key").to_str().unwrap())
    }

    async fn serve(&self, name: &str, flags: &str) -> (TestDatabase, Serving) {
        let database = TestDatabase::create(Backend::Sqlite).await;
        let serve = leadsmith(&format!("serve {flags}")).database(&database.url);
        let server = self.with_tls(serve, name).serve().await;
        (database, server)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_of_the_server_are_enough() {
    let files = Files::new();
    let authority = Authority::new();
    files.put("signed", authority.server());
    files.put("expired", authority.sign(Vec::new(), true));
    let own = rcgen::generate_simple_self_signed(["leads.example".to_owned()]).unwrap();
    files.put("own", (own.cert.pem(), own.signing_key.serialize_pem()));
    for name in ["signed", "expired", "own"] {
        let (_database, server) = files.serve(name, "").await;
        let check = |flags: &str| {
            leadsmith(&format!("healthcheck --listen {} {flags}", server.address)).quiet()
        };
        for service in [
            "",
            "--service liveness",
            "--service leadsmith.v1.LeadService",
        ] {
            let ended = files.with_tls(check(service), name).run().await;
            assert_eq!(ended.done(), "SERVING\n", "{name} {service}");
        }
        let unknown = files.with_tls(check("--service nothing"), name).run().await;
        assert_eq!(unknown.code, Some(1));
        unknown.refused("the server has no service \"nothing\"");
        // Another certificate, also of the same authority, is not the server's.
        let other = if name == "own" { "signed" } else { "own" };
        let ended = files.with_tls(check(""), other).run().await;
        ended.refused("the server has another certificate than --tls-certificate");
        check("")
            .run()
            .await
            .refused("if it uses TLS, set --tls-certificate or --tls-ca");
        let missing = check("--tls-certificate missing.pem").run().await;
        missing.refused("the file missing.pem cannot be read");
        let empty = files.path("empty.pem");
        fs::write(&empty, "").unwrap();
        let ended = check(&format!("--tls-certificate {}", empty.display()))
            .run()
            .await;
        ended.refused("contains no certificate in PEM format");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_certificates_gets_the_one_of_the_health_check() {
    let files = Files::new();
    let (authority, clients) = (Authority::new(), Authority::new());
    files.put("server", authority.server());
    files.put("client", clients.client("spiffe://example/health"));
    fs::write(files.path("clients.pem"), clients.pem()).unwrap();
    let flags = format!("--tls-client-ca {}", files.path("clients.pem").display());
    let (_database, server) = files.serve("server", &flags).await;
    let check = |flags: &str| {
        let run = leadsmith(&format!("healthcheck --listen {} {flags}", server.address));
        files.with_tls(run.quiet(), "server")
    };
    check("")
        .run()
        .await
        .refused("requires a client certificate, set --tls-client-certificate");
    let identity = format!(
        "--tls-client-certificate {} --tls-client-key {}",
        files.path("client.pem").display(),
        files.path("client.key").display()
    );
    assert_eq!(check(&identity).run().await.done(), "SERVING\n");
    check("--tls-client-key x.key")
        .run()
        .await
        .refused("must be set together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_not_taken_for_one_with_it() {
    let files = Files::new();
    files.put("server", Authority::new().server());
    let database = TestDatabase::create(Backend::Sqlite).await;
    let server = leadsmith("serve").database(&database.url).serve().await;
    let check = leadsmith(&format!("healthcheck --listen {}", server.address)).quiet();
    let ended = files.with_tls(check, "server").run().await;
    ended.refused("the server does not use TLS: unset --tls-certificate and --tls-ca");
}

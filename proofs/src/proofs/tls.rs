//! TLS: who speaks an old version, plain text, or shows the wrong certificate is refused. In the long
//! form testssl.sh (Debian's package of that name) looks at the port too.
//!
//! Its seeded bug asks nobody for a certificate.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use tokio::process::Command;

use crate::harness::client::Caller;
use crate::harness::context::Context;
use crate::harness::report::Findings;

const PATIENCE: Duration = Duration::from_secs(10);
const NAME: &str = "URI:spiffe://proofs/first";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        Ok(Self(issuer))
    }

    /// Writes NAME.pem and NAME.key.
    fn sign(&self, folder: &Path, name: &str, san: SanType, expired: bool) -> Result<()> {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = vec![san];
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if expired {
            parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.0)?;
        fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let url = desk.database.url();
    let set = [
        "service-account",
        "set-certificate",
        "--name",
        "first",
        "--certificate-name",
        NAME,
    ];
    context.program.command(&url, &set)?;

    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (server, clients, strangers) = (Authority::new()?, Authority::new()?, Authority::new()?);
    fs::write(path("server-ca.pem"), server.0.pem())?;
    fs::write(path("client-ca.pem"), clients.0.pem())?;
    server.sign(
        folder.path(),
        "server",
        SanType::DnsName("localhost".try_into()?),
        false,
    )?;
    let uri = || -> Result<SanType> { Ok(SanType::URI("spiffe://proofs/first".try_into()?)) };
    clients.sign(folder.path(), "right", uri()?, false)?;
    clients.sign(folder.path(), "expired", uri()?, true)?;
    strangers.sign(folder.path(), "stranger", uri()?, false)?;

    let (certificate, key, ca) = (
        path("server.pem"),
        path("server.key"),
        path("client-ca.pem"),
    );
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key];
    let mutual = [&tls[..], &["--tls-client-ca", &ca]].concat();
    let open = context.serve(&desk, &tls).await?;
    let closed = context.serve(&desk, &mutual).await?;

    // Plain text.
    let plain = async {
        let caller = Caller::connect(&open.address, "").await?;
        anyhow::Ok(caller.get("01900000-0000-7000-8000-000000000001").await)
    };
    let refused = match tokio::time::timeout(PATIENCE, plain).await {
        Ok(Ok(Err(status))) => crate::harness::client::reason(&status).is_empty(),
        Ok(Ok(Ok(_))) => false,
        Ok(Err(_)) | Err(_) => true,
    };
    findings.expect(refused, || {
        "plain text on the port for TLS is answered".into()
    });

    // Versions.
    for (version, taken) in [
        ("-tls1", false),
        ("-tls1_1", false),
        ("-tls1_2", true),
        ("-tls1_3", true),
    ] {
        let spoken = handshake(&open.address, &[version]).await?;
        findings.expect(spoken == taken, || {
            format!("{version}: {}", ["refused", "taken"][usize::from(spoken)])
        });
    }

    // Certificates of clients.
    let mut seen = 0;
    for (shown, taken) in [
        (None, false),
        (Some("stranger"), false),
        (Some("expired"), false),
        (Some("right"), true),
    ] {
        let answered = health(
            context,
            &closed.address,
            &path("server-ca.pem"),
            shown.map(&path),
        )?;
        let who = shown.unwrap_or("none");
        findings.expect(answered == taken, || {
            format!(
                "client certificate {who}: {}",
                ["refused", "let in"][usize::from(answered)]
            )
        });
        seen += 1;
    }
    findings.fact("client certificates tried", seen);

    if context.size(false, true) {
        let told = testssl(&open.address, &mut findings).await?;
        findings.fact("testssl.sh", told);
    }
    findings.finish()
}

/// Whether a handshake comes about.
async fn handshake(address: &str, arguments: &[&str]) -> Result<bool> {
    let mut command = Command::new("openssl");
    // Old versions need old ciphers; level 0 lets this client speak them.
    command
        .args([
            "s_client",
            "-connect",
            address,
            "-alpn",
            "h2",
            "-cipher",
            "ALL:@SECLEVEL=0",
        ])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .context("openssl takes too long")?
        .context("this proof needs openssl: install Debian's package of that name")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(said.contains("Cipher is ") && !said.contains("Cipher is (NONE)"))
}

/// Whether the health is told to who shows this certificate.
fn health(context: &Context<'_>, address: &str, ca: &str, shown: Option<String>) -> Result<bool> {
    let mut arguments = vec!["healthcheck".to_owned(), "--listen".into(), address.into()];
    arguments.extend(["--tls-ca".into(), ca.into()]);
    if let Some(name) = shown {
        arguments.extend(["--tls-client-certificate".into(), format!("{name}.pem")]);
        arguments.extend(["--tls-client-key".into(), format!("{name}.key")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Ok(context
        .program
        .command("sqlite:unused.db", &arguments)
        .is_ok())
}

/// Has testssl.sh look, and counts what it holds for grave.
async fn testssl(address: &str, findings: &mut Findings) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("testssl.csv");
    let status = Command::new("testssl")
        .args([
            "--quiet",
            "--color",
            "0",
            "--protocols",
            "--server-defaults",
            "--vulnerable",
        ])
        .args(["--severity", "MEDIUM", "--csvfile"])
        .arg(&file)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = tokio::time::timeout(Duration::from_secs(600), status).await;
    let Ok(Ok(_)) = status else {
        return Ok("not run: install Debian's package testssl.sh".into());
    };
    let text = fs::read_to_string(&file)?;
    // What is ours by choice: a certificate that no public authority signed, for a name without DNS.
    let grave: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("\"HIGH\"") || line.contains("\"CRITICAL\""))
        .filter(|line| {
            ![
                "cert_trust",
                "cert_chain",
                "cert_revocation",
                "cert_caIssuers",
            ]
            .iter()
            .any(|own| line.contains(own))
        })
        .collect();
    for line in &grave {
        findings.broke(format!("testssl.sh: {line}"));
    }
    Ok(format!("{} grave", grave.len()))
}

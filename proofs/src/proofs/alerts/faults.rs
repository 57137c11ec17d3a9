//! The faults. Each one is injected, lasts until its alerts fire, is corrected, and must leave no alert firing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Stage;
use super::load::sign_in;
use crate::harness::client::Caller;
use crate::harness::context::{OPERATOR, PASSWORD};
use crate::harness::program::Serving;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Upper limits, so that a loop that is never stopped ends.
const ROUNDS: usize = 10_000;
/// How long all leads are locked, again and again: less than a call waits for a lock.
const LOCKED: &str = "BEGIN; LOCK TABLE leads; SELECT pg_sleep(0.7); COMMIT";
const UNLOCKED: Duration = Duration::from_millis(50);
/// Concurrent sign-ins with the right password.
const SIGN_INS: usize = 40;
/// Of the 60 connections that the server allows.
const CONNECTIONS: usize = 46;
const NO_DELETE: &str = "
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
    CREATE TRIGGER fail BEFORE DELETE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION fail()";
const NO_ORDER: &str = "
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
    CREATE TRIGGER fail BEFORE INSERT ON orders FOR EACH STATEMENT WHEN (random() < 0.05)
        EXECUTE FUNCTION fail()";
const CORRECTED: &str = "DROP FUNCTION fail CASCADE";

impl Stage<'_> {
    /// PostgreSQL is stopped.
    pub async fn outage(&mut self) -> Result<()> {
        self.cluster.end("immediate")?;
        self.fires(&["LeadsmithDatabaseUnavailable", "LeadsmithErrorRate"])
            .await?;
        self.cluster.begin()?;
        self.clear("the outage").await
    }

    /// PostgreSQL responds but accepts no changes.
    pub async fn standby(&mut self) -> Result<()> {
        self.cluster.begin_as_standby()?;
        self.fires(&["LeadsmithNotReady"]).await?;
        self.cluster.admin("SELECT pg_promote()")?;
        self.clear("the promotion of the standby").await
    }

    /// An error of the database that has no meaning for the service.
    pub async fn internal_errors(&mut self) -> Result<()> {
        self.execute(NO_ORDER).await?;
        self.fires(&["LeadsmithInternalErrors"]).await?;
        self.execute(CORRECTED).await?;
        self.clear("the internal errors").await
    }

    /// Expired data cannot be deleted.
    pub async fn retention(&mut self) -> Result<()> {
        self.execute(NO_DELETE).await?;
        self.fires(&["LeadsmithRetentionStandsStill"]).await?;
        self.execute(CORRECTED).await?;
        self.clear("retention stood still").await
    }

    /// Calls wait for locks.
    pub async fn slow_database(&mut self) -> Result<()> {
        let connection = self.fixture.database.connect().await?;
        let mut locking = JoinSet::new();
        locking.spawn(async move {
            for _ in 0..ROUNDS {
                connection.execute(LOCKED).await?;
                tokio::time::sleep(UNLOCKED).await;
            }
            anyhow::Ok(())
        });
        self.fires(&["LeadsmithLatencyHigh", "LeadsmithCommitQueueGrows"])
            .await?;
        locking.shutdown().await;
        self.clear("the locks").await
    }

    /// Somebody guesses passwords.
    pub async fn guesses(&mut self, server: &Serving) -> Result<()> {
        let guesser = Caller::connect_from(loopback(9), &server.address).await?;
        let guessing = repeat(1, move |round| {
            let guesser = guesser.clone();
            async move {
                let _ = sign_in(&guesser, "somebody", &format!("a wrong guess {round}")).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        self.fires(&["LeadsmithLockouts"]).await?;
        drop(guessing);
        self.clear("the guesses").await
    }

    /// A program signs in for each of its calls.
    pub async fn sign_ins(&mut self, server: &Serving) -> Result<()> {
        let caller = Caller::connect_from(loopback(10), &server.address).await?;
        let signing_in = repeat(SIGN_INS, move |_| {
            let caller = caller.clone();
            async move {
                if sign_in(&caller, OPERATOR, PASSWORD).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        self.fires(&["LeadsmithPasswordQueueGrows"]).await?;
        drop(signing_in);
        self.clear("the sign-ins").await
    }

    /// Nearly all connections are in use, then more are opened than there may be.
    pub async fn connections(&mut self, server: &Serving) -> Result<()> {
        let idle = self.fixture.callers(server, CONNECTIONS).await?;
        self.fires(&["LeadsmithLimitNearlyReached"]).await?;
        let address = server.address.clone();
        let opening = repeat(1, move |_| {
            let address = address.clone();
            async move {
                let mut open = Vec::new();
                for _ in 0..CONNECTIONS {
                    open.push(TcpStream::connect(&address).await);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        self.fires(&["LeadsmithLimitRefuses"]).await?;
        drop((idle, opening));
        self.clear("too many connections").await
    }

    /// The certificate is not renewed in time.
    pub async fn certificate(&mut self, certificate: &Certificate) -> Result<()> {
        certificate.put(10 * DAY)?;
        self.fires(&["LeadsmithCertificateExpiresSoon"]).await?;
        certificate.put(DAY / 2)?;
        self.fires(&["LeadsmithCertificateExpiresToday"]).await?;
        certificate.put(90 * DAY)?;
        self.clear("the certificate was renewed").await
    }

    /// A server dies.
    pub async fn target_down(
        &mut self,
        server: &mut Serving,
        certificate: &Certificate,
    ) -> Result<()> {
        server.kill()?;
        self.fires(&["LeadsmithTargetDown"]).await?;
        *server = self.serve(1, &certificate.flags()).await?;
        self.clear("the server was started again").await
    }

    /// Prometheus has no servers to scrape.
    pub async fn no_targets(&mut self) -> Result<()> {
        self.prometheus.scrape(false)?;
        self.fires(&["LeadsmithTargetsMissing"]).await?;
        self.prometheus.scrape(true)?;
        self.clear("the configuration was corrected").await
    }

    async fn execute(&self, statements: &str) -> Result<()> {
        let connection = self.fixture.database.connect().await?;
        connection.execute(statements).await?;
        connection.close().await
    }
}

fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Repeats something in several tasks until the result is dropped.
fn repeat<F: Future<Output = ()> + Send + 'static>(
    tasks: usize,
    what: impl Fn(usize) -> F + Clone + Send + 'static,
) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let what = what.clone();
        running.spawn(async move {
            for round in 0..ROUNDS {
                what(round).await;
            }
        });
    }
    running
}

/// The files of a server's certificate.
pub struct Certificate {
    _folder: TempDir,
    certificate: String,
    key: String,
}

impl Certificate {
    /// A certificate that is valid for months.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let new = Self {
            certificate: file("server.crt"),
            key: file("server.key"),
            _folder: folder,
        };
        new.put(90 * DAY)?;
        Ok(new)
    }

    /// Replaces the certificate by one that is valid for this long from now.
    pub fn put(&self, validity: Duration) -> Result<()> {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()])?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a certificate expires at a time of the machine"
        )]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + validity;
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        fs::write(&self.certificate, certificate.pem())?;
        fs::write(&self.key, key.serialize_pem())?;
        Ok(())
    }

    /// The flags of `leadsmith serve`.
    pub fn flags(&self) -> [&str; 4] {
        let (certificate, key) = (&self.certificate, &self.key);
        ["--tls-certificate", certificate, "--tls-key", key]
    }
}

//! The server that accepts writes: finds it, and moves the pools to another one after a failover.
//!
//! It checks over a connection of its own, the probe, so that busy pools do not delay it. The header of this
//! folder has the table of its states.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{Connection as _, PgConnection, PgPool};

use super::epoch::ConnectionEpoch;
use super::hosts::Host;
use crate::db::connect_failure::ConnectFailure;
use crate::db::schema_lock;
use crate::db::session::{Session, SessionError};

/// How long a server may take to connect and to report whether it accepts writes.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The server that accepts writes.
pub struct Found {
    pub host: Host,
    pub connection: PgConnection,
    session: Session,
    /// The servers that were tried before.
    pub skipped: Vec<Skipped>,
}

/// A server that is not chosen.
pub struct Skipped {
    pub host: Host,
    /// A sentence for the log.
    pub why: String,
    /// None for a standby.
    failure: Option<ConnectFailure>,
}

impl Skipped {
    /// Whether it responds, is as it must be, and accepts no writes now.
    pub fn is_standby(&self) -> bool {
        self.failure.is_none()
    }

    /// Whether it may be usable within seconds.
    pub fn is_temporary(&self) -> bool {
        self.failure
            .as_ref()
            .is_some_and(ConnectFailure::is_temporary)
    }

    /// Whether it can be connected to, but must not be used.
    pub fn is_unfit(&self) -> bool {
        matches!(self.failure, Some(ConnectFailure::Unfit(_)))
    }
}

/// Finds the server that accepts writes and connects to it. The server in use is tried first. Each may take as long as
/// `wait`.
///
/// # Errors
/// The servers and why each is not chosen, if no one is.
pub async fn find_writable(
    options: &PgConnectOptions,
    hosts: &[Host],
    wait: Duration,
) -> Result<Found, Vec<Skipped>> {
    let current = (options.get_host().to_owned(), options.get_port());
    let others = hosts.iter().filter(|host| **host != current);
    let mut skipped = Vec::new();
    for host in std::iter::once(&current).chain(others) {
        let options = options.clone().host(&host.0).port(host.1);
        let attempt = tokio::time::timeout(wait, connect(&options));
        let attempt = attempt.await;
        let failure = match attempt.unwrap_or(Err(ConnectFailure::TimedOut(wait))) {
            Ok((connection, session)) if session.is_writable => {
                return Ok(Found {
                    host: host.clone(),
                    connection,
                    session,
                    skipped,
                });
            }
            Ok(_) => None,
            Err(failure) => Some(failure),
        };
        let why = failure.as_ref().map(|failure| failure.describe(&options));
        skipped.push(Skipped {
            host: host.clone(),
            why: why.unwrap_or_else(|| "it accepts no writes".to_owned()),
            failure,
        });
    }
    Err(skipped)
}

async fn connect(options: &PgConnectOptions) -> Result<(PgConnection, Session), ConnectFailure> {
    match PgConnection::connect_with(options).await {
        Ok(mut connection) => {
            let session = Session::check(&mut connection).await?;
            Ok((connection, session))
        }
        Err(error) => Err(ConnectFailure::of(error, options).await),
    }
}

/// The connection that finds out whether the server accepts writes.
struct Probe {
    connection: PgConnection,
    session: Session,
}

/// Keeps the pools connected to the server that accepts writes.
pub struct PrimaryWatch {
    pools: [PgPool; 2],
    hosts: Vec<Host>,
    epoch: Arc<ConnectionEpoch>,
    probe: Option<Probe>,
    /// The probe connection did not respond to the last check.
    timed_out: bool,
    /// The probe connection holds the lock that keeps migrations from being reverted.
    holds_schema: bool,
}

impl PrimaryWatch {
    pub fn new(pools: [PgPool; 2], hosts: Vec<Host>, epoch: Arc<ConnectionEpoch>) -> Self {
        Self {
            pools,
            hosts,
            epoch,
            probe: None,
            timed_out: false,
            holds_schema: false,
        }
    }

    /// Checks that there is a server that accepts writes.
    ///
    /// # Errors
    /// For each host of the URL, why it does not.
    pub async fn check(&mut self) -> Result<(), String> {
        self.find_primary().await?;
        if !self.holds_schema {
            self.hold_schema().await;
        }
        Ok(())
    }

    /// Whether migrations cannot be reverted now, because of this server.
    pub fn holds_schema(&self) -> bool {
        self.holds_schema
    }

    /// Acquires the lock on the schema, over the probe connection: it is the one that is replaced first when the
    /// primary changes. A failure is retried by the next check.
    async fn hold_schema(&mut self) {
        if let Some(probe) = &mut self.probe {
            let attempt = schema_lock::try_hold(&mut probe.connection);
            match tokio::time::timeout(PROBE_TIMEOUT, attempt).await {
                Ok(Ok(true)) => self.holds_schema = true,
                Ok(Ok(false)) => {
                    tracing::warn!("migrations of this database are being reverted");
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lock on the schema cannot be acquired");
                }
                Err(_) => tracing::warn!("the lock on the schema was not acquired in time"),
            }
        }
    }

    async fn find_primary(&mut self) -> Result<(), String> {
        let mut why = None;
        if let Some(probe) = &mut self.probe {
            match probe.check().await {
                Some(Ok(true)) => {
                    self.timed_out = false;
                    return Ok(());
                }
                Some(Ok(false)) => self.probe = None,
                Some(Err(error)) => {
                    self.probe = None;
                    if let SessionError::Unfit(unfit) = error {
                        why = Some(unfit);
                    }
                }
                None => self.timed_out = true,
            }
            // The connections of the pools are older than this failure, so they count as dead too.
            self.epoch.invalidate();
        }
        let options = self.pools[0].connect_options();
        let found = find_writable(&options, &self.hosts, PROBE_TIMEOUT).await;
        let Found {
            host,
            connection,
            session,
            ..
        } = found.map_err(|skipped| reasons(&skipped))?;
        let moved = host != (options.get_host().to_owned(), options.get_port());
        if moved {
            self.switch_to(host);
        }
        if moved || (self.timed_out && !self.responds_now().await) {
            // Work on the old connections would wait as long as TCP retries, which is minutes or
            // for ever, and keep its connection.
            self.epoch.abort_pending();
        }
        self.timed_out = false;
        self.probe = Some(Probe {
            connection,
            session,
        });
        self.holds_schema = false;
        // A new connection does not show it at once: it has not shared its session yet.
        why.map_or(Ok(()), Err)
    }

    /// Makes the pools open new connections to this host.
    fn switch_to(&self, host: Host) {
        tracing::warn!(
            host = host.0,
            port = host.1,
            "another server accepts writes now: the connection pools switch to it"
        );
        for pool in &self.pools {
            let options = pool.connect_options().as_ref().clone();
            pool.set_connect_options(options.host(&host.0).port(host.1));
        }
    }

    /// Whether the probe connection that did not respond does respond now.
    async fn responds_now(&mut self) -> bool {
        match &mut self.probe {
            Some(probe) => matches!(probe.check().await, Some(Ok(true))),
            None => false,
        }
    }
}

impl Probe {
    /// Whether the server of this connection accepts writes; `None` if it does not respond in time.
    async fn check(&mut self) -> Option<Result<bool, SessionError>> {
        let check = self.session.check_again(&mut self.connection);
        let session = tokio::time::timeout(PROBE_TIMEOUT, check).await.ok()?;
        Some(session.map(|session| session.is_writable))
    }
}

/// Why no server was chosen, with their hosts.
fn reasons(skipped: &[Skipped]) -> String {
    let reason = |skipped: &Skipped| match skipped.is_standby() {
        true => format!("{}:{}: {}", skipped.host.0, skipped.host.1, skipped.why),
        false => skipped.why.clone(),
    };
    skipped.iter().map(reason).collect::<Vec<_>>().join("; ")
}

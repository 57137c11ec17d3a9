//! The server that accepts writes: finds it, and moves the pools to another one after a failover.
//!
//! It checks over a connection of its own, the probe, so that busy pools do not delay it. The header of this
//! folder has the table of its states.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::SqlxError;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{Connection as _, PgConnection, PgPool, Row as _};

use super::epoch::ConnectionEpoch;
use super::hosts::Host;
use crate::db::schema_lock;

/// How long a server may take to connect and to report whether it accepts writes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Finds the server that accepts writes and connects to it. The server in use is tried first.
/// `on_skip` receives each server that is not chosen, and the reason.
pub async fn find_writable(
    options: &PgConnectOptions,
    hosts: &[Host],
    on_skip: impl Fn(&Host, &str),
) -> Option<(Host, PgConnection)> {
    let current = (options.get_host().to_owned(), options.get_port());
    let others = hosts.iter().filter(|host| **host != current);
    for host in std::iter::once(&current).chain(others) {
        let options = options.clone().host(&host.0).port(host.1);
        let attempt = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let is_writable = accepts_writes(&mut connection).await;
            Ok::<_, SqlxError>(is_writable.then_some(connection))
        };
        match tokio::time::timeout(PROBE_TIMEOUT, attempt).await {
            Ok(Ok(Some(connection))) => return Some((host.clone(), connection)),
            Ok(Ok(None)) => on_skip(host, "it accepts no writes"),
            Ok(Err(error)) => on_skip(host, &error.to_string()),
            Err(_) => on_skip(host, "it did not respond in time"),
        }
    }
    None
}

async fn accepts_writes(connection: &mut PgConnection) -> bool {
    let row = sea_orm::sqlx::query("SELECT pg_is_in_recovery()").fetch_one(connection);
    matches!(row.await.and_then(|row| row.try_get(0)), Ok(false))
}

/// Keeps the pools connected to the server that accepts writes.
pub struct PrimaryWatch {
    pools: [PgPool; 2],
    hosts: Vec<Host>,
    epoch: Arc<ConnectionEpoch>,
    probe: Option<PgConnection>,
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

    /// Whether there is a server that accepts writes.
    pub async fn is_available(&mut self) -> bool {
        let is_available = self.find_primary().await;
        if is_available && !self.holds_schema {
            self.hold_schema().await;
        }
        is_available
    }

    /// Whether migrations cannot be reverted now, because of this server.
    pub fn holds_schema(&self) -> bool {
        self.holds_schema
    }

    /// Acquires the lock on the schema, over the probe connection: it is the one that is replaced first when the
    /// primary changes. A failure is retried by the next check.
    async fn hold_schema(&mut self) {
        if let Some(connection) = &mut self.probe {
            let attempt = schema_lock::try_hold(connection);
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

    async fn find_primary(&mut self) -> bool {
        if let Some(connection) = &mut self.probe {
            match probe_writable(connection).await {
                Some(true) => {
                    self.timed_out = false;
                    return true;
                }
                Some(false) => self.probe = None,
                None => self.timed_out = true,
            }
            // The connections of the pools are older than this failure, so they count as dead too.
            self.epoch.invalidate();
        }
        let options = self.pools[0].connect_options();
        let Some((host, connection)) = find_writable(&options, &self.hosts, |_, _| {}).await else {
            return false;
        };
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
        self.probe = Some(connection);
        self.holds_schema = false;
        true
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
            Some(connection) => probe_writable(connection).await == Some(true),
            None => false,
        }
    }
}

/// Whether the server of this connection accepts writes; `None` if it does not respond in time.
async fn probe_writable(connection: &mut PgConnection) -> Option<bool> {
    tokio::time::timeout(PROBE_TIMEOUT, accepts_writes(connection))
        .await
        .ok()
}

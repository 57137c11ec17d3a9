//! Several PostgreSQL servers in one URL, as libpq has it:
//! `postgres://USER@ONE,TWO:5433/DATABASE?target_session_attrs=read-write`. One of them takes
//! changes at a time; the driver knows only one host, so which one that is is found out here.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{Connection as _, PgConnection, PgPool, Row as _};
use secrecy::{ExposeSecret, SecretString};

use super::reader::Lost;
use crate::config::Refusal;

/// How long one server may take to say whether it takes changes.
const PATIENCE: Duration = Duration::from_secs(1);

/// A server's host and port.
pub type Host = (String, u16);

/// A database URL with the first of its hosts alone, and all of them.
///
/// # Errors
/// A sentence that says what is wrong with it, without the URL, which may hold a password.
pub fn parse(url: &SecretString) -> Result<(String, Vec<Host>), Refusal> {
    let (base, parameters) = split(url.expose_secret(), '?');
    let mut kept = Vec::new();
    for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
        match parameter.strip_prefix("target_session_attrs=") {
            None => kept.push(parameter),
            Some("read-write" | "primary") => {}
            Some(_) => {
                return Err(Refusal::new(
                    "the database URL's target_session_attrs must be read-write or primary: \
                     leads are changed",
                ));
            }
        }
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("postgres", base));
    let (authority, path) = split(rest, '/');
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let parameters = if kept.is_empty() {
        String::new()
    } else {
        format!("?{}", kept.join("&"))
    };
    let mut first = None;
    let mut all = Vec::new();
    for host in hosts.split(',') {
        let url = format!("{scheme}://{user}{host}/{path}{parameters}");
        let options = PgConnectOptions::from_str(&url).map_err(|_| {
            Refusal::new(
                "the database URL is not a PostgreSQL URL: write \
                 postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters \
                 percent-encoded; several hosts are divided by commas",
            )
        })?;
        all.push((options.get_host().to_owned(), options.get_port()));
        first.get_or_insert(url);
    }
    Ok((first.unwrap_or_default(), all))
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

/// Finds the server that takes changes, beginning with the one in use, and connects to it.
pub async fn find(options: &PgConnectOptions, hosts: &[Host]) -> Option<(Host, PgConnection)> {
    let now = (options.get_host().to_owned(), options.get_port());
    let others = hosts.iter().filter(|host| **host != now);
    for host in std::iter::once(&now).chain(others) {
        let options = options.clone().host(&host.0).port(host.1);
        let asked = async {
            let mut connection = PgConnection::connect_with(&options).await.ok()?;
            takes_changes(&mut connection).await.then_some(connection)
        };
        if let Ok(Some(connection)) = tokio::time::timeout(PATIENCE, asked).await {
            return Some((host.clone(), connection));
        }
    }
    None
}

async fn takes_changes(connection: &mut PgConnection) -> bool {
    let row = sea_orm::sqlx::query("SELECT pg_is_in_recovery()").fetch_one(connection);
    matches!(row.await.and_then(|row| row.try_get(0)), Ok(false))
}

/// Keeps the pools on the server that takes changes.
pub struct Watch {
    pools: [PgPool; 2],
    hosts: Vec<Host>,
    lost: Arc<Lost>,
    kept: Option<PgConnection>,
    /// The connection that is kept said nothing when it was last asked.
    silent: bool,
}

impl Watch {
    pub fn new(pools: [PgPool; 2], hosts: Vec<Host>, lost: Arc<Lost>) -> Self {
        Self {
            pools,
            hosts,
            lost,
            kept: None,
            silent: false,
        }
    }

    /// Whether there is a server that takes changes.
    pub async fn answers(&mut self) -> bool {
        if let Some(connection) = &mut self.kept {
            match in_time(connection).await {
                Some(true) => {
                    self.silent = false;
                    return true;
                }
                Some(false) => self.kept = None,
                None => self.silent = true,
            }
            // The others were opened before it was found dead.
            self.lost.mark();
        }
        let options = self.pools[0].connect_options();
        let Some((host, connection)) = find(&options, &self.hosts).await else {
            return false;
        };
        let moved = host != (options.get_host().to_owned(), options.get_port());
        if moved {
            self.follow(host);
        }
        if moved || (self.silent && !self.was_slow().await) {
            // Who still waits for an answer on a connection of before would wait for as long as TCP
            // hopes, which is for minutes or for ever, and keep the connection.
            self.lost.give_up();
        }
        self.silent = false;
        self.kept = Some(connection);
        true
    }

    /// Has new connections go to this host.
    fn follow(&self, host: Host) {
        tracing::warn!(
            host = host.0,
            port = host.1,
            "another server takes changes now"
        );
        for pool in &self.pools {
            let options = pool.connect_options().as_ref().clone();
            pool.set_connect_options(options.host(&host.0).port(host.1));
        }
    }

    /// Whether the connection that said nothing does say something by now.
    async fn was_slow(&mut self) -> bool {
        match &mut self.kept {
            Some(connection) => in_time(connection).await == Some(true),
            None => false,
        }
    }
}

/// Whether the server behind this connection takes changes; none when it does not say so in time.
async fn in_time(connection: &mut PgConnection) -> Option<bool> {
    tokio::time::timeout(PATIENCE, takes_changes(connection))
        .await
        .ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn several_hosts_share_the_rest_of_the_url() {
        let url =
            "postgres://u:p%40@one,two:5433/leads?sslmode=disable&target_session_attrs=read-write";
        let (first, hosts) = parse(&url.into()).unwrap();
        assert_eq!(first, "postgres://u:p%40@one/leads?sslmode=disable");
        assert_eq!(hosts, [("one".to_owned(), 5432), ("two".to_owned(), 5433)]);
        assert!(parse(&"postgres://u@one/leads?target_session_attrs=standby".into()).is_err());
    }
}

//! Several PostgreSQL servers in one URL, as libpq has it:
//! `postgres://USER@ONE,TWO:5433/DATABASE?target_session_attrs=read-write`. One of them takes
//! changes at a time; the driver knows only one host, so which one that is is found out here.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::SqlxError;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{Connection as _, PgConnection, PgPool, Row as _};
use secrecy::{ExposeSecret, SecretString};

use super::reader::Lost;
use crate::config::Refusal;

/// How long one server may take to say whether it takes changes.
const PATIENCE: Duration = Duration::from_secs(1);

/// A server's host and port.
pub type Host = (String, u16);

/// A database URL's settings, with the first of its hosts, and all of them.
///
/// # Errors
/// A sentence that says what is wrong with it, without the URL, which may hold a password.
pub fn parse(url: &SecretString) -> Result<(PgConnectOptions, Vec<Host>), Refusal> {
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
    let mut options = None;
    let mut all: Vec<Host> = Vec::new();
    let several = hosts.contains(',');
    for host in hosts.split(',') {
        let one =
            PgConnectOptions::from_str(&format!("{scheme}://{user}{host}/{path}{parameters}"));
        let one = one.map_err(|_| malformed())?;
        if several && (host.is_empty() || one.get_socket().is_some()) {
            return Err(Refusal::new(
                "the database URL names several hosts, and each must be a name or an address: leave out \
                 empty ones and sockets",
            ));
        }
        // The parameter `host` may name several too.
        for name in one.get_host().split(',') {
            let host = (bare(name)?.to_owned(), one.get_port());
            if host.1 == 0 {
                return Err(malformed());
            }
            options.get_or_insert_with(|| one.clone().host(&host.0));
            if !all.contains(&host) {
                all.push(host);
            }
        }
    }
    Ok((options.ok_or_else(malformed)?, all))
}

fn malformed() -> Refusal {
    Refusal::new(
        "the database URL is not a PostgreSQL URL: write postgres://USER:PASSWORD@HOST:PORT/DATABASE, \
         with special characters percent-encoded; several hosts are divided by commas, and an IPv6 \
         address is in brackets, as in [::1]:5432",
    )
}

/// A host without the brackets that an IPv6 address has in a URL: with them it would be looked up as a
/// name, and not found.
fn bare(host: &str) -> Result<&str, Refusal> {
    let address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = match address {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
        Some(_) => return Err(malformed()),
        None => host,
    };
    if host.is_empty() || host.contains(['[', ']', ' ']) {
        return Err(malformed());
    }
    Ok(host)
}

/// Whether a host is this machine: its name, a loopback address or the folder of a socket.
pub fn is_local(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    let is_loopback = address.is_ok_and(|address| address.is_loopback());
    host == "localhost" || host.starts_with('/') || is_loopback
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

/// Finds the server that takes changes, beginning with the one in use, and connects to it. `why_not` gets
/// what keeps each of the others.
pub async fn find(
    options: &PgConnectOptions,
    hosts: &[Host],
    why_not: impl Fn(&Host, &str),
) -> Option<(Host, PgConnection)> {
    let now = (options.get_host().to_owned(), options.get_port());
    let others = hosts.iter().filter(|host| **host != now);
    for host in std::iter::once(&now).chain(others) {
        let options = options.clone().host(&host.0).port(host.1);
        let asked = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let takes = takes_changes(&mut connection).await;
            Ok::<_, SqlxError>(takes.then_some(connection))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(Some(connection))) => return Some((host.clone(), connection)),
            Ok(Ok(None)) => why_not(host, "it takes no changes"),
            Ok(Err(error)) => why_not(host, &error.to_string()),
            Err(_) => why_not(host, "it does not answer"),
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
        let Some((host, connection)) = find(&options, &self.hosts, |_, _| {}).await else {
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
    use super::{is_local, parse};

    fn hosts(url: &str) -> Vec<(String, u16)> {
        parse(&url.into()).unwrap().1
    }

    #[test]
    fn several_hosts_share_the_rest_of_the_url() {
        let url =
            "postgres://u:p%40@one,two:5433/leads?sslmode=disable&target_session_attrs=read-write";
        let (options, hosts) = parse(&url.into()).unwrap();
        assert_eq!((options.get_host(), options.get_port()), ("one", 5432));
        assert_eq!(options.get_username(), "u");
        assert_eq!(options.get_database(), Some("leads"));
        assert_eq!(hosts, [("one".to_owned(), 5432), ("two".to_owned(), 5433)]);
        assert!(parse(&"postgres://u@one/leads?target_session_attrs=standby".into()).is_err());
    }

    #[test]
    fn an_ipv6_address_is_the_host_without_its_brackets() {
        for (url, wanted) in [
            ("postgres://u@[::1]/leads", vec![("::1", 5432)]),
            ("postgres://u@[::1]:5433/leads", vec![("::1", 5433)]),
            (
                "postgres://[2001:DB8:0::7]/leads",
                vec![("2001:db8::7", 5432)],
            ),
            (
                "postgres://u@one,[::1]:5433,[fd00::2]/leads",
                vec![("one", 5432), ("::1", 5433), ("fd00::2", 5432)],
            ),
            ("postgres://u@localhost/leads?host=::1", vec![("::1", 5432)]),
            (
                "postgres://u@localhost/leads?host=[::1]&port=5433",
                vec![("::1", 5433)],
            ),
            (
                "postgres://u@localhost/leads?host=%5B::1%5D,one",
                vec![("::1", 5432), ("one", 5432)],
            ),
            (
                "postgres://u@localhost/leads?hostaddr=::1",
                vec![("::1", 5432)],
            ),
        ] {
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(host, port)| ((*host).to_owned(), *port))
                .collect();
            assert_eq!(hosts(url), wanted, "{url}");
            let (options, _) = parse(&url.into()).unwrap();
            assert_eq!(options.get_host(), wanted[0].0, "{url}");
        }
        for url in [
            "postgres://u@::1/leads",
            "postgres://u@[::1/leads",
            "postgres://u@::1]/leads",
            "postgres://u@[::g]/leads",
            "postgres://u@[]/leads",
            "postgres://u@[one]/leads",
            "postgres://u@[::1]5432/leads",
            "postgres://u@[::1]:99999/leads",
            "postgres://u@[::1]:0/leads",
            "postgres://u@one,[::1/leads",
            "postgres://u@one,,two/leads",
            "postgres://u@one,/leads",
            "postgres://u@one, two/leads",
            "postgres://u@%2Frun,one/leads",
            "postgres://u@localhost/leads?host=[::1",
            "postgres://u@localhost/leads?host=one,[::g]",
            "postgres://u@localhost/leads?host=one,,two",
        ] {
            assert!(parse(&url.into()).is_err(), "{url}");
        }
    }

    #[test]
    fn every_loopback_address_is_this_machine() {
        for host in [
            "localhost",
            "127.0.0.1",
            "127.0.0.2",
            "::1",
            "/run/postgresql",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in ["::2", "10.0.0.1", "localhost.example", "one"] {
            assert!(!is_local(host), "{host}");
        }
    }
}

//! Several PostgreSQL servers in one URL, in the syntax of libpq:
//! `postgres://USER@ONE,TWO:5433/DATABASE?target_session_attrs=read-write`.
//!
//! This module only parses; `parameters.rs` checks the parameters. It is written by hand because sqlx parses and connects
//! to one host only.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};
use secrecy::{ExposeSecret, SecretString};

use super::parameters::Parameters;
use crate::config::StartupError;

/// The host and port of a server.
pub type Host = (String, u16);

/// Parses a database URL. Returns the connection options, with the first host, and all hosts.
///
/// # Errors
/// A message that says what is wrong. It does not contain the URL, which may hold a password.
pub fn parse(url: &SecretString) -> Result<(PgConnectOptions, Vec<Host>), StartupError> {
    let (base, query) = split(url.expose_secret(), '?');
    let parameters = Parameters::parse(query)?;
    let (scheme, rest) = base.split_once("://").unwrap_or(("postgres", base));
    let (authority, path) = split(rest, '/');
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let query = &parameters.for_driver;
    let mut options = None;
    let mut all: Vec<Host> = Vec::new();
    let several = hosts.contains(',');
    for host in hosts.split(',') {
        let parsed = PgConnectOptions::from_str(&format!("{scheme}://{user}{host}/{path}?{query}"));
        let parsed = parsed.map_err(|_| malformed())?;
        if several && (host.is_empty() || parsed.get_socket().is_some()) {
            return Err(StartupError::settings(
                "the database URL has several hosts, and each must be a name or an address: remove empty hosts and \
                 sockets",
            ));
        }
        // The parameter `host` may contain several hosts too.
        for name in parsed.get_host().split(',') {
            let host = (without_brackets(name)?.to_owned(), parsed.get_port());
            if host.1 == 0 {
                return Err(malformed());
            }
            options.get_or_insert_with(|| parsed.clone().host(&host.0));
            if !all.contains(&host) {
                all.push(host);
            }
        }
    }
    let options = options.ok_or_else(malformed)?;
    Ok((encrypted(options, &all, &parameters), all))
}

/// Sets how the connection is encrypted where the URL does not: the certificate of another machine is checked, and every
/// certificate is if the URL names an authority for it.
fn encrypted(
    options: PgConnectOptions,
    hosts: &[Host],
    parameters: &Parameters,
) -> PgConnectOptions {
    let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    let is_local = is_socket || hosts.iter().all(|(host, _)| is_local(host));
    let is_checked = !is_local || (parameters.names_authority && !is_socket);
    match is_checked && !parameters.names_ssl_mode {
        true => options.ssl_mode(PgSslMode::VerifyFull),
        false => options,
    }
}

fn malformed() -> StartupError {
    StartupError::settings(
        "the database URL is not a PostgreSQL URL: use postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special \
         characters percent-encoded, several hosts separated by commas, and an IPv6 address in brackets, as in \
         [::1]:5432",
    )
}

/// Removes the brackets that an IPv6 address has in a URL. With them, the driver would resolve the
/// address as a host name and fail.
fn without_brackets(host: &str) -> Result<&str, StartupError> {
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

/// Whether a host is this machine: `localhost`, a loopback address or the directory of a socket.
fn is_local(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    let is_loopback = address.is_ok_and(|address| address.is_loopback());
    host == "localhost" || host.starts_with('/') || is_loopback
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
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
    fn certificates_are_checked_unless_the_url_says_otherwise() {
        let mode = |url: &str| format!("{:?}", parse(&url.into()).unwrap().0.get_ssl_mode());
        for (url, wanted) in [
            ("postgres://u@db.example/leads", "VerifyFull"),
            ("postgres://u@[2001:db8::7]/leads", "VerifyFull"),
            ("postgres://u@localhost,db.example/leads", "VerifyFull"),
            (
                "postgres://u:sslmode=disable@db.example/leads",
                "VerifyFull",
            ),
            ("postgres://u@db.example/sslmode=disable", "VerifyFull"),
            (
                "postgres://u@db.example/leads?application_name=sslmode=disable",
                "VerifyFull",
            ),
            (
                "postgres://u@localhost/leads?sslrootcert=/etc/passwd",
                "VerifyFull",
            ),
            (
                "postgres://u@db.example/leads?user=v&sslmode=require",
                "Require",
            ),
            ("postgres://u@db.example/leads?sslmode=disable", "Disable"),
        ] {
            assert_eq!(mode(url), wanted, "{url}");
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

//! Why a PostgreSQL server cannot be used, as a sentence that names the host, the port and the database, and says what
//! to do.
//!
//! The driver's errors name none of these, and have one kind for many causes. So the cause is found by the error's code
//! where the server sent one, and otherwise by its kind and by looking up the host's name. The module knows nothing of
//! who connects and why.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use sea_orm::SqlxError;
use sea_orm::sqlx::postgres::PgConnectOptions;
use tokio_rustls::rustls::{self, CertificateError};

use super::session::SessionError;

/// How long the look-up of a name that decides between two causes may take.
const LOOKUP_WAIT: Duration = Duration::from_secs(1);

/// Why a server cannot be used.
#[derive(Debug)]
pub enum ConnectFailure {
    /// It did not respond for this long.
    TimedOut(Duration),
    /// The name of the host has no address.
    Name(io::Error),
    /// The driver or the server says why.
    Driver(SqlxError),
    /// It can be connected to, but is not as it must be.
    Unfit(String),
}

impl From<SessionError> for ConnectFailure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Unfit(why) => Self::Unfit(why),
            SessionError::Failed(error) => Self::Driver(error),
        }
    }
}

impl ConnectFailure {
    /// Finds out whether an error means that the host's name cannot be resolved, which the driver does not say.
    pub async fn of(error: SqlxError, options: &PgConnectOptions) -> Self {
        if let SqlxError::Io(cause) = &error
            && cause.kind() != io::ErrorKind::ConnectionRefused
            && rustls_error(cause).is_none()
            && options.get_socket().is_none()
            && !options.get_host().starts_with('/')
            && options.get_host().parse::<IpAddr>().is_err()
        {
            let address = (options.get_host(), options.get_port());
            let lookup = tokio::net::lookup_host(address);
            if let Ok(Err(error)) = tokio::time::timeout(LOOKUP_WAIT, lookup).await {
                return Self::Name(error);
            }
        }
        Self::Driver(error)
    }

    /// Whether the same attempt may succeed within seconds: the server may be starting.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Name(_) | Self::Unfit(_) => false,
            Self::Driver(SqlxError::Io(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
            Self::Driver(error) => matches!(code(error).as_deref(), Some("53300" | "57P03")),
        }
    }

    /// A sentence for the server and database of `options`. It contains no password.
    pub fn describe(&self, options: &PgConnectOptions) -> String {
        let (database, place) = (database(options), place(options));
        let why = match self {
            Self::Driver(error) => return describe(error, options),
            Self::Unfit(why) => {
                return format!("the database {database} at {place} cannot be used: {why}");
            }
            Self::TimedOut(wait) => format!(
                "it did not respond within {:.1} s): check the host and the port in the database URL, that the server \
                 runs, and that no firewall is in between",
                wait.as_secs_f64()
            ),
            Self::Name(error) => format!(
                "the name of the host cannot be resolved: {error}): check the host in the database URL and the DNS of \
                 this machine"
            ),
        };
        format!("the database {database} at {place} cannot be opened ({why}")
    }
}

/// The same for an error of the driver.
pub fn describe(error: &SqlxError, options: &PgConnectOptions) -> String {
    let (database, place) = (database(options), place(options));
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other errors have no remedy of their own"
    )]
    let why = match error {
        SqlxError::Io(error) => of_io(error),
        SqlxError::Tls(error) => of_tls(&error.to_string(), TLS_MISSING),
        SqlxError::Database(error) => {
            let code = error.code();
            let user = options.get_username();
            of_server(code.as_deref(), error.message(), user, database)
        }
        // The driver takes the end of the connection for this response.
        SqlxError::Protocol(error) if error.contains("SSLRequest: 0x00") => {
            of_io(&io::ErrorKind::UnexpectedEof.into())
        }
        SqlxError::Protocol(error) => format!(
            "it does not speak PostgreSQL's protocol: {error}): check the port in the database URL"
        ),
        error => format!("{error}): check the database URL and the server's log"),
    };
    format!("the database {database} at {place} cannot be opened ({why}")
}

fn database(options: &PgConnectOptions) -> &str {
    options
        .get_database()
        .unwrap_or_else(|| options.get_username())
}

/// The host and port, or the socket.
fn place(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
        None if host.starts_with('/') => format!("{host}/.s.PGSQL.{port}"),
        None if host.contains(':') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    }
}

fn code(error: &SqlxError) -> Option<String> {
    let error = error.as_database_error()?;
    error.code().map(|code| code.into_owned())
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

const TLS_MISSING: &str = "set ssl = on at the server, or, if nobody else can reach the network between, add \
                           sslmode=disable to the database URL";

fn of_tls(error: &str, remedy: &str) -> String {
    format!("TLS failed: {error}): {remedy}")
}

fn of_io(error: &io::Error) -> String {
    if let Some(tls) = rustls_error(error) {
        return of_tls(&tls.to_string(), certificate_remedy(tls));
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other kinds have no remedy of their own"
    )]
    let remedy = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "check that PostgreSQL runs there and accepts connections from this machine (listen_addresses), and the host \
             and port in the database URL"
        }
        // A file that the URL names was found before.
        io::ErrorKind::NotFound => {
            "check that PostgreSQL runs, and that the folder in the database URL is one of its \
             unix_socket_directories"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not use the socket: check its permissions"
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            "the connection was closed: check that the port in the database URL is PostgreSQL's, and the server's log"
        }
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::TimedOut
        | io::ErrorKind::AddrNotAvailable => "check the host in the database URL and the network",
        _ => "check the host and the port in the database URL, and the server's log",
    };
    format!("{error}): {remedy}")
}

fn certificate_remedy(error: &rustls::Error) -> &'static str {
    let rustls::Error::InvalidCertificate(why) = error else {
        return "check that the server's TLS versions and, if it asks for one, the client certificate (sslcert, sslkey) \
                are right";
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other kinds have no remedy of their own"
    )]
    match why {
        // BadSignature: the authority has the same name, and is another one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "name the certificate of the authority that signed the server's by sslrootcert=FILE in the database URL"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "use a host in the database URL that the server's certificate has as a subject alternative name, or get a \
             certificate with this one"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "renew the server's certificate, or correct the clock of this machine"
        }
        _ => "check the server's certificate",
    }
}

/// What the server refused, by the code of its error.
fn of_server(code: Option<&str>, message: &str, user: &str, database: &str) -> String {
    let remedy = match code {
        Some("28P01") => format!(
            "check the password of {user} in the database URL, in PGPASSWORD or in ~/.pgpass"
        ),
        Some("28000") => format!(
            "allow {user} to connect: by ALTER ROLE {user} LOGIN, and by a line in pg_hba.conf for this machine and database"
        ),
        Some("3D000") => format!(
            "create the database {database} with ENCODING 'UTF8', or correct its name in the database URL"
        ),
        Some("53300") => "raise max_connections at the server (or the CONNECTION LIMIT of the role or the database), or \
                          lower --postgres-connections"
            .to_owned(),
        Some("42501") => format!(
            "grant what is missing, as by GRANT CONNECT ON DATABASE {database} TO {user}"
        ),
        Some("57P03") => "wait until it has started".to_owned(),
        Some(code) if code.starts_with("08") && message.contains("startup parameter") => {
            "remove options from the database URL (and PGOPTIONS): a pooler does not pass them on".to_owned()
        }
        Some(code) if code.starts_with("08") => {
            "check the log and the limits of the pooler".to_owned()
        }
        Some(_) | None => "check the database URL and the server's log".to_owned(),
    };
    format!("{message}): {remedy}")
}

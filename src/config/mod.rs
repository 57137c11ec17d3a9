//! The settings, by subject, and their checks at the start.
//!
//! Every setting is a flag and an environment variable; every default is stated once. This module only reads values:
//! it must not open a file, a database or a port, so that `leadsmith config` can check settings without effects.

mod describe;
mod limits;
mod observe;
mod passwords;
mod startup_error;
mod tls;
pub mod values;

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use secrecy::SecretString;

pub use describe::{Described, has_secret, location};
use describe::{file, redact_url};
pub use limits::{LARGEST_RESPONSE, Limits};
pub use observe::{AdminListen, ObserveSettings, TracesEndpoint};
pub use passwords::{MIN_PASSWORD_LENGTH, PasswordSettings};
pub use startup_error::{Cause, StartupError};
pub use tls::{ClientCertificates, ClientTlsSettings, TlsSettings};

/// The database, for every command that uses one.
#[derive(Args, Clone, Debug)]
pub struct DatabaseSettings {
    /// The database: sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE. Set a URL with a password in
    /// the environment, where other users of the machine cannot see it, or in the file that
    /// LEADSMITH_DATABASE_URL_FILE names
    #[arg(
        long,
        help_heading = "Database",
        env = "LEADSMITH_DATABASE_URL",
        default_value = "sqlite:leadsmith.db",
        hide_env_values = true,
        value_parser = values::secret(),
        value_name = "URL"
    )]
    pub database_url: SecretString,
}

impl DatabaseSettings {
    /// The URL without its password and parameters.
    pub fn redacted(&self) -> String {
        redact_url(&self.database_url)
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The log, for every command.
#[derive(Args, Clone, Debug)]
pub struct LogSettings {
    /// What to log: error, warn, info, debug or trace. The logs of libraries stay at warn at most,
    /// because they may contain the data that passes through them
    #[arg(
        long,
        env = "LEADSMITH_LOG",
        default_value = "info",
        value_parser = values::level(),
        value_name = "LEVEL",
        help_heading = "Log",
        global = true
    )]
    pub log: tracing::Level,
    /// The format of the log
    #[arg(
        long,
        env = "LEADSMITH_LOG_FORMAT",
        default_value = "text",
        value_parser = values::word::<LogFormat>(),
        value_name = "FORMAT",
        help_heading = "Log",
        global = true
    )]
    pub log_format: LogFormat,
}

impl LogSettings {
    /// The settings in force.
    pub fn describe(&self) -> Vec<Described> {
        let format = match self.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let level = self.log.to_string().to_lowercase();
        vec![("log", level), ("log-format", format.to_owned())]
    }
}

/// The settings of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeSettings {
    /// The database
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Where to listen
    #[arg(
        long,
        help_heading = "Network",
        env = "LEADSMITH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_parser = values::address(),
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Listen without TLS on an address that other machines can reach
    #[arg(
        long,
        help_heading = "Network",
        env = "LEADSMITH_INSECURE",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_parser = values::boolean(),
        value_name = "BOOL"
    )]
    pub insecure: bool,
    /// TLS
    #[command(flatten)]
    pub tls: TlsSettings,
    /// Apply pending migrations at the start. With false, the server does not start if migrations are
    /// pending
    #[arg(
        long,
        help_heading = "Database",
        env = "LEADSMITH_MIGRATE",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_parser = values::boolean(),
        value_name = "BOOL"
    )]
    pub migrate: bool,
    /// Passwords
    #[command(flatten)]
    pub passwords: PasswordSettings,
    /// What it shows of its work
    #[command(flatten)]
    pub observe: ObserveSettings,
    /// The limits
    #[command(flatten)]
    pub limits: Limits,
}

impl ServeSettings {
    /// Checks what clap cannot check, except the database URL.
    ///
    /// # Errors
    /// A sentence that names the setting and its allowed values.
    pub fn check(&self) -> Result<(), StartupError> {
        self.limits.check()?;
        self.tls.check()?;
        self.observe.check()?;
        if !self.tls.is_on() && !self.insecure && !self.listen.ip().is_loopback() {
            return Err(StartupError::settings(format!(
                "other machines can reach {}, and passwords would be sent unencrypted: set --tls-certificate and \
                 --tls-key, or --insecure if a proxy in front of the service terminates TLS",
                self.listen
            )));
        }
        Ok(())
    }

    /// The settings in force, with secrets hidden.
    pub fn describe(&self) -> Vec<Described> {
        let mut settings = vec![
            ("database-url", self.database.redacted()),
            ("listen", self.listen.to_string()),
            ("insecure", self.insecure.to_string()),
            ("tls-certificate", file(&self.tls.tls_certificate)),
            ("tls-key", file(&self.tls.tls_key)),
            ("tls-client-ca", file(&self.tls.tls_client_ca)),
            (
                "tls-client-certificates",
                format!("{:?}", self.tls.tls_client_certificates).to_lowercase(),
            ),
            ("migrate", self.migrate.to_string()),
            (
                "min-password-length",
                self.passwords.min_password_length.to_string(),
            ),
        ];
        settings.extend(self.observe.describe());
        settings.extend(self.limits.describe());
        settings
    }
}

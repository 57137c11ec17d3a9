//! The command line: one file per subcommand.
//!
//! A subcommand only parses its flags, calls the other modules and prints the result. It holds no rules, so that a
//! change from the command line and a change from an RPC obey the same ones.

mod arguments;
mod backup;
mod config;
mod confirm;
pub mod console;
mod dashboard;
mod demo;
mod healthcheck;
mod manual;
mod migrate;
mod operator;
mod output;
mod process;
mod secret;
mod serve;
mod server;
mod service_account;
mod service_manager;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use uuid::Uuid;

use crate::config::{
    DatabaseSettings, Limits, LogFormat, LogSettings, ServeSettings, StartupError, values,
};
use crate::core::build;
use crate::core::call::PrincipalKind;
use crate::core::clock::Clock;
use crate::core::text_enum::TextEnum as _;
use crate::db::{Db, connect, migrate as schema};
use crate::telemetry;
use output::Failure;

pub use arguments::Unreadable;
use arguments::{LevelSource, Origins};

/// The life of a sales lead as a gRPC service.
///
/// A setting can also be given by the environment variable that is named beside it, or in the file of --config. A flag
/// takes precedence over a variable, and a variable over the file. What a command does once is given by its flags only.
#[derive(Debug, Parser)]
#[command(name = "leadsmith", version = build::VERSION, disable_help_subcommand = true, after_help = EXAMPLES)]
pub struct Cli {
    /// A file with settings: TOML, with the names of the flags as keys
    #[arg(
        long,
        env = "LEADSMITH_CONFIG",
        value_parser = values::file(),
        value_name = "FILE",
        global = true
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogSettings,
    #[command(subcommand)]
    command: Command,
    /// Where the settings came from.
    #[arg(skip)]
    origins: Origins,
    /// A sentence for each environment variable that is no setting although its name says so.
    #[arg(skip)]
    unknown_variables: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  leadsmith demo
  leadsmith operator create --username ada --role ADMIN
  leadsmith serve --config /etc/leadsmith.toml
  leadsmith config --output json

Exit codes:
  0    done
  1    refused, or failed
  2    a flag, a variable or a setting of the file is wrong
  69   the database does not exist or cannot be reached
  141  standard output was closed";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until it is stopped by SIGTERM or Ctrl-C
    #[command(after_help = serve::EXAMPLES)]
    Serve(ServeSettings),
    /// Run a server with example data and print the commands to try on it
    Demo(demo::DemoSettings),
    /// Show or change the database schema
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Manage the people who sign in
    #[command(subcommand, after_help = operator::EXAMPLES)]
    Operator(operator::OperatorCommand),
    /// Manage the backend services that call with an API key or a client certificate
    #[command(subcommand, after_help = service_account::EXAMPLES)]
    ServiceAccount(service_account::ServiceAccountCommand),
    /// Copy an SQLite database to a file; a server may be running on it
    #[command(after_help = backup::BACKUP)]
    Backup(backup::BackupSettings),
    /// Replace an SQLite database with a backup; no server may be running on it
    #[command(after_help = backup::RESTORE)]
    Restore(backup::BackupSettings),
    /// Check the health of a running server; exits with 0 if it is serving
    #[command(after_help = healthcheck::EXAMPLES)]
    Healthcheck(healthcheck::HealthcheckSettings),
    /// Show the figures of the sales desk, from a running server
    #[command(after_help = dashboard::EXAMPLES)]
    Dashboard(dashboard::DashboardSettings),
    /// Print the settings in force and where each came from, with secrets hidden
    #[command(after_help = config::EXAMPLES)]
    Config(config::ConfigSettings),
    /// Print a script that completes commands and flags in a shell
    #[command(after_help = manual::COMPLETIONS)]
    Completions(manual::CompletionsSettings),
    /// Print the manual page, or write the pages of all commands to a folder
    #[command(after_help = manual::MAN)]
    Man(manual::ManSettings),
}

impl Cli {
    /// The format of the log, in which a failure is reported too.
    pub fn log_format(&self) -> LogFormat {
        self.log.log_format
    }

    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what is wrong and how to fix it.
    pub async fn run(self) -> Result<(), Failure> {
        let log = telemetry::init(&self.log);
        for sentence in &self.unknown_variables {
            tracing::warn!("{sentence}");
        }
        match self.command {
            Command::Serve(settings) => {
                let level = LevelSource::new(log, self.config, &self.origins);
                Ok(serve::run(&settings, level).await?)
            }
            Command::Demo(settings) => demo::run(settings).await,
            Command::Migrate(command) => migrate::run(command).await,
            Command::Operator(command) => operator::run(command).await,
            Command::ServiceAccount(command) => service_account::run(command).await,
            Command::Backup(settings) => Ok(backup::back_up(&settings).await?),
            Command::Restore(settings) => Ok(backup::restore(&settings).await?),
            Command::Healthcheck(settings) => healthcheck::run(&settings).await,
            Command::Dashboard(settings) => dashboard::run(settings).await,
            Command::Config(settings) => {
                config::run(&settings, self.config.as_deref(), &self.log, &self.origins)
            }
            Command::Completions(settings) => manual::completions(&settings),
            Command::Man(settings) => manual::man(&settings),
        }
    }
}

/// Logs a command that has changed something. `record` is the kind and the id of what it changed, `name` its name.
fn log_command(command: &str, record: Option<(&str, Uuid)>, name: Option<&str>) {
    // The principal as it stands in the history of what was changed.
    tracing::info!(
        command,
        principal_kind = PrincipalKind::CommandLine.as_str(),
        principal = process::user(),
        uid = rustix::process::getuid().as_raw(),
        records = record.map(|(kind, id)| display(format!("{kind}/{id}"))),
        name,
        "command completed"
    );
}

/// Opens an existing database whose schema this program works with. Commands neither create nor migrate a database.
async fn open(settings: &DatabaseSettings) -> Result<Db, StartupError> {
    schema::require_usable(&settings.database_url).await?;
    connect::open(&settings.database_url, &Limits::default(), Clock::default()).await
}

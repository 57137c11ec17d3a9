//! The command line: one file per subcommand.
//!
//! A subcommand only parses its flags, calls the other modules and prints the result. It holds no rules, so that a
//! change from the command line and a change from an RPC obey the same ones.

mod arguments;
mod backup;
mod confirm;
mod demo;
mod healthcheck;
mod migrate;
mod operator;
pub mod output;
mod secret;
mod serve;
mod service_account;

use clap::{Parser, Subcommand};

use crate::config::{DatabaseSettings, Limits, LogSettings, ServeSettings, StartupError};
use crate::core::clock::Clock;
use crate::db::{Db, connect, migrate as schema};
use crate::telemetry;
use output::Failure;

/// The life of a sales lead as a gRPC service.
///
/// A setting can also be given by the environment variable that is named beside it. What a command does once is given
/// by its flags only.
#[derive(Debug, Parser)]
#[command(name = "leadsmith", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    log: LogSettings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until it is stopped by SIGTERM or Ctrl-C
    Serve(ServeSettings),
    /// Run a server with example data and print the commands to try on it
    Demo(demo::DemoSettings),
    /// Show or change the database schema
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Manage the people who sign in
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// Manage the backend services that call with an API key or a client certificate
    #[command(subcommand)]
    ServiceAccount(service_account::ServiceAccountCommand),
    /// Copy an SQLite database to a file; a server may be running on it
    Backup(backup::BackupSettings),
    /// Replace an SQLite database with a backup; no server may be running on it
    Restore(backup::BackupSettings),
    /// Check the health of a running server; exits with 0 if it is serving
    Healthcheck(healthcheck::HealthcheckSettings),
    /// Print the settings that serve would use, with secrets hidden
    Config(ServeSettings),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what is wrong and how to fix it.
    pub async fn run(self) -> Result<(), Failure> {
        telemetry::init(&self.log);
        match self.command {
            Command::Serve(settings) => Ok(serve::run(&settings).await?),
            Command::Demo(settings) => demo::run(settings).await,
            Command::Migrate(command) => migrate::run(command).await,
            Command::Operator(command) => operator::run(command).await,
            Command::ServiceAccount(command) => service_account::run(command).await,
            Command::Backup(settings) => Ok(backup::back_up(&settings).await?),
            Command::Restore(settings) => Ok(backup::restore(&settings).await?),
            Command::Healthcheck(settings) => healthcheck::run(&settings).await,
            Command::Config(settings) => {
                crate::app::check(&settings)?;
                output::show(&(settings.describe() + &self.log.describe()))
            }
        }
    }
}

/// Opens an existing database whose schema this program works with. Commands neither create nor migrate a database.
async fn open(settings: &DatabaseSettings) -> Result<Db, StartupError> {
    schema::require_usable(&settings.database_url).await?;
    connect::open(&settings.database_url, &Limits::default(), Clock::default()).await
}

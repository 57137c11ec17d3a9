//! The command line: one file per subcommand.

mod arguments;
mod backup;
mod demo;
mod healthcheck;
mod migrate;
mod operator;
pub mod output;
mod secret;
mod serve;
mod service_account;

use clap::{Parser, Subcommand};

use crate::clock::Clock;
use crate::config::{DatabaseSettings, Limits, LogSettings, Refusal, ServeSettings};
use crate::db::{Db, connect, migrate as schema};
use crate::telemetry;
use output::Failure;

/// The life of a sales lead as a gRPC service.
///
/// A setting can also be given by the environment variable named beside it; what a command is to do, only
/// by its flags.
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
    /// Serve until told to stop (SIGTERM or Ctrl-C)
    Serve(ServeSettings),
    /// Serve a database of example data and print what to try on it
    Demo(demo::DemoSettings),
    /// Look at or change the database's schema
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Create and look after the people who sign in
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// Create and look after the backend services that call with an API key
    #[command(subcommand)]
    ServiceAccount(service_account::ServiceAccountCommand),
    /// Copy SQLite's database to a file, while a server uses it
    Backup(backup::BackupSettings),
    /// Put a backup in the place of SQLite's database, which nobody may be using
    Restore(backup::BackupSettings),
    /// Ask a running server for its health; exits with 0 if it serves
    Healthcheck(healthcheck::HealthcheckSettings),
    /// Print the settings that serve would use, with secrets hidden
    Config(ServeSettings),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
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
                settings.check()?;
                output::show(&(settings.describe() + &self.log.describe()))
            }
        }
    }
}

/// Opens the database for a command, which neither creates nor migrates one.
async fn open(settings: &DatabaseSettings) -> Result<Db, Refusal> {
    schema::require_current(&settings.database_url).await?;
    connect::open(&settings.database_url, &Limits::default(), Clock::default()).await
}

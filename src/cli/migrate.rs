//! `leadsmith migrate`: the command line of `db/migrate.rs`, which applies and reverts the migrations.

use clap::Subcommand;
use serde::Serialize;

use super::output::{self, Failure, OutputSettings};
use super::{confirm, log_command};
use crate::config::{DatabaseSettings, StartupError, values};
use crate::db::migrate;

#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Apply all pending migrations
    Up(DatabaseSettings),
    /// Revert the newest migrations. This deletes the data of what they created. No server may be running on the
    /// database
    Down {
        #[command(flatten)]
        database: DatabaseSettings,
        /// How many migrations to revert
        #[arg(long, default_value_t = 1, value_parser = values::number::<u32>(1..=1_000), value_name = "N")]
        steps: u32,
        /// Do not ask for confirmation; required if there is no terminal to ask on
        #[arg(long)]
        yes: bool,
    },
    /// Show which migrations are applied
    Status {
        #[command(flatten)]
        output: OutputSettings,
        #[command(flatten)]
        database: DatabaseSettings,
    },
}

pub async fn run(command: MigrateCommand) -> Result<(), Failure> {
    match command {
        MigrateCommand::Up(database) => {
            migrate::up(&database.database_url).await?;
            log_command("migrate up", None, None);
            let status = status(&database).await?;
            Ok(output::confirm("the schema was migrated", &status)?)
        }
        MigrateCommand::Down {
            database,
            steps,
            yes,
        } => {
            let reverted = migrate::newest(&database.database_url, steps).await?;
            if !yes {
                confirm::ask(&format!(
                    "This reverts {} on {} and deletes the data of what was created by it.",
                    reverted.join(", "),
                    database.redacted()
                ))?;
            }
            migrate::down(&database.database_url, steps).await?;
            log_command("migrate down", None, None);
            let status = status(&database).await?;
            Ok(output::confirm("the migrations were reverted", &status)?)
        }
        MigrateCommand::Status { output, database } => {
            let steps = migrate::status(&database.database_url).await?;
            let shown: Vec<_> = steps.iter().map(Shown::from).collect();
            output.show(&shown, || lines(&steps))
        }
    }
}

/// A migration in the output. The names are part of the interface.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    state: &'static str,
}

impl<'a> From<&'a migrate::Step> for Shown<'a> {
    fn from(step: &'a migrate::Step) -> Self {
        Self {
            name: &step.name,
            state: step.state.as_str(),
        }
    }
}

async fn status(database: &DatabaseSettings) -> Result<String, StartupError> {
    Ok(lines(&migrate::status(&database.database_url).await?))
}

/// One migration per line.
fn lines(steps: &[migrate::Step]) -> String {
    let line = |step: &migrate::Step| format!("{:<7}  {}\n", step.state.as_str(), step.name);
    steps.iter().map(line).collect()
}

//! `leadsmith migrate`: the command line of `db/migrate.rs`, which applies and reverts the migrations.

use clap::Subcommand;

use super::confirm;
use super::output::{self, Failure};
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
    Status(DatabaseSettings),
}

pub async fn run(command: MigrateCommand) -> Result<(), Failure> {
    match command {
        MigrateCommand::Up(database) => {
            migrate::up(&database.database_url).await?;
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
            let status = status(&database).await?;
            Ok(output::confirm("the migrations were reverted", &status)?)
        }
        MigrateCommand::Status(database) => output::show(&status(&database).await?),
    }
}

/// One migration per line.
async fn status(database: &DatabaseSettings) -> Result<String, StartupError> {
    let steps = migrate::status(&database.database_url).await?;
    let line = |step: &migrate::Step| format!("{:<7}  {}\n", step.state.as_str(), step.name);
    Ok(steps.iter().map(line).collect())
}

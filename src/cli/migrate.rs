//! `leadsmith migrate`: the command line of `db/migrate.rs`, which applies and reverts the migrations.

use clap::Subcommand;

use super::output::{self, Failure};
use crate::config::{DatabaseSettings, StartupError, values};
use crate::db::migrate;

#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Apply all pending migrations
    Up(DatabaseSettings),
    /// Revert the newest migrations. This deletes the data of the tables that they created
    Down {
        #[command(flatten)]
        database: DatabaseSettings,
        /// How many migrations to revert
        #[arg(long, default_value_t = 1, value_parser = values::number::<u32>(1..=1_000), value_name = "N")]
        steps: u32,
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
        MigrateCommand::Down { database, steps } => {
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
    let line = |step: &migrate::Step| {
        let state = if step.applied { "applied" } else { "pending" };
        format!("{state}  {}\n", step.name)
    };
    Ok(steps.iter().map(line).collect())
}

//! `leadsmith migrate`.

use clap::Subcommand;

use super::output::{self, Failure};
use crate::config::{DatabaseSettings, Refusal, values};
use crate::db::migrate;

#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Apply every migration the database lacks
    Up(DatabaseSettings),
    /// Take the newest migrations back, and with them the data of the tables they created
    Down {
        #[command(flatten)]
        database: DatabaseSettings,
        /// How many
        #[arg(long, default_value_t = 1, value_parser = values::number::<u32>(1..=1_000), value_name = "N")]
        steps: u32,
    },
    /// Show which migrations the database has
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

/// One migration a line.
async fn status(database: &DatabaseSettings) -> Result<String, Refusal> {
    let steps = migrate::status(&database.database_url).await?;
    let line = |step: &migrate::Step| {
        let state = if step.applied { "applied" } else { "pending" };
        format!("{state}  {}\n", step.name)
    };
    Ok(steps.iter().map(line).collect())
}

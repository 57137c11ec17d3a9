//! `leadsmith migrate`.

use clap::Subcommand;

use crate::config::{DatabaseSettings, Refusal};
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
        #[arg(long, env = "LEADSMITH_STEPS", default_value_t = 1, value_name = "N")]
        steps: u32,
    },
    /// Show which migrations the database has
    Status(DatabaseSettings),
}

pub async fn run(command: MigrateCommand) -> Result<(), Refusal> {
    let database = match command {
        MigrateCommand::Up(database) => {
            migrate::up(&database.database_url).await?;
            database
        }
        MigrateCommand::Down { database, steps } => {
            migrate::down(&database.database_url, steps).await?;
            database
        }
        MigrateCommand::Status(database) => database,
    };
    for step in migrate::status(&database.database_url).await? {
        let state = if step.applied { "applied" } else { "pending" };
        println!("{state}  {}", step.name);
    }
    Ok(())
}

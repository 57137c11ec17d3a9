//! `leadsmith backup` and `leadsmith restore`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{DatabaseSettings, Refusal};
use crate::db::backup::{self, Content};
use crate::db::connect::Target;
use crate::text::printable;

#[derive(Args, Debug)]
pub struct BackupSettings {
    #[command(flatten)]
    database: DatabaseSettings,
    /// The backup
    file: PathBuf,
    /// Replace what is there
    #[arg(long, env = "LEADSMITH_FORCE")]
    force: bool,
}

/// PostgreSQL has better means of its own.
fn sqlite(settings: &BackupSettings, tool: &str) -> Result<PathBuf, Refusal> {
    match Target::parse(&settings.database.database_url)? {
        Target::Sqlite(file) => Ok(file),
        Target::Postgres => Err(Refusal::new(format!(
            "this copies SQLite's file only: for PostgreSQL use {tool}, as the README's chapter \
             \"Backup and restore\" shows"
        ))),
    }
}

pub async fn back_up(settings: &BackupSettings) -> Result<(), Refusal> {
    let database = sqlite(settings, "pg_dump, or pg_basebackup")?;
    let content = backup::back_up(&database, &settings.file, settings.force).await?;
    print(&settings.file, &content);
    Ok(())
}

pub async fn restore(settings: &BackupSettings) -> Result<(), Refusal> {
    let database = sqlite(settings, "pg_restore")?;
    let content = backup::restore(&settings.file, &database, settings.force).await?;
    print(&database, &content);
    Ok(())
}

fn print(file: &Path, content: &Content) {
    println!(
        "{}: {} bytes, {} leads, up to event {}",
        printable(&file.display().to_string()),
        content.bytes,
        content.leads,
        content.last_event
    );
}

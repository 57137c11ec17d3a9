//! `leadsmith backup` and `leadsmith restore`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output;
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
    #[arg(long)]
    force: bool,
}

/// PostgreSQL has better means of its own.
fn sqlite(settings: &BackupSettings, tool: &str) -> Result<PathBuf, Refusal> {
    match Target::parse(&settings.database.database_url)? {
        Target::Sqlite(file) => Ok(file),
        Target::Postgres => Err(Refusal::new(format!(
            "this copies SQLite's file only: for PostgreSQL use {tool}, as docs/src/backup.md \
             shows"
        ))),
    }
}

pub async fn back_up(settings: &BackupSettings) -> Result<(), Refusal> {
    let database = sqlite(settings, "pg_dump, or pg_basebackup")?;
    let content = backup::back_up(&database, &settings.file, settings.force).await?;
    print("the backup was made", &settings.file, &content)
}

pub async fn restore(settings: &BackupSettings) -> Result<(), Refusal> {
    let database = sqlite(settings, "pg_restore")?;
    let content = backup::restore(&settings.file, &database, settings.force).await?;
    print("the database was restored", &database, &content)
}

fn print(done: &str, file: &Path, content: &Content) -> Result<(), Refusal> {
    let line = format!(
        "{}: {} bytes, {} leads, up to event {}\n",
        printable(&file.display().to_string()),
        content.bytes,
        content.leads,
        content.last_event
    );
    output::confirm(done, &line)
}

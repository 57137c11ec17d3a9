//! `leadsmith backup` and `leadsmith restore`: the command line of `db/backup.rs`, for SQLite only.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{log_command, output};
use crate::config::{DatabaseSettings, StartupError};
use crate::core::text::printable;
use crate::db::backup::{self, Content};
use crate::db::connect::Target;

pub const BACKUP: &str = "\
Example:
  leadsmith backup /backup/leads.db";

pub const RESTORE: &str = "\
Example:
  leadsmith restore --force /backup/leads.db";

#[derive(Args, Debug)]
pub struct BackupSettings {
    #[command(flatten)]
    database: DatabaseSettings,
    /// The backup file
    file: PathBuf,
    /// Replace an existing file or database
    #[arg(long)]
    force: bool,
}

/// The file of an SQLite database. PostgreSQL is refused, because its own tools are better.
fn sqlite(settings: &BackupSettings, tool: &str) -> Result<PathBuf, StartupError> {
    match Target::parse(&settings.database.database_url)? {
        Target::Sqlite(file) => Ok(file),
        Target::Postgres => Err(StartupError::new(format!(
            "this command supports only SQLite: for PostgreSQL, use {tool} as described in docs/src/backup.md"
        ))),
    }
}

pub async fn back_up(settings: &BackupSettings) -> Result<(), StartupError> {
    let database = sqlite(settings, "pg_dump, or pg_basebackup")?;
    let content = backup::back_up(&database, &settings.file, settings.force).await?;
    log_command("backup", None, None);
    print("the backup was made", &settings.file, &content)
}

pub async fn restore(settings: &BackupSettings) -> Result<(), StartupError> {
    let database = sqlite(settings, "pg_restore")?;
    let content = backup::restore(&settings.file, &database, settings.force).await?;
    log_command("restore", None, None);
    print("the database was restored", &database, &content)
}

fn print(done: &str, file: &Path, content: &Content) -> Result<(), StartupError> {
    let line = format!(
        "{}: {} bytes, {} leads, up to event {}\n",
        printable(&file.display().to_string()),
        content.bytes,
        content.leads,
        content.last_event
    );
    output::confirm(done, &line)
}

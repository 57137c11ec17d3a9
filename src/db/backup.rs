//! Backs up SQLite's database while it is in use, and restores a backup.
//!
//! A copy is written beside its destination, checked, synced, and only then renamed: a file of that
//! name is always complete, whatever happens in between. PostgreSQL has backup tools of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use tempfile::NamedTempFile;

use super::sqlite_files::{self, parent_dir, sibling, write_error};
use super::{connect, migrate, open_file};
use crate::config::StartupError;

/// A summary of the content of a copy.
pub struct Content {
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The number of leads, in any state.
    pub leads: i64,
    /// The number of the last event; 0 if there is none.
    pub last_event: i64,
}

/// Copies the database `from`, as of one moment, to the file `to`. Writers can continue.
///
/// # Errors
/// If `from` does not exist, `to` exists and may not be replaced, or the copy fails or is damaged.
pub async fn back_up(from: &Path, to: &Path, force: bool) -> Result<Content, StartupError> {
    let (from, to) = (
        &sqlite_files::existing_database(from)?,
        &sqlite_files::resolve(to)?,
    );
    refuse_same(from, to)?;
    refuse_existing(to, force)?;
    let copy = temporary_beside(to)?;
    let db = connect::open_file(from, false).await?;
    let path = copy.path().to_string_lossy().into_owned();
    // VACUUM INTO runs in one read transaction, so the copy is of one moment.
    let vacuum = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [path.into()]);
    let copied = db.execute_raw(vacuum).await;
    let _ = db.close().await;
    copied.map_err(|error| StartupError::new(format!("the database cannot be copied: {error}")))?;
    let content = check(copy.path()).await?;
    rename_into_place(copy, to, force)?;
    Ok(content)
}

/// Replaces the database `to` by the backup `from`.
///
/// # Errors
/// If `from` is damaged, is not a database of Leadsmith's, is newer than this program or is
/// incomplete; if `to` exists and may not be replaced, or is in use.
pub async fn restore(from: &Path, to: &Path, force: bool) -> Result<Content, StartupError> {
    let to = &sqlite_files::database(to)?;
    let (from, source) = open_backup(from)?;
    let from = &from;
    refuse_same(from, to)?;
    refuse_log(from)?;
    refuse_existing(to, force)?;
    let content = check(from).await?;
    let mut copy = temporary_beside(to)?;
    let copied = std::io::copy(&mut &source, copy.as_file_mut());
    copied.map_err(|error| write_error(to, &error))?;
    check(copy.path()).await?;
    let exclusive = match to.exists() {
        true => lock_exclusively(to).await?,
        false => None,
    };
    // The logs are removed first: SQLite would apply a remaining log to the copy, to which it does
    // not belong.
    for suffix in sqlite_files::COMPANIONS {
        let name = sibling(to, suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(write_error(&name, &error));
            }
            _ => {}
        }
    }
    rename_into_place(copy, to, force)?;
    if let Some(db) = exclusive {
        let _ = db.close().await;
    }
    Ok(content)
}

/// Finds and opens a backup. It may have several names, because nothing is written to it.
fn open_backup(file: &Path) -> Result<(PathBuf, File), StartupError> {
    let read_error = |error: std::io::Error| {
        let file = file.display();
        StartupError::new(format!(
            "the file {file} cannot be read ({error}): check its name"
        ))
    };
    // The check runs before the file is opened, because opening a pipe would block.
    sqlite_files::check_regular(file, &file.metadata().map_err(read_error)?)?;
    let path = file.canonicalize().map_err(read_error)?;
    let opened = File::open(&path).map_err(read_error)?;
    Ok((path, opened))
}

/// Replacing the database by itself would leave a process that has it open with a file that has no
/// name any more.
fn refuse_same(from: &Path, to: &Path) -> Result<(), StartupError> {
    if !open_file::is_same(from, to) {
        return Ok(());
    }
    Err(StartupError::new(format!(
        "the file {} is the database itself: choose another file",
        to.display()
    )))
}

/// A backup has no log. The content of a log beside it would be lost.
fn refuse_log(file: &Path) -> Result<(), StartupError> {
    let logs = ["-wal", "-journal"].map(|suffix| sibling(file, suffix));
    let is_used = |log: &&PathBuf| log.metadata().is_ok_and(|log| log.len() > 0);
    let Some(log) = logs.iter().find(is_used) else {
        return Ok(());
    };
    Err(StartupError::new(format!(
        "the file {0} is not a backup, because a part of it is in {1}: create a backup of it with leadsmith backup \
         --database-url sqlite:{0}",
        file.display(),
        log.display()
    )))
}

fn refuse_existing(file: &Path, force: bool) -> Result<(), StartupError> {
    if force || !file.exists() {
        return Ok(());
    }
    Err(StartupError::new(format!(
        "the file {} already exists: choose another file, or use --force to replace it",
        file.display()
    )))
}

/// A new file in the same directory that only its owner can read. It is removed unless it is
/// renamed.
fn temporary_beside(file: &Path) -> Result<NamedTempFile, StartupError> {
    tempfile::Builder::new()
        .prefix(".leadsmith-")
        .tempfile_in(parent_dir(file))
        .map_err(|error| write_error(file, &error))
}

/// Renames a copy durably: the content is synced before the rename, the directory after it.
fn rename_into_place(copy: NamedTempFile, file: &Path, force: bool) -> Result<(), StartupError> {
    copy.as_file()
        .sync_all()
        .map_err(|error| write_error(file, &error))?;
    let persisted = if force {
        copy.persist(file)
    } else {
        copy.persist_noclobber(file)
    };
    persisted.map_err(|error| write_error(file, &error.error))?;
    File::open(parent_dir(file))
        .and_then(|directory| directory.sync_all())
        .map_err(|error| write_error(file, &error))
}

/// Summarises a copy, if it is complete and of a schema that this program knows.
async fn check(file: &Path) -> Result<Content, StartupError> {
    let db = connect::open_file(file, true).await?;
    let content = summarise(&db, file).await;
    let _ = db.close().await;
    content
}

async fn summarise(db: &DatabaseConnection, file: &Path) -> Result<Content, StartupError> {
    let damaged = |why: String| {
        let (file, why) = (file.display(), why.replace('\n', ", "));
        StartupError::new(format!("{file} is damaged ({why}): use another backup"))
    };
    let row = query_row(db, "PRAGMA integrity_check(1)").await;
    let verdict = row.and_then(|row| row.try_get_by_index::<String>(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => {}
        Ok(verdict) => return Err(damaged(verdict)),
        Err(error) => return Err(damaged(error.to_string())),
    }
    migrate::require_readable(db).await?;
    let sql = "SELECT (SELECT count(*) FROM leads), (SELECT coalesce(max(seq), 0) FROM events)";
    let row = query_row(db, sql).await.map_err(|_| {
        let file = file.display();
        StartupError::new(format!(
            "{file} is not a Leadsmith database: use another backup"
        ))
    })?;
    let number = |index| {
        let number = row.try_get_by_index::<i64>(index);
        number.map_err(|error| damaged(error.to_string()))
    };
    let metadata = fs::metadata(file).map_err(|error| damaged(error.to_string()))?;
    Ok(Content {
        bytes: metadata.len(),
        leads: number(0)?,
        last_event: number(1)?,
    })
}

async fn query_row(db: &DatabaseConnection, sql: &str) -> Result<sea_orm::QueryResult, DbErr> {
    let row = db
        .query_one_raw(Statement::from_string(DbBackend::Sqlite, sql))
        .await?;
    row.ok_or_else(|| DbErr::RecordNotFound("no row".to_owned()))
}

/// Makes sure that no other process has the database open: only then does SQLite remove its log.
/// The returned connection keeps others out while it exists. `None` for a file that SQLite cannot
/// read any more.
async fn lock_exclusively(file: &Path) -> Result<Option<DatabaseConnection>, StartupError> {
    let Ok(db) = connect::open_file(file, false).await else {
        return Ok(None);
    };
    match connect::lock_exclusively(&db).await {
        Err(error) if connect::is_locked(&error) => Err(StartupError::new(format!(
            "another process uses {}: stop the server first",
            file.display()
        ))),
        // Otherwise the file is damaged, which is why it is replaced.
        _ => Ok(Some(db)),
    }
}

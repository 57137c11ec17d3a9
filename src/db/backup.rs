//! Copies SQLite's database while it is used, and puts a copy in its place.
//!
//! A copy is made beside where it is to be, checked, synced, and only then given its name: whoever
//! finds a file of that name finds a whole one, whatever happens meanwhile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use tempfile::NamedTempFile;

use super::place::{self, beside_named, folder, unwritten};
use super::{connect, file, migrate};
use crate::config::Refusal;

/// What is in a copy.
pub struct Content {
    /// How many bytes it has.
    pub bytes: u64,
    /// How many leads, whatever their state.
    pub leads: i64,
    /// The last event it has; 0 when it has none.
    pub last_event: i64,
}

/// Copies the database `from` as it is at one moment to the file `to`. Whoever writes goes on.
///
/// # Errors
/// When `from` is not there, `to` is and may not be replaced, or the copy fails or is damaged.
pub async fn back_up(from: &Path, to: &Path, force: bool) -> Result<Content, Refusal> {
    let (from, to) = (&place::existing_database(from)?, &place::resolve(to)?);
    refuse_same(from, to)?;
    refuse_existing(to, force)?;
    let copy = beside(to)?;
    let db = connect::open_file(from, false).await?;
    let path = copy.path().to_string_lossy().into_owned();
    // One read transaction: the copy is of one moment.
    let into = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [path.into()]);
    let copied = db.execute_raw(into).await;
    let _ = db.close().await;
    copied.map_err(|error| Refusal::new(format!("the database cannot be copied: {error}")))?;
    let content = check(copy.path()).await?;
    put(copy, to, force)?;
    Ok(content)
}

/// Puts the copy `from` in the place of the database `to`.
///
/// # Errors
/// When `from` is damaged, no database of Leadsmith's, newer than this program or not all of it; when `to` is there
/// and may not be replaced, or somebody uses it.
pub async fn restore(from: &Path, to: &Path, force: bool) -> Result<Content, Refusal> {
    let to = &place::database(to)?;
    let (from, source) = plain(from)?;
    let from = &from;
    refuse_same(from, to)?;
    refuse_log(from)?;
    refuse_existing(to, force)?;
    let content = check(from).await?;
    let mut copy = beside(to)?;
    let copied = std::io::copy(&mut &source, copy.as_file_mut());
    copied.map_err(|error| unwritten(to, &error))?;
    check(copy.path()).await?;
    let alone = match to.exists() {
        true => alone(to).await?,
        false => None,
    };
    // First: a log that is left would be applied to the copy, which it does not belong to.
    for suffix in place::COMPANIONS {
        let name = beside_named(to, suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unwritten(&name, &error));
            }
            _ => {}
        }
    }
    put(copy, to, force)?;
    if let Some(db) = alone {
        let _ = db.close().await;
    }
    Ok(content)
}

/// Finds and opens a backup, which may have several names: nothing is written to it.
fn plain(file: &Path) -> Result<(PathBuf, File), Refusal> {
    let unread = |error: std::io::Error| {
        let file = file.display();
        Refusal::new(format!(
            "there is no file {file} that can be read ({error}): check its name"
        ))
    };
    // Before it is opened: a pipe would be waited for.
    place::check_plain(file, &file.metadata().map_err(unread)?)?;
    let place = file.canonicalize().map_err(unread)?;
    let opened = File::open(&place).map_err(unread)?;
    Ok((place, opened))
}

/// Whoever has the database open would go on with a file that has no name any more.
fn refuse_same(from: &Path, to: &Path) -> Result<(), Refusal> {
    if !file::is_same(from, to) {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "the file {} is the database itself: name another one",
        to.display()
    )))
}

/// A backup has no log. What lies beside one would be lost.
fn refuse_log(file: &Path) -> Result<(), Refusal> {
    let logs = ["-wal", "-journal"].map(|suffix| beside_named(file, suffix));
    let is_used = |log: &&PathBuf| log.metadata().is_ok_and(|log| log.len() > 0);
    let Some(log) = logs.iter().find(is_used) else {
        return Ok(());
    };
    Err(Refusal::new(format!(
        "the file {0} is no backup, a part of it is in {1}: make one of it, by leadsmith backup \
         --database-url sqlite:{0}",
        file.display(),
        log.display()
    )))
}

fn refuse_existing(file: &Path, force: bool) -> Result<(), Refusal> {
    if force || !file.exists() {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "the file {} is there already: name another one, or say --force to replace it",
        file.display()
    )))
}

/// A new file that only its owner may read, in the folder of another, gone unless it is put there.
fn beside(file: &Path) -> Result<NamedTempFile, Refusal> {
    tempfile::Builder::new()
        .prefix(".leadsmith-")
        .tempfile_in(folder(file))
        .map_err(|error| unwritten(file, &error))
}

/// Gives a copy its name, for good: it is on disk before and its name is after.
fn put(copy: NamedTempFile, file: &Path, force: bool) -> Result<(), Refusal> {
    copy.as_file()
        .sync_all()
        .map_err(|error| unwritten(file, &error))?;
    let persisted = if force {
        copy.persist(file)
    } else {
        copy.persist_noclobber(file)
    };
    persisted.map_err(|error| unwritten(file, &error.error))?;
    File::open(folder(file))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unwritten(file, &error))
}

/// What is in a copy, if it is whole and of a schema that this program knows.
async fn check(file: &Path) -> Result<Content, Refusal> {
    let db = connect::open_file(file, true).await?;
    let content = look_into(&db, file).await;
    let _ = db.close().await;
    content
}

async fn look_into(db: &DatabaseConnection, file: &Path) -> Result<Content, Refusal> {
    let damaged = |why: String| {
        let (file, why) = (file.display(), why.replace('\n', ", "));
        Refusal::new(format!("{file} is damaged ({why}): use another backup"))
    };
    let row = one(db, "PRAGMA integrity_check(1)").await;
    let found = row.and_then(|row| row.try_get_by_index::<String>(0));
    match found {
        Ok(found) if found == "ok" => {}
        Ok(found) => return Err(damaged(found)),
        Err(error) => return Err(damaged(error.to_string())),
    }
    migrate::pending(db).await?;
    let sql = "SELECT (SELECT count(*) FROM leads), (SELECT coalesce(max(seq), 0) FROM events)";
    let row = one(db, sql).await.map_err(|_| {
        let file = file.display();
        Refusal::new(format!(
            "{file} is no database of Leadsmith's: use another backup"
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

async fn one(db: &DatabaseConnection, sql: &str) -> Result<sea_orm::QueryResult, DbErr> {
    let row = db
        .query_one_raw(Statement::from_string(DbBackend::Sqlite, sql))
        .await?;
    row.ok_or_else(|| DbErr::RecordNotFound("no row".to_owned()))
}

/// Makes sure that nobody has the database open: only then does SQLite take its log away. As long as
/// the connection is there nobody gets in. None for a file that SQLite cannot read any more.
async fn alone(file: &Path) -> Result<Option<DatabaseConnection>, Refusal> {
    let Ok(db) = connect::open_file(file, false).await else {
        return Ok(None);
    };
    let sql = [
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA journal_mode = DELETE",
        "BEGIN EXCLUSIVE",
    ];
    for sql in sql {
        match db.execute_unprepared(sql).await {
            Ok(_) => {}
            Err(error) if connect::is_locked(&error) => {
                return Err(Refusal::new(format!(
                    "another process uses {}: stop the server first",
                    file.display()
                )));
            }
            // It is damaged, which is why it is replaced.
            Err(_) => break,
        }
    }
    Ok(Some(db))
}

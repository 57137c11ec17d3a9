//! SQLite's files. A link to one is followed, because databases live in volumes that links lead to; what is
//! opened, written or replaced in the end is a plain file of one name. What is created is its owner's alone.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::config::Refusal;

/// What SQLite keeps beside a database.
pub const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// How many links may lead to a file that is not there yet, as for the kernel.
const LINKS: usize = 40;

/// The file that a name leads to, which may not be there yet: the place to write to.
///
/// # Errors
/// When that is no plain file, has other names too (hard links), or cannot be looked at.
pub fn resolve(file: &Path) -> Result<PathBuf, Refusal> {
    match file.metadata() {
        Ok(found) => {
            check_plain(file, &found)?;
            check_alone(file, &found)?;
            file.canonicalize().map_err(|error| unread(file, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => not_there_yet(file),
        Err(error) => Err(unread(file, &error)),
    }
}

/// Where a file would be created, behind links that lead to nothing yet.
fn not_there_yet(file: &Path) -> Result<PathBuf, Refusal> {
    let mut place = file.to_path_buf();
    for _ in 0..LINKS {
        let Ok(next) = place.read_link() else {
            let name = place.file_name().unwrap_or_default();
            let folder = folder(&place).canonicalize();
            return Ok(folder.map_err(|error| unwritten(file, &error))?.join(name));
        };
        place = folder(&place).join(next);
    }
    Err(Refusal::new(format!(
        "the links that begin at {} lead nowhere: name the file itself",
        file.display()
    )))
}

/// The database that a name leads to, which may not be there yet.
///
/// # Errors
/// As [`resolve`]; and when what SQLite would take for its own beside it is no plain file.
pub fn database(file: &Path) -> Result<PathBuf, Refusal> {
    let file = resolve(file)?;
    for suffix in COMPANIONS {
        check_companion(&beside_named(&file, suffix))?;
    }
    Ok(file)
}

/// The database that a name leads to.
///
/// # Errors
/// As [`database`]; and when there is none.
pub fn existing_database(file: &Path) -> Result<PathBuf, Refusal> {
    let place = database(file)?;
    if !place.exists() {
        return Err(Refusal::new(format!(
            "there is no database file {}: check the database URL, or create the database by leadsmith \
             migrate up",
            file.display()
        )));
    }
    Ok(place)
}

/// That this is a plain file: SQLite writes into nothing else, and a rename would remove what is.
///
/// # Errors
/// A sentence that says what it is.
pub fn check_plain(file: &Path, found: &Metadata) -> Result<(), Refusal> {
    let kind = found.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(Refusal::new(format!(
        "{} is {what}, not a plain file: name another one, or remove it",
        file.display()
    )))
}

/// SQLite names its log after the database: under another name it would not find it. And replacing one
/// name would leave the others with what was there before.
fn check_alone(file: &Path, found: &Metadata) -> Result<(), Refusal> {
    if found.nlink() <= 1 {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "the file {} has {} names (hard links), and a database or backup must have one: remove the others \
         (find -samefile lists them), or name a copy",
        file.display(),
        found.nlink()
    )))
}

/// That what has this name beside a database, if anything has, is a plain file and not a link to one.
fn check_companion(file: &Path) -> Result<(), Refusal> {
    match file.symlink_metadata() {
        Ok(found) => {
            check_plain(file, &found)?;
            check_alone(file, &found)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unread(file, &error)),
    }
}

/// How what the program creates is opened: only its owner reads it, it goes through no link, and a pipe
/// in its place is not waited for.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed());
    options
}

/// Creates the file of a database where there is none. SQLite gives the files beside it the same rights.
///
/// # Errors
/// As [`database`]; and when it may not be written.
pub fn create_database(file: &Path) -> Result<PathBuf, Refusal> {
    let place = database(file)?;
    let opened = private().open(&place);
    opened.map_err(|error| no_right(file, &error))?;
    Ok(place)
}

/// That the database's file may not be written.
pub fn no_right(file: &Path, error: &io::Error) -> Refusal {
    Refusal::new(format!(
        "the database file {} cannot be written ({error}): give the service's user the right to, or name \
         another file",
        file.display()
    ))
}

/// Opens the file beside a database that is locked while it is migrated. What is in it stays.
///
/// # Errors
/// When it is no plain file or may not be written.
pub fn migration_lock(database: &Path) -> Result<File, Refusal> {
    let name = beside_named(database, ".migrate-lock");
    check_companion(&name)?;
    let opened = private().open(&name).and_then(|file| {
        // Others could hold the lock for as long as they like.
        if file.metadata()?.mode() & OTHERS != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    });
    opened.map_err(|error| {
        Refusal::new(format!(
            "the file {} cannot be written ({error}): give the service's user the right to write it and \
             into the database's folder",
            name.display()
        ))
    })
}

/// What others than the owner may do with a file.
const OTHERS: u32 = 0o077;
/// Who may write into a folder may replace what is in it.
const OTHERS_WRITE: u32 = 0o022;

/// Warns where other users of the machine may read or change a database.
pub fn warn_of_access(database: &Path) {
    let mut files = vec![database.to_path_buf()];
    files.extend(COMPANIONS.map(|suffix| beside_named(database, suffix)));
    for file in files {
        warn_if(&file, OTHERS, "600");
    }
    warn_if(&folder(database), OTHERS_WRITE, "700");
}

fn warn_if(path: &Path, others: u32, better: &str) {
    let Ok(found) = path.metadata() else {
        return;
    };
    if found.mode() & others != 0 {
        tracing::warn!(
            mode = format!("{:o}", found.mode() & 0o7777),
            "other users of this machine may read or change the leads by {path}: run chmod {better} {path}",
            path = path.display()
        );
    }
}

/// The name of a file that is kept beside another.
pub fn beside_named(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder a file is in.
pub fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// That a file cannot be written.
pub fn unwritten(file: &Path, error: &dyn std::error::Error) -> Refusal {
    Refusal::new(format!(
        "the file {} cannot be written ({error}): check that its folder exists, has free space and may be \
         written to",
        file.display()
    ))
}

fn unread(file: &Path, error: &io::Error) -> Refusal {
    Refusal::new(format!(
        "the file {} cannot be looked at ({error}): check its name, and that the folders on the way to it \
         may be entered",
        file.display()
    ))
}

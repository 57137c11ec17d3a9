//! Resolves, checks and creates SQLite's files.
//!
//! A symbolic link is followed, because databases are often in volumes that links point to. What is
//! finally opened, written or replaced must be a regular file with one name. Only the owner can
//! access what is created here.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::config::StartupError;

/// The suffixes of the files that SQLite keeps beside a database.
pub const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// How many links to a missing file are followed: the limit of the kernel.
const MAX_LINKS: usize = 40;

/// Resolves a name to the file to write, which may not exist yet.
///
/// # Errors
/// If it is not a regular file, has other names too (hard links), or cannot be accessed.
pub fn resolve(file: &Path) -> Result<PathBuf, StartupError> {
    match file.metadata() {
        Ok(metadata) => {
            check_regular(file, &metadata)?;
            check_single_name(file, &metadata)?;
            file.canonicalize()
                .map_err(|error| read_error(file, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => resolve_missing(file),
        Err(error) => Err(read_error(file, &error)),
    }
}

/// Follows links to a missing file, to the path where it would be created.
fn resolve_missing(file: &Path) -> Result<PathBuf, StartupError> {
    let mut path = file.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Ok(next) = path.read_link() else {
            let name = path.file_name().unwrap_or_default();
            let directory = parent_dir(&path).canonicalize();
            return Ok(directory
                .map_err(|error| write_error(file, &error))?
                .join(name));
        };
        path = parent_dir(&path).join(next);
    }
    Err(StartupError::new(format!(
        "the symbolic links from {} do not lead to a file: use the path of the file itself",
        file.display()
    )))
}

/// Resolves a name to a database file, which may not exist yet.
///
/// # Errors
/// As [`resolve`], and if a file beside it that SQLite would use is not a regular file.
pub fn database(file: &Path) -> Result<PathBuf, StartupError> {
    let file = resolve(file)?;
    for suffix in COMPANIONS {
        check_companion(&sibling(&file, suffix))?;
    }
    Ok(file)
}

/// Resolves a name to an existing database file.
///
/// # Errors
/// As [`database`], and if there is none.
pub fn existing_database(file: &Path) -> Result<PathBuf, StartupError> {
    let path = database(file)?;
    if !path.exists() {
        return Err(StartupError::unavailable(format!(
            "there is no database file {}: check the database URL, or create the database with leadsmith migrate up",
            file.display()
        )));
    }
    Ok(path)
}

/// Checks that this is a regular file. SQLite writes to nothing else, and a rename would remove
/// what is there.
///
/// # Errors
/// A message that says what it is.
pub fn check_regular(file: &Path, metadata: &Metadata) -> Result<(), StartupError> {
    let kind = metadata.file_type();
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
    Err(StartupError::new(format!(
        "{} is {what}, not a regular file: choose another file, or remove it",
        file.display()
    )))
}

/// Refuses a file with several names. SQLite names its log after the database, so it would not find
/// the log under another name. And replacing one name would leave the other names with the old
/// content.
fn check_single_name(file: &Path, metadata: &Metadata) -> Result<(), StartupError> {
    if metadata.nlink() <= 1 {
        return Ok(());
    }
    Err(StartupError::new(format!(
        "the file {} has {} names (hard links), and a database or backup must have only one: remove the others \
         (find -samefile lists them), or use a copy",
        file.display(),
        metadata.nlink()
    )))
}

/// Checks that a file beside a database, if it exists, is a regular file and not a link to one.
fn check_companion(file: &Path) -> Result<(), StartupError> {
    match file.symlink_metadata() {
        Ok(metadata) => {
            check_regular(file, &metadata)?;
            check_single_name(file, &metadata)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(read_error(file, &error)),
    }
}

/// The options for files that the program creates: only the owner can access the file, no link is
/// followed, and opening a pipe does not block.
fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed());
    options
}

/// Creates the database file if there is none. SQLite gives the files beside it the same
/// permissions.
///
/// # Errors
/// As [`database`], and if it cannot be written.
pub fn create_database(file: &Path) -> Result<PathBuf, StartupError> {
    let path = database(file)?;
    let opened = private_options().open(&path);
    opened.map_err(|error| not_writable(file, &error))?;
    Ok(path)
}

/// The error for a database file that cannot be written.
pub fn not_writable(file: &Path, error: &io::Error) -> StartupError {
    StartupError::new(format!(
        "the database file {} cannot be written ({error}): grant the service's user write permission, or use \
         another file",
        file.display()
    ))
}

/// Opens the file beside a database that is locked during migrations. Its content is kept.
///
/// # Errors
/// If it is not a regular file or cannot be written.
pub fn migration_lock(database: &Path) -> Result<File, StartupError> {
    lock_file(database, ".migrate-lock")
}

/// Opens the file beside a database that a server locks while it runs.
///
/// # Errors
/// As [`migration_lock`].
pub fn server_lock(database: &Path) -> Result<File, StartupError> {
    lock_file(database, ".serve-lock")
}

/// The database itself must not be locked in this way: on some file systems the lock would be the one that SQLite uses.
fn lock_file(database: &Path, suffix: &str) -> Result<File, StartupError> {
    let name = sibling(database, suffix);
    check_companion(&name)?;
    let opened = private_options().open(&name).and_then(|file| {
        // Otherwise other users could hold the lock for as long as they like.
        if file.metadata()?.mode() & OTHER_USERS != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    });
    opened.map_err(|error| {
        StartupError::new(format!(
            "the file {} cannot be written ({error}): grant the service's user write permission for it and for the \
             database's folder",
            name.display()
        ))
    })
}

/// The permissions of users other than the owner.
const OTHER_USERS: u32 = 0o077;
/// The write permissions of other users. A user who can write to a directory can replace its files.
const OTHER_USERS_WRITE: u32 = 0o022;

/// Warns if other users of the machine can read or change a database.
pub fn warn_about_permissions(database: &Path) {
    let mut files = vec![database.to_path_buf()];
    files.extend(COMPANIONS.map(|suffix| sibling(database, suffix)));
    for file in files {
        warn_if_accessible(&file, OTHER_USERS, "600");
    }
    warn_if_accessible(&parent_dir(database), OTHER_USERS_WRITE, "700");
}

fn warn_if_accessible(path: &Path, permissions: u32, safe_mode: &str) {
    let Ok(metadata) = path.metadata() else {
        return;
    };
    if metadata.mode() & permissions != 0 {
        let path = path.display();
        tracing::warn!(
            mode = format!("{:o}", metadata.mode() & 0o7777),
            "other users of this machine can read or change the leads in {path}: run chmod {safe_mode} {path}"
        );
    }
}

/// The path of the file with this suffix beside another.
pub fn sibling(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory that contains a file.
pub fn parent_dir(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// The error for a file that cannot be written.
pub fn write_error(file: &Path, error: &dyn std::error::Error) -> StartupError {
    StartupError::new(format!(
        "the file {} cannot be written ({error}): check that its folder exists, has free space and is writable",
        file.display()
    ))
}

fn read_error(file: &Path, error: &io::Error) -> StartupError {
    StartupError::new(format!(
        "the file {} cannot be accessed ({error}): check its name and the permissions of the folders in its path",
        file.display()
    ))
}

//! Detects that the open SQLite file was removed or replaced, or cannot be written.
//!
//! The server would then hold a file that has no name any more. What it writes there is gone when
//! it stops, so it must not acknowledge changes.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    identity: Identity,
    /// Whether a change failed, and no write was tried since.
    suspect: AtomicBool,
}

/// The permissions to write.
const WRITE: u32 = 0o222;

/// What identifies a file, whatever its name is.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl OpenFile {
    /// The length in bytes of the write-ahead log beside the file.
    pub fn wal_length(&self) -> u64 {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        std::fs::metadata(log).map_or(0, |log| log.len())
    }

    /// The file that has this name now.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            identity: Identity::of(&path.metadata()?),
            suspect: AtomicBool::new(false),
        })
    }

    /// Checks that the file still has its name and may be written. The permission is checked although the file is open
    /// already: an operator who removes it expects that nothing is written any more.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE` if another file has it, or none, or the file is read-only.
    pub fn check(&self) -> Result<()> {
        match self.path.metadata() {
            Ok(metadata) if Identity::of(&metadata) != self.identity => {}
            Ok(metadata) if metadata.mode() & WRITE == 0 => {
                return Err(Error::database_unavailable(format!(
                    "the database file {0} is read-only: run chmod u+w {0}",
                    self.path.display()
                )));
            }
            Ok(_) => return Ok(()),
            Err(_) => {}
        }
        Err(Error::database_unavailable(format!(
            "the database file {} was removed or replaced under the server: put it in its place \
             and restart the server",
            self.path.display()
        )))
    }

    /// The space in bytes that this process may still use on the disk; `None` if unknown.
    pub fn free_space(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Notes that a change failed, perhaps because of the disk.
    pub fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// Notes that a write succeeded.
    pub fn clear_suspicion(&self) {
        self.suspect.store(false, Ordering::Relaxed);
    }

    /// Whether a change failed, and no write was tried since.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }
}

/// Whether two names refer to the same file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| Some(Identity::of(&path.metadata().ok()?));
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

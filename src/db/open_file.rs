//! Detects that the open SQLite file was removed or replaced.
//!
//! The server would then hold a file that has no name any more. What it writes there is gone when
//! it stops, so it must not acknowledge changes.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    identity: Identity,
}

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
        })
    }

    /// Checks that the file still has its name.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE` if another file has it, or none.
    pub fn check(&self) -> Result<()> {
        match self.path.metadata() {
            Ok(metadata) if Identity::of(&metadata) == self.identity => Ok(()),
            _ => Err(Error::database_unavailable(format!(
                "the database file {} was removed or replaced under the server: put it in its place \
                 and restart the server",
                self.path.display()
            ))),
        }
    }
}

/// Whether two names refer to the same file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| Some(Identity::of(&path.metadata().ok()?));
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

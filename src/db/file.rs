//! SQLite's file as it was when it was opened. Who removes or replaces it leaves a server with a file
//! that has no name any more: what it writes there is gone when it stops, so it must not answer OK.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file that was opened.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    identity: Identity,
}

/// What tells a file from every other that there is, whatever its name.
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
    /// How many bytes the write-ahead log beside the file has.
    pub fn log_length(&self) -> u64 {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        std::fs::metadata(log).map_or(0, |log| log.len())
    }

    /// The file that has this name now.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            identity: Identity::of(&path.metadata()?),
        })
    }

    /// That it still has its name.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`] when another file has it, or none.
    pub fn check(&self) -> Result<()> {
        match self.path.metadata() {
            Ok(metadata) if Identity::of(&metadata) == self.identity => Ok(()),
            _ => Err(Error::DatabaseUnavailable(format!(
                "the database file {} was removed or replaced under the server: put it in its place \
                 and restart the server",
                self.path.display()
            ))),
        }
    }
}

/// Whether two names lead to one file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| Some(Identity::of(&path.metadata().ok()?));
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

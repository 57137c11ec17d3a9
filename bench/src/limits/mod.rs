//! The limit of a call: the same database work without the service.

pub mod pgbench;
pub mod sqlite;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

pub use tables::Tables;

use crate::storage::Storage;
use pgbench::{Pgbench, Script};
use sqlite::{Loop, Task};

/// The work that a database does for one call.
pub enum Limit {
    Postgres(Pgbench),
    Sqlite(Loop),
}

impl Limit {
    /// SQLite runs the task and PostgreSQL the script, on this storage.
    pub fn new(
        storage: &Storage,
        in_flight: usize,
        task: impl FnOnce() -> Arc<dyn Task>,
        script: impl FnOnce() -> Script,
    ) -> Self {
        match storage {
            Storage::Sqlite(file) => Self::Sqlite(Loop {
                file: file.clone(),
                task: task(),
            }),
            Storage::Postgres(cluster, name) => {
                Self::Postgres(Pgbench::new(cluster, name, script(), in_flight))
            }
        }
    }

    /// The highest rate of the work, per second.
    pub fn rate(&self, time: Duration) -> Result<f64> {
        tokio::task::block_in_place(|| match self {
            Self::Postgres(pgbench) => pgbench.rate(time),
            Self::Sqlite(work) => work.rate(time),
        })
    }

    /// The time of one unit of work without concurrency, in microseconds.
    pub fn p50(&self, time: Duration) -> Result<f64> {
        tokio::task::block_in_place(|| match self {
            Self::Postgres(pgbench) => pgbench.p50(time),
            Self::Sqlite(work) => work.p50(time),
        })
    }
}

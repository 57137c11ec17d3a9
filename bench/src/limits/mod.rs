//! What a database does by itself for what a call promises, without the service.

pub mod pgbench;
pub mod sqlite;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

pub use tables::Tables;

use crate::place::Place;
use pgbench::{Pgbench, Script};
use sqlite::{Loop, Task};

/// What is measured of a database for one work.
pub enum Limit {
    Postgres(Pgbench),
    Sqlite(Loop),
}

impl Limit {
    /// SQLite does the task, PostgreSQL the script, at this place.
    pub fn new(
        place: &Place,
        in_flight: usize,
        task: impl FnOnce() -> Arc<dyn Task>,
        script: impl FnOnce() -> Script,
    ) -> Self {
        match place {
            Place::Sqlite(file) => Self::Sqlite(Loop {
                file: file.clone(),
                task: task(),
            }),
            Place::Postgres(cluster, name) => {
                Self::Postgres(Pgbench::new(cluster, name, script(), in_flight))
            }
        }
    }

    /// How many times a second it does the work, at its best.
    pub fn rate(&self, time: Duration) -> Result<f64> {
        tokio::task::block_in_place(|| match self {
            Self::Postgres(pgbench) => pgbench.rate(time),
            Self::Sqlite(work) => work.rate(time),
        })
    }

    /// How long one work takes, one after the other, in microseconds.
    pub fn p50(&self, time: Duration) -> Result<f64> {
        tokio::task::block_in_place(|| match self {
            Self::Postgres(pgbench) => pgbench.p50(time),
            Self::Sqlite(work) => work.p50(time),
        })
    }
}

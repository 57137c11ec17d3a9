//! What a database does with a work by itself, without the service.

pub mod pgbench;
pub mod sqlite;

use std::time::Duration;

use anyhow::Result;

/// The limit that a database sets to a work.
pub enum Limit {
    Postgres(pgbench::Pgbench),
    Sqlite(sqlite::Loop),
}

impl Limit {
    /// How often a second it does the work, at its best.
    pub fn rate(&self, time: Duration) -> Result<f64> {
        tokio::task::block_in_place(|| match self {
            Self::Postgres(pgbench) => pgbench.rate(time),
            Self::Sqlite(work) => work.rate(time),
        })
    }

    /// How long the work takes when it is done once at a time, in microseconds.
    pub fn p50(&self, time: Duration) -> Result<f64> {
        tokio::task::block_in_place(|| match self {
            Self::Postgres(pgbench) => pgbench.p50(time),
            Self::Sqlite(work) => work.p50(time),
        })
    }
}

//! Temporary databases: a SQLite file, or a database of this program's PostgreSQL server.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement};
use tempfile::TempDir;

use super::cluster::Cluster;

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// For proofs that run on both.
pub const BOTH: &[Kind] = &[Kind::Sqlite, Kind::Postgres];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        })
    }
}

/// A database without a schema. It is deleted on drop.
pub enum Database {
    /// A file in its own folder.
    Sqlite(TempDir),
    /// A database of the server, by name.
    Postgres(Arc<Cluster>, String),
    /// A PostgreSQL database by its URL. The caller owns and deletes it.
    Elsewhere(String),
}

impl Database {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Postgres(..) | Self::Elsewhere(_) => Kind::Postgres,
        }
    }

    /// The URL that the service is configured with.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => format!("sqlite:{}", self.file().display()),
            Self::Postgres(cluster, name) => cluster.url(name),
            Self::Elsewhere(url) => url.clone(),
        }
    }

    /// SQLite's file. On PostgreSQL, an empty path.
    pub fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("leads.db"),
            Self::Postgres(..) | Self::Elsewhere(_) => PathBuf::new(),
        }
    }

    /// The server and the name of the database.
    pub fn cluster(&self) -> Result<(&Arc<Cluster>, &str)> {
        match self {
            Self::Sqlite(_) | Self::Elsewhere(_) => None.context("no server of this program's own"),
            Self::Postgres(cluster, name) => Ok((cluster, name)),
        }
    }

    /// A connection in addition to the service's own.
    pub async fn connect(&self) -> Result<Connection> {
        let mut options = sea_orm::ConnectOptions::new(self.url());
        options
            .max_connections(1)
            .sqlx_logging(false)
            // As for the service's connections in src/db/connect.rs.
            .idle_timeout(None)
            .max_lifetime(None);
        Ok(Connection(sea_orm::Database::connect(options).await?))
    }

    /// Runs a query whose result is a single number.
    pub async fn count(&self, sql: &str) -> Result<i64> {
        let connection = self.connect().await?;
        let count = connection.count(sql).await;
        connection.close().await?;
        count
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres(cluster, name) = self {
            // The whole server is deleted soon after. Dropping the database saves disk space until then.
            let _ = cluster.admin(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// A connection for inspecting what the service stored, or for blocking it with locks.
pub struct Connection(DatabaseConnection);

impl Connection {
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.0.execute_unprepared(sql).await?;
        Ok(())
    }

    pub async fn rows(&self, sql: &str) -> Result<Vec<QueryResult>> {
        let statement = Statement::from_string(self.backend(), sql);
        Ok(self.0.query_all_raw(statement).await?)
    }

    /// The first column of every row, as text.
    pub async fn texts(&self, sql: &str) -> Result<Vec<String>> {
        let rows = self.rows(sql).await?;
        rows.iter()
            .map(|row| Ok(row.try_get_by_index(0)?))
            .collect()
    }

    pub async fn count(&self, sql: &str) -> Result<i64> {
        let rows = self.rows(sql).await?;
        let row = rows.first().with_context(|| format!("no row by: {sql}"))?;
        Ok(row.try_get_by_index(0)?)
    }

    pub fn backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    pub async fn close(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

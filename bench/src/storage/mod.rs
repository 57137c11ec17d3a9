//! Where leads are stored: a SQLite file, or a database of this program's PostgreSQL server.

mod cluster;

use std::fmt;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

pub use cluster::Cluster;

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        })
    }
}

/// Where leads are stored.
#[derive(Clone)]
pub enum Storage {
    /// A file.
    Sqlite(PathBuf),
    /// A database of the cluster, by name.
    Postgres(Arc<Cluster>, String),
}

impl Storage {
    pub fn database(&self) -> Database {
        match self {
            Self::Sqlite(_) => Database::Sqlite,
            Self::Postgres(..) => Database::Postgres,
        }
    }

    /// The URL that the service connects to.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(file) => format!("sqlite:{}", file.display()),
            Self::Postgres(cluster, name) => cluster.url(name),
        }
    }

    /// A connection. On SQLite no other program may use the file.
    pub async fn connect(&self) -> Result<DatabaseConnection> {
        let mut options = sea_orm::ConnectOptions::new(self.url());
        options
            .max_connections(1)
            .sqlx_logging(false)
            // As for the service's connections in src/db/connect.rs.
            .idle_timeout(None)
            .max_lifetime(None);
        Ok(sea_orm::Database::connect(options).await?)
    }

    pub async fn exists(&self) -> Result<bool> {
        match self {
            Self::Sqlite(file) => Ok(file.exists()),
            Self::Postgres(cluster, name) => {
                let sql = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
                Ok(!cluster.admin(&sql)?.is_empty())
            }
        }
    }

    /// Creates it empty, and replaces an existing one.
    pub async fn create(&self) -> Result<()> {
        self.remove().await?;
        match self {
            Self::Sqlite(file) => fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(file)
                .map(|_| ())
                .with_context(|| format!("{} cannot be created", file.display())),
            Self::Postgres(cluster, name) => cluster
                .admin(&format!("CREATE DATABASE {name}"))
                .map(|_| ()),
        }
    }

    pub async fn remove(&self) -> Result<()> {
        match self {
            Self::Sqlite(file) => {
                for suffix in ["", "-wal", "-shm", ".migrate-lock"] {
                    let file = with_suffix(file, suffix);
                    if file.exists() {
                        fs::remove_file(&file)
                            .with_context(|| format!("{} cannot be removed", file.display()))?;
                    }
                }
                Ok(())
            }
            Self::Postgres(cluster, name) => cluster
                .admin(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                .map(|_| ()),
        }
    }

    /// A copy, which replaces an earlier copy.
    pub async fn copy(&self) -> Result<Self> {
        let to = match self {
            Self::Sqlite(file) => Self::Sqlite(with_suffix(file, ".copy")),
            Self::Postgres(cluster, name) => {
                Self::Postgres(Arc::clone(cluster), format!("{name}_copy"))
            }
        };
        self.copy_to(&to).await?;
        Ok(to)
    }

    /// Copies it over another one on the same database. Nothing may be connected to either.
    pub async fn copy_to(&self, to: &Self) -> Result<()> {
        to.remove().await?;
        match (self, to) {
            (Self::Sqlite(from), Self::Sqlite(to)) => {
                for suffix in ["", "-wal"] {
                    let from = with_suffix(from, suffix);
                    if from.exists() {
                        fs::copy(&from, with_suffix(to, suffix))
                            .with_context(|| format!("{} cannot be copied", from.display()))?;
                    }
                }
                Ok(())
            }
            (Self::Postgres(cluster, from), Self::Postgres(_, to)) => {
                let sql = format!("CREATE DATABASE {to} TEMPLATE {from} STRATEGY file_copy");
                cluster.admin(&sql).map(|_| ())
            }
            _ => bail!("a database cannot be copied to one of another kind"),
        }
    }

    /// Updates the planner's statistics and flushes everything to disk, so that neither happens during a
    /// measurement.
    pub async fn analyze(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => {
                self.execute("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)")
                    .await
            }
            Self::Postgres(..) => {
                self.execute("VACUUM (ANALYZE)").await?;
                self.execute("CHECKPOINT").await
            }
        }
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let db = self.connect().await?;
        db.execute_unprepared(sql).await?;
        db.close().await?;
        Ok(())
    }

    /// The single row of a query of text columns.
    pub async fn row<const N: usize>(&self, sql: &str) -> Result<[String; N]> {
        let db = self.connect().await?;
        let backend = match self {
            Self::Sqlite(_) => DbBackend::Sqlite,
            Self::Postgres(..) => DbBackend::Postgres,
        };
        let row = db
            .query_one_raw(Statement::from_string(backend, sql))
            .await?
            .with_context(|| format!("no row is found by: {sql}"))?;
        db.close().await?;
        let mut values = [const { String::new() }; N];
        for (index, value) in values.iter_mut().enumerate() {
            *value = row.try_get_by_index(index)?;
        }
        Ok(values)
    }
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

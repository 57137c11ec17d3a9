//! What is measured of the database: the statements, the pools, the size of the stored data.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use tokio::time::timeout;

use super::{Db, MAX_WRITES};
use crate::metrics::{Limit, Metrics, Operation};
use crate::telemetry::traces;

/// How long the query for the size of the database may take. While the database is unavailable, the other metrics are
/// needed most.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Measures the statements of these connections, for the metrics and the traces. BEGIN and COMMIT are not among them.
pub(super) fn observed(
    mut connection: DatabaseConnection,
    metrics: &Arc<Metrics>,
) -> DatabaseConnection {
    let metrics = Arc::clone(metrics);
    connection.set_metric_callback(move |statement| {
        let sql = &statement.statement.sql;
        let operation = Operation::of(sql);
        metrics.statements.observe(operation, statement.elapsed);
        traces::statement(operation.as_str(), sql, statement.elapsed, statement.failed);
    });
    connection
}

impl Db {
    /// The metrics of this server.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Sets the metrics that are read and not counted.
    pub async fn observe(&self) {
        for (pool, connection) in [("read", &self.readers.pool), ("write", &self.writer)] {
            let (open, idle) = self.pool_size(connection);
            for (state, count) in [("idle", idle), ("used", open.saturating_sub(idle))] {
                let gauge = &self.metrics.pool_connections;
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                gauge.with_label_values(&[pool, state]).set(count);
            }
        }
        let limits = &self.metrics.limits;
        let transactions = MAX_WRITES - self.write_permits.available_permits();
        limits.set(Limit::Transactions, transactions, MAX_WRITES);
        let (pages, all) = self.pages.usage();
        limits.set(Limit::Pages, pages, all);
        if let Some(file) = &self.file {
            let length = i64::try_from(file.wal_length()).unwrap_or(i64::MAX);
            self.metrics.wal_bytes.set(length);
        }
        let size = timeout(QUERY_TIMEOUT, self.size()).await;
        match size {
            Ok(Ok(bytes)) => {
                self.metrics.database_bytes.set(bytes);
                self.metrics.database_up.set(1);
            }
            Ok(Err(_)) | Err(_) => self.metrics.database_up.set(0),
        }
    }

    /// The open connections of a pool, and how many of them are idle.
    fn pool_size(&self, connection: &DatabaseConnection) -> (usize, usize) {
        if self.backend() == DbBackend::Postgres {
            let pool = connection.get_postgres_connection_pool();
            (pool.size() as usize, pool.num_idle())
        } else {
            let pool = connection.get_sqlite_connection_pool();
            (pool.size() as usize, pool.num_idle())
        }
    }

    async fn size(&self) -> Result<i64, DbErr> {
        let sql = if self.backend() == DbBackend::Postgres {
            "SELECT pg_database_size(current_database())"
        } else {
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        };
        let statement = Statement::from_string(self.backend(), sql);
        let row = self.readers.query_one_raw(statement).await?;
        let missing = || DbErr::RecordNotFound("the size".to_owned());
        row.ok_or_else(missing)?.try_get_by_index(0)
    }
}

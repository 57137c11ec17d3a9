//! A connection inside or outside a transaction, for queries that run on both.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::Tx;
use super::reader::Reader;

/// Where a query runs.
#[derive(Clone, Copy)]
pub enum Connection<'a> {
    /// In a write transaction.
    Tx(&'a Tx),
    /// On a read-only connection.
    Reader(&'a Reader),
}

#[tonic::async_trait]
impl ConnectionTrait for Connection<'_> {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Tx(tx) => tx.get_database_backend(),
            Self::Reader(reader) => reader.get_database_backend(),
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Tx(tx) => tx.execute_raw(statement).await,
            Self::Reader(reader) => reader.execute_raw(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Tx(tx) => tx.execute_unprepared(sql).await,
            Self::Reader(reader) => reader.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Tx(tx) => tx.query_one_raw(statement).await,
            Self::Reader(reader) => reader.query_one_raw(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Tx(tx) => tx.query_all_raw(statement).await,
            Self::Reader(reader) => reader.query_all_raw(statement).await,
        }
    }
}

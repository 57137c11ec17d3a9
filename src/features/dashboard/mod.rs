//! The dashboard: the figures of the sales desk, counted when they are asked for.
//!
//! Nothing is kept for it but indexes, so it is exact and no change waits for it.

pub mod api;
pub mod model;
pub mod store;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::auth::Auth;
use crate::core::clock::Clock;
use crate::db::Db;
use crate::error::Result;
use crate::features::operators::Operators;
use model::{Dashboard, Period};

/// The use cases of the dashboard.
#[derive(Clone)]
pub struct Dashboards {
    db: Db,
    clock: Clock,
    operators: Operators,
}

/// Whose figures to count, of which period.
#[derive(Clone, Debug)]
pub struct Query {
    /// The principal that asks.
    pub principal: Uuid,
    /// The period.
    pub period: Period,
    /// Only what belongs to this operator.
    pub owner_id: Option<Uuid>,
}

impl Dashboards {
    /// Creates the use cases for this database.
    pub fn new(db: Db, clock: Clock, auth: Arc<Auth>) -> Self {
        Self {
            db,
            clock,
            operators: Operators::new(auth),
        }
    }

    /// The current time, in which periods begin or end by default.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Counts the figures.
    ///
    /// # Errors
    /// `OPERATOR_NOT_FOUND`, `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn get(&self, query: Query) -> Result<Dashboard> {
        if let Some(id) = query.owner_id {
            self.operators.get(id).await?;
        }
        let db = self.db.pages(query.principal).await?;
        let read_time = self.clock.now();
        let figures = store::figures(&db, &query.period, query.owner_id).await?;
        Ok(Dashboard {
            read_time,
            period: query.period,
            owner_id: query.owner_id,
            figures,
        })
    }
}

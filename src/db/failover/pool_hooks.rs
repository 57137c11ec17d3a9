//! What the pools check when a connection is acquired and when it is released.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::Connection as _;
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::{ConnectOptions, SqlxError};

use super::epoch::ConnectionEpoch;

/// Connections that became stale are not used again. Of the others, only those that were idle for
/// longer than `ping_after_idle` are pinged: a host that froze would not respond.
pub fn reject_stale(
    options: &mut ConnectOptions,
    epoch: Arc<ConnectionEpoch>,
    ping_after_idle: Duration,
) {
    options.map_sqlx_postgres_before_acquire(move |connection, metadata| {
        let is_usable = !epoch.is_stale(metadata.age);
        Box::pin(async move {
            if is_usable && metadata.idle_for > ping_after_idle {
                connection.ping().await?;
            }
            Ok(is_usable)
        })
    });
}

/// Connections that became stale while they were in use are dropped when they are returned.
pub fn drop_stale(pool: PgPoolOptions, epoch: Arc<ConnectionEpoch>) -> PgPoolOptions {
    // An error makes the pool drop the connection. Closing it properly would wait for the
    // server.
    pool.after_release(move |_, metadata| {
        let is_stale = epoch.is_stale(metadata.age);
        let dropped = || SqlxError::Io(std::io::ErrorKind::ConnectionAborted.into());
        Box::pin(std::future::ready(
            (!is_stale).then_some(true).ok_or_else(dropped),
        ))
    })
}

//! Which connections are stale, and the end of the work that waits on them.
//!
//! It knows neither pools nor servers: code that finds a connection dead reports it here, and the pools check
//! it before they use a connection again. It is written by hand because the pool of sqlx does not invalidate
//! connections as a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr, SqlxError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::is_lost;

/// Records when a connection was last found dead. Connections that were opened before are stale.
#[derive(Debug)]
pub struct ConnectionEpoch {
    created: Instant,
    /// Milliseconds since `created`; 0 means never.
    last_failure: AtomicU64,
    /// Notified when the running queries are aborted.
    aborts: watch::Sender<()>,
}

impl Default for ConnectionEpoch {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            last_failure: AtomicU64::new(0),
            aborts: watch::Sender::default(),
        }
    }
}

impl ConnectionEpoch {
    /// Marks all current connections as stale if `error` says that a connection is dead.
    pub fn note_error(&self, error: &DbErr) {
        if is_lost(error) {
            self.invalidate();
        }
    }

    /// Marks all current connections as stale.
    pub fn invalidate(&self) {
        self.last_failure
            .store(self.now().max(1), Ordering::Relaxed);
    }

    /// Marks all current connections as stale and aborts the work that runs on them.
    pub fn abort_pending(&self) {
        self.invalidate();
        self.aborts.send_replace(());
    }

    /// Runs `work` until it ends or [`abort_pending`](Self::abort_pending) is called. Then `work`
    /// is dropped, and its connection with it.
    pub async fn abortable<T, E: From<DbErr>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut aborts = self.aborts.subscribe();
        tokio::select! {
            biased;
            result = work => result,
            _ = aborts.changed() => Err(unresponsive().into()),
        }
    }

    /// Whether a connection of this age was opened before the last one was found dead.
    pub fn is_stale(&self, age: Duration) -> bool {
        let last_failure = self.last_failure.load(Ordering::Relaxed);
        let opened = u128::from(self.now()).saturating_sub(age.as_millis());
        last_failure > 0 && opened <= u128::from(last_failure)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The error for work that was aborted.
fn unresponsive() -> DbErr {
    let why = std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer");
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(SqlxError::Io(why))))
}

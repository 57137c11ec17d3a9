//! Makes again what an older version has written and this one needs in another form: beside this one during an upgrade,
//! or alone before a rollback was undone.

use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::db::Db;
use crate::error::Result;
use crate::features::leads::search;
use crate::features::orders::store::unlisted;

/// How often it is looked for. If there is nothing, this reads two empty indexes.
const INTERVAL: Duration = Duration::from_secs(10);
/// The pause between two transactions, in which other writers can proceed.
const BATCH_PAUSE: Duration = Duration::from_millis(100);

/// Starts the job. It ends when the handle is dropped.
pub fn start(db: Db) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let texts = noted("search texts", search::make_outdated_again(&db).await);
            let orders = noted("open actions", unlisted::list_again(&db).await);
            let pause = match texts + orders {
                0 => INTERVAL,
                _ => BATCH_PAUSE,
            };
            tokio::time::sleep(pause).await;
        }
    }))
}

/// Logs how many rows were made again, and returns their number.
fn noted(what: &'static str, made: Result<u64>) -> u64 {
    match made {
        Ok(0) => 0,
        Ok(rows) => {
            tracing::info!(what, rows, "made again what an older version had written");
            rows
        }
        Err(error) => {
            tracing::warn!(
                what,
                error = error.detail(),
                "what an older version has written is not made again yet"
            );
            0
        }
    }
}

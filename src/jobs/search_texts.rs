//! Makes the texts that leads are found by again, where an older version has written them: beside this one during an
//! upgrade, or alone before a rollback was undone.

use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::db::Db;
use crate::features::leads::search;

/// How often they are looked for. If there are none, this reads an empty index.
const INTERVAL: Duration = Duration::from_secs(10);
/// The pause between two transactions, in which other writers can proceed.
const BATCH_PAUSE: Duration = Duration::from_millis(100);

/// Starts the job. It ends when the handle is dropped.
pub fn start(db: Db) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let pause = match search::make_outdated_again(&db).await {
                Ok(0) => INTERVAL,
                Ok(count) => {
                    tracing::info!(
                        leads = count,
                        "made search texts again that an older version had written"
                    );
                    BATCH_PAUSE
                }
                Err(error) => {
                    tracing::warn!(
                        error = error.detail(),
                        "search texts of an older version are not made again yet"
                    );
                    INTERVAL
                }
            };
            tokio::time::sleep(pause).await;
        }
    }))
}

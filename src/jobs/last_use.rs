//! Stores when sessions and API keys were last used, a few seconds after they were. `auth::last_use` explains how
//! exact that is.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::auth::Auth;
use crate::auth::last_use::STORE_INTERVAL;

/// Starts the job. It ends when the handle is dropped.
pub fn start(auth: Arc<Auth>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(STORE_INTERVAL).await;
            if let Err(error) = auth.last_use.store(&auth.db).await {
                tracing::warn!(
                    error = error.detail(),
                    "failed to store when credentials were last used"
                );
            }
        }
    }))
}

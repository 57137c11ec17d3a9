//! Notifies a service manager such as systemd, by the protocol of `sd_notify(3)`: that the server is ready, that it
//! stops, and, at regular intervals, that it is alive. Without NOTIFY_SOCKET in the environment nothing is sent.
//!
//! Alive means that the process works, not that the database does: a restart would not repair that. The notifications
//! are sent by a task of the same runtime that serves the calls, and only while the checks of the database end, so a
//! runtime that is blocked and a check that waits forever both stop them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::task::AbortOnDropHandle;

use crate::server::Readiness;

/// The age of the last check of the database from which on the server counts as stuck. A check of a URL with many hosts
/// that do not respond takes seconds.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// The shortest interval between two notifications, whatever WATCHDOG_USEC requests.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The service manager of this process, if there is one.
pub struct ServiceManager {
    is_stopping: Arc<AtomicBool>,
    /// Notifies it until the process ends.
    _watchdog: Option<AbortOnDropHandle<()>>,
}

impl ServiceManager {
    /// Notifies it that the server is ready, and from then on that it is alive, if a watchdog is set.
    pub fn ready(address: SocketAddr, readiness: Readiness) -> Self {
        let is_stopping = Arc::<AtomicBool>::default();
        let status = format!("serving on {address}");
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        let watchdog = sd_notify::watchdog_enabled().map(|limit| {
            let stopping = Arc::clone(&is_stopping);
            let interval = (limit / 2).max(SHORTEST_INTERVAL);
            AbortOnDropHandle::new(tokio::spawn(keep_alive(interval, readiness, stopping)))
        });
        Self {
            is_stopping,
            _watchdog: watchdog,
        }
    }

    /// Notifies it that the server stops.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let status = "waiting for running calls to finish";
        notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }
}

/// Whether the server works, by the age of its last check of the database. A server that stops makes no checks. How long
/// it may take is limited by its own setting and by the service manager.
fn works(age: Duration, is_stopping: bool) -> bool {
    age < STUCK_AFTER || is_stopping
}

/// Notifies the service manager that the server is alive, while it is.
async fn keep_alive(interval: Duration, readiness: Readiness, is_stopping: Arc<AtomicBool>) {
    let mut is_alive = true;
    loop {
        let age = readiness.since_last_check();
        let was_alive = is_alive;
        is_alive = works(age, is_stopping.load(Ordering::Relaxed));
        if is_alive {
            notify(&[NotifyState::Watchdog]);
        } else if was_alive {
            tracing::error!(
                seconds = age.as_secs(),
                "the checks of the database have stopped: the watchdog of the service manager is no longer notified"
            );
        }
        tokio::time::sleep(interval).await;
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_checks_do_not_end_is_stuck_unless_it_stops() {
        assert!(works(Duration::from_secs(29), false));
        assert!(!works(Duration::from_secs(30), false));
        assert!(works(Duration::from_secs(300), true));
    }
}

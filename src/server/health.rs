//! What the health service reports: readiness and liveness.
//!
//! Readiness, for `""` and each service, follows the database: while the database is unavailable, a load balancer must
//! send calls to other replicas. Liveness does not follow it: a restart of the process would not repair the database.
//! The module must use the database only through its `Watch`. It takes the names of the services from `auth::policy`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use super::AdmissionLayer;
use crate::auth::policy;
use crate::db::Watch;

/// The service name of the liveness: whether the process is alive, whatever the state of the database.
pub const LIVENESS: &str = "liveness";

/// How often the database is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The health service, which reports everything as serving, and the handle that changes what it reports.
pub async fn reporter() -> (Readiness, HealthServer<impl Health>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter
        .set_service_status(LIVENESS, ServingStatus::Serving)
        .await;
    let readiness = Readiness {
        reporter,
        is_ready: Arc::default(),
        start: Instant::now(),
        last_check: Arc::default(),
    };
    readiness.set(true).await;
    (readiness, service)
}

/// Whether the server is ready, as it reports to health checks.
#[derive(Clone)]
pub struct Readiness {
    reporter: HealthReporter,
    is_ready: Arc<AtomicBool>,
    start: Instant,
    /// When the database was last checked, in milliseconds after `start`.
    last_check: Arc<AtomicU64>,
}

impl Readiness {
    /// Sets the readiness of the server and of every service.
    pub async fn set(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.is_ready.store(ready, Ordering::Relaxed);
        for service in policy::services().into_iter().chain([""]) {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// What was last set.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    /// How long ago a check of the database ended, whatever it found. The checks end about every second, also while the
    /// database is unavailable: a long time means that the process is stuck.
    pub fn since_last_check(&self) -> Duration {
        let last = Duration::from_millis(self.last_check.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }

    fn checked(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_check.store(now, Ordering::Relaxed);
    }
}

/// Keeps the readiness equal to the availability of the database until it is stopped. Returns the watch.
pub async fn follow_database(
    readiness: Readiness,
    mut database: Watch,
    admission: AdmissionLayer,
    stop: CancellationToken,
) -> Watch {
    let mut was_ready = true;
    loop {
        let check = async {
            tokio::time::sleep(CHECK_INTERVAL).await;
            database.check().await
        };
        let availability = tokio::select! {
            biased;
            () = stop.cancelled() => return database,
            availability = check => availability,
        };
        readiness.checked();
        admission.outage().checked(&availability);
        let ready = availability.is_ok();
        if ready != was_ready {
            match availability {
                Ok(()) => tracing::info!("reports SERVING to health checks"),
                Err(cause) => tracing::warn!(cause, "reports NOT_SERVING to health checks"),
            }
            readiness.set(ready).await;
            was_ready = ready;
        }
    }
}

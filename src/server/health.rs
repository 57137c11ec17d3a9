//! What the health service says. Readiness, for `""` and each service, follows the database: who
//! balances load sends calls elsewhere while it is away. Liveness does not: a restart would not
//! bring the database back.

use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::db::Watch;

/// The services, by their full names, whose health is told.
pub const SERVICES: [&str; 5] = [
    "leadsmith.v1.LeadService",
    "leadsmith.v1.ClientService",
    "leadsmith.v1.OpportunityService",
    "leadsmith.v1.OrderService",
    "leadsmith.v1.AuthService",
];
/// The name under which the health service says that the process lives, and no more.
pub const LIVENESS: &str = "liveness";

/// How often the database is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Says of everything but the liveness whether it serves.
pub async fn tell(reporter: &HealthReporter, serves: bool) {
    let status = if serves {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in SERVICES.into_iter().chain([""]) {
        reporter.set_service_status(service, status).await;
    }
}

/// Keeps the readiness as the database is, for ever.
pub async fn follow(reporter: HealthReporter, mut database: Watch) {
    let mut served = true;
    loop {
        tokio::time::sleep(EVERY).await;
        let serves = database.answers().await;
        if serves != served {
            if serves {
                tracing::info!("the database answers again: serving");
            } else {
                tracing::warn!("the database does not answer: not serving");
            }
            tell(&reporter, serves).await;
            served = serves;
        }
    }
}

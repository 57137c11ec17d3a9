//! `leadsmith healthcheck`: for the health check of a container whose image has no other gRPC client.
//!
//! It calls a running server over the network only. It must not open the database, because it checks what a
//! client would see.

use std::time::Duration;

use clap::Args;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::output::{self, Failure};
use super::server::{ServerSettings, root_cause};
use crate::config::StartupError;

pub const EXAMPLES: &str = "\
With the environment or the file that the server has, it needs no flag.

Examples:
  leadsmith healthcheck
  leadsmith healthcheck --service liveness
  leadsmith healthcheck --listen 10.0.0.7:50051 --tls-ca ca.pem --tls-name leads.example";

#[derive(Args, Debug)]
pub struct HealthcheckSettings {
    /// The service to check by its full name, such as leadsmith.v1.LeadService, or liveness; by default
    /// the whole server
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    service: String,
    #[command(flatten)]
    server: ServerSettings,
}

/// The limit for the response.
const TIMEOUT: Duration = Duration::from_secs(3);

pub async fn run(settings: &HealthcheckSettings) -> Result<(), Failure> {
    let address = settings.server.address()?;
    let unhealthy =
        |why: String| StartupError::new(format!("the health check of {address} failed: {why}"));
    let channel = settings.server.connect(address, unhealthy).await?;
    let mut request = Request::new(HealthCheckRequest {
        service: settings.service.clone(),
    });
    request.set_timeout(TIMEOUT);
    let response = HealthClient::new(channel).check(request).await;
    let status = response.map_err(|status| unhealthy(refusal(settings, &status)))?;
    match status.into_inner().status() {
        ServingStatus::Serving => output::show("SERVING\n"),
        ServingStatus::NotServing => Err(unhealthy(
            "the server responds NOT_SERVING: it is stopping, or its database is unavailable (its log says why)".into(),
        )
        .into()),
        status @ (ServingStatus::Unknown | ServingStatus::ServiceUnknown) => {
            Err(unhealthy(format!("the server responds {}", status.as_str_name())).into())
        }
    }
}

/// The reason why a server did not respond with a status.
fn refusal(settings: &HealthcheckSettings, status: &Status) -> String {
    match status.code() == Code::NotFound {
        true => format!(
            "the server has no service {:?}: use the full name of a service, liveness, or no name",
            settings.service
        ),
        false => settings.server.explained(&root_cause(status)),
    }
}

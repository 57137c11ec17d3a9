//! `leadsmith healthcheck`: for a container's health check, which has no other client at hand.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::config::Refusal;

#[derive(Args, Debug)]
pub struct HealthcheckSettings {
    /// Where the server listens
    #[arg(
        long,
        env = "LEADSMITH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
}

const PATIENCE: Duration = Duration::from_secs(3);

pub async fn run(settings: &HealthcheckSettings) -> Result<(), Refusal> {
    let mut address = settings.listen;
    if address.ip().is_unspecified() {
        // A server that listens everywhere listens here too.
        let here: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(here);
    }
    let silent = |why: String| Refusal::new(format!("no health from {address}: {why}"));
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| silent(error.to_string()))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE)
        .connect()
        .await
        .map_err(|error| silent(root_cause(&error)))?;
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .map_err(|status| silent(status.message().to_owned()))?;
    let status = answer.into_inner().status();
    if status == ServingStatus::Serving {
        println!("SERVING");
        Ok(())
    } else {
        Err(silent(format!("it answers {}", status.as_str_name())))
    }
}

/// What is at the bottom of an error: tonic's own says only "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}

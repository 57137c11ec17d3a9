//! The settings of what a server shows of its work: which calls it logs, where it serves its metrics, and where it sends
//! its traces.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;

use super::describe::{Described, redact_url};
use super::{StartupError, values};

const LOG_READS: &str = "0";
const ADMIN_LISTEN: &str = "auto";
/// Where the metrics are served with `auto`. Prometheus's own exporters use ports of this range.
const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
const TRACES_ENDPOINT: &str = "off";
const TRACES_SAMPLE: &str = "1";

/// What a server shows of its work.
#[derive(Args, Clone, Debug)]
pub struct ObserveSettings {
    /// The share of calls that only read which are logged at info, 0 to 1: 0.01 logs one of 100, evenly.
    /// Others are logged at debug. Reads that take a second or longer are logged at info in any case
    #[arg(
        long,
        help_heading = "Log",
        env = "LEADSMITH_LOG_READS",
        default_value = LOG_READS,
        value_parser = values::share(),
        value_name = "SHARE"
    )]
    pub log_reads: f64,
    /// Where to serve /metrics, /livez and /readyz over HTTP: an address, off, or auto, which is 127.0.0.1:9464
    /// if no other program uses it. There is neither TLS nor authentication, so only the monitoring should reach
    /// the address
    #[arg(
        long,
        help_heading = "Network",
        env = "LEADSMITH_ADMIN_LISTEN",
        default_value = ADMIN_LISTEN,
        value_parser = values::admin_listen(),
        value_name = "ADDRESS|auto|off"
    )]
    pub admin_listen: AdminListen,
    /// The collector that gets the traces over OTLP (gRPC), for example http://127.0.0.1:4317, or off
    #[arg(
        long,
        help_heading = "Traces",
        env = "LEADSMITH_TRACES_ENDPOINT",
        default_value = TRACES_ENDPOINT,
        value_parser = values::optional_endpoint(),
        value_name = "URL|off"
    )]
    pub traces_endpoint: TracesEndpoint,
    /// The share of traces that are recorded, 0 to 1. Where the client sent a traceparent, the client's decision
    /// counts instead
    #[arg(
        long,
        help_heading = "Traces",
        env = "LEADSMITH_TRACES_SAMPLE",
        default_value = TRACES_SAMPLE,
        value_parser = values::share(),
        value_name = "SHARE"
    )]
    pub traces_sample: f64,
}

/// The URL of the collector of traces, if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracesEndpoint(pub Option<String>);

/// Where the administrative listener listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere.
    #[default]
    Off,
    /// On [`AdminListen::address`] if it is free.
    Auto,
    /// On this address.
    Address(SocketAddr),
}

impl AdminListen {
    /// The address, if the listener is on.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::Auto => Some(ADMIN_ADDRESS),
            Self::Address(address) => Some(address),
        }
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Auto => f.write_str(ADMIN_LISTEN),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Default for ObserveSettings {
    fn default() -> Self {
        Self {
            log_reads: 0.0,
            admin_listen: AdminListen::Off,
            traces_endpoint: TracesEndpoint(None),
            traces_sample: 1.0,
        }
    }
}

impl TracesEndpoint {
    fn check(&self) -> Result<(), StartupError> {
        let Some(url) = &self.0 else { return Ok(()) };
        let is_endpoint = url.parse::<http::Uri>().is_ok_and(|uri| {
            let host = uri.authority();
            matches!(uri.scheme_str(), Some("http" | "https"))
                && host.is_some_and(|it| it.port_u16().is_some() && !it.as_str().contains('@'))
                && uri.path_and_query().is_none_or(|path| path == "/")
        });
        if is_endpoint {
            return Ok(());
        }
        Err(StartupError::settings(
            "--traces-endpoint (LEADSMITH_TRACES_ENDPOINT) must be the scheme, the host and the port of a collector, such \
             as http://127.0.0.1:4317 or https://collector:4317, without a user or a path, or off. What authenticates the \
             server to the collector belongs into OTEL_EXPORTER_OTLP_HEADERS",
        ))
    }
}

impl ObserveSettings {
    /// Checks what the parsers do not.
    ///
    /// # Errors
    /// A sentence that names the setting, and does not show its value.
    pub(super) fn check(&self) -> Result<(), StartupError> {
        self.traces_endpoint.check()
    }

    /// The settings in force.
    pub(super) fn describe(&self) -> Vec<Described> {
        let traces = self.traces_endpoint.0.as_deref();
        let traces = redact_url(&traces.unwrap_or(TRACES_ENDPOINT).into());
        vec![
            ("log-reads", self.log_reads.to_string()),
            ("admin-listen", self.admin_listen.to_string()),
            ("traces-endpoint", traces),
            ("traces-sample", self.traces_sample.to_string()),
        ]
    }
}

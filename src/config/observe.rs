//! The settings of what a server shows of its work: which calls it logs, and where it serves its metrics.

use std::net::SocketAddr;

use clap::Args;

use super::describe::Described;
use super::values;

const LOG_READS: &str = "0";
const ADMIN_LISTEN: &str = "off";

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
    /// Where to serve /metrics, /livez and /readyz over HTTP, for example 127.0.0.1:9464, or off. There is
    /// neither TLS nor authentication, so only the monitoring should reach the address
    #[arg(
        long,
        help_heading = "Network",
        env = "LEADSMITH_ADMIN_LISTEN",
        default_value = ADMIN_LISTEN,
        value_parser = values::optional_address(),
        value_name = "ADDRESS|off"
    )]
    pub admin_listen: AdminListen,
}

/// The address of the administrative listener, if it is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminListen(pub Option<SocketAddr>);

impl Default for ObserveSettings {
    fn default() -> Self {
        Self {
            log_reads: 0.0,
            admin_listen: AdminListen(None),
        }
    }
}

impl ObserveSettings {
    /// The settings in force.
    pub(super) fn describe(&self) -> Vec<Described> {
        let admin = self.admin_listen.0;
        let admin = admin.map_or_else(|| ADMIN_LISTEN.to_owned(), |address| address.to_string());
        vec![
            ("log-reads", self.log_reads.to_string()),
            ("admin-listen", admin),
        ]
    }
}

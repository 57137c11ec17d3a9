//! The settings of what a server shows of its work.

use clap::Args;

use super::describe::Described;
use super::values;

/// What a server shows of its work.
#[derive(Args, Clone, Debug, Default)]
pub struct ObserveSettings {
    /// The share of calls that only read which are logged at info, 0 to 1: 0.01 logs one of 100, evenly.
    /// Others are logged at debug. Reads that take a second or longer are logged at info in any case
    #[arg(
        long,
        help_heading = "Log",
        env = "LEADSMITH_LOG_READS",
        default_value = "0",
        value_parser = values::share(),
        value_name = "SHARE"
    )]
    pub log_reads: f64,
}

impl ObserveSettings {
    /// The settings in force.
    pub(super) fn describe(&self) -> Vec<Described> {
        vec![("log-reads", self.log_reads.to_string())]
    }
}

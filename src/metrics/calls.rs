//! Calls: how many began and ended, with which code, and how long they took. The names are those that gRPC's libraries
//! for other languages use, so that existing dashboards fit.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};

use super::{Builder, MetricsError, SECONDS};

/// The number of RPCs that have places. The last place is that of all unknown RPCs, and of those that have none.
pub const PLACES: usize = 128;
/// The number of gRPC codes.
const CODES: usize = 17;

/// Counts calls.
#[derive(Debug)]
pub struct CallMetrics {
    started: IntCounterVec,
    handled: IntCounterVec,
    seconds: HistogramVec,
    errors: IntCounterVec,
    rpcs: Vec<RpcMetrics>,
}

/// The handles of one RPC, which are made by its first calls.
#[derive(Debug, Default)]
struct RpcMetrics {
    started: OnceLock<IntCounter>,
    handled: [OnceLock<IntCounter>; CODES],
    seconds: OnceLock<Histogram>,
}

/// An RPC: its place in the table of all RPCs, and its name as `package.Service/Method`. Without one it is unknown.
pub type Rpc = Option<(usize, &'static str)>;

impl CallMetrics {
    pub(super) fn new(new: &Builder) -> Result<Self, MetricsError> {
        let rpc = ["grpc_service", "grpc_method"];
        let code = ["grpc_service", "grpc_method", "grpc_code"];
        let seconds = HistogramOpts::new(
            "grpc_server_handling_seconds",
            "How long calls took, from their headers to their response; streams: to their end",
        );
        Ok(Self {
            started: new.counters("grpc_server_started_total", "Calls that began", &rpc)?,
            handled: new.counters(
                "grpc_server_handled_total",
                "Calls that ended, by code",
                &code,
            )?,
            seconds: new.register(HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &rpc))?,
            errors: new.counters(
                "leadsmith_errors_total",
                "Calls that failed, by the reason of their error",
                &["reason"],
            )?,
            rpcs: (0..PLACES).map(|_| RpcMetrics::default()).collect(),
        })
    }

    /// A call began.
    pub fn started(&self, rpc: Rpc) {
        let (handles, labels) = self.find(rpc);
        let make = || self.started.with_label_values(&labels());
        handles.started.get_or_init(make).inc();
    }

    /// A call ended. `code` is its number and its name.
    pub fn handled(&self, rpc: Rpc, code: (usize, &'static str), time: Duration) {
        let (handles, labels) = self.find(rpc);
        let [service, method] = labels();
        if let Some(handled) = handles.handled.get(code.0) {
            let make = || self.handled.with_label_values(&[service, method, code.1]);
            handled.get_or_init(make).inc();
        }
        let make = || self.seconds.with_label_values(&[service, method]);
        handles
            .seconds
            .get_or_init(make)
            .observe(time.as_secs_f64());
    }

    /// A call failed for this reason, which is one of those in the contract.
    pub fn failed(&self, reason: &'static str) {
        self.errors.with_label_values(&[reason]).inc();
    }

    /// The handles of an RPC, and its service and method.
    fn find(&self, rpc: Rpc) -> (&RpcMetrics, impl Fn() -> [&'static str; 2]) {
        let (place, name) = match rpc {
            Some((place, name)) if place < PLACES - 1 => (place, name),
            Some(_) | None => (PLACES - 1, "unknown/unknown"),
        };
        let labels = move || {
            let (service, method) = name.split_once('/').unwrap_or((name, ""));
            [service, method]
        };
        (&self.rpcs[place], labels)
    }
}

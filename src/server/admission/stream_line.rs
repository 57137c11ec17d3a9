//! The line of a stream of health or reflection in the log, which is written when the stream ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use http::HeaderMap;
use opentelemetry::trace::TraceId;
use tokio::time::Instant;
use tonic::Code;

use super::call_line::{CallLog, label};
use crate::error::code_name;
use crate::metrics::Metrics;
use crate::server::{headers, milliseconds};

/// The code of a stream whose end was not seen.
const NO_CODE: i32 = -1;

/// A stream that was begun. When it is dropped, the end of the stream is logged.
pub struct StreamLine {
    rpc: (usize, &'static str),
    metrics: Arc<Metrics>,
    started: Instant,
    peer: Option<IpAddr>,
    trace_id: Option<TraceId>,
    code: Arc<AtomicI32>,
}

impl StreamLine {
    pub fn begin(
        log: &CallLog,
        rpc: (usize, &'static str),
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Self {
        log.metrics.calls.started(Some(rpc));
        Self {
            rpc,
            metrics: Arc::clone(&log.metrics),
            started: Instant::now(),
            peer,
            trace_id: headers::remote_span(headers).map(|span| span.trace_id()),
            code: Arc::new(AtomicI32::new(NO_CODE)),
        }
    }

    /// Where to store the code that the stream ends with.
    pub fn code(&self) -> Arc<AtomicI32> {
        Arc::clone(&self.code)
    }
}

impl Drop for StreamLine {
    fn drop(&mut self) {
        // Without trailers, the client has ended the stream, or its connection has ended.
        let code = match self.code.load(Ordering::Relaxed) {
            NO_CODE => Code::Cancelled,
            code => Code::from_i32(code),
        };
        let elapsed = self.started.elapsed();
        let calls = &self.metrics.calls;
        calls.handled(Some(self.rpc), label(code), elapsed);
        tracing::info!(
            rpc = self.rpc.1,
            code = code_name(code),
            elapsed_ms = milliseconds(elapsed),
            peer = self.peer.map(display),
            trace_id = self.trace_id.map(display),
            "stream ended"
        );
    }
}

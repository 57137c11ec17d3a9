//! The line of a stream in the log, which is written when the stream ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use http::HeaderMap;
use opentelemetry::trace::TraceId;
use tokio::time::Instant;
use tonic::Code;

use super::call_line::{CallLine, CallLog, label};
use crate::core::call::Principal;
use crate::core::text_enum::TextEnum as _;
use crate::error::code_name;
use crate::metrics::{Metrics, Rpc};
use crate::server::{headers, milliseconds};

/// The code of a stream whose end was not seen.
const NO_CODE: i32 = -1;

/// A stream that was begun. When it is dropped, the end of the stream is logged.
pub struct StreamLine {
    rpc: Rpc,
    metrics: Arc<Metrics>,
    started: Instant,
    peer: Option<IpAddr>,
    trace_id: Option<TraceId>,
    /// The caller. None for streams that need no credential.
    principal: Option<Arc<Principal>>,
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
        let trace_id = headers::remote_span(headers).map(|span| span.trace_id());
        Self {
            rpc: Some(rpc),
            metrics: Arc::clone(&log.metrics),
            started: Instant::now(),
            peer,
            trace_id,
            principal: None,
            code: Arc::new(AtomicI32::new(NO_CODE)),
        }
    }

    /// The line of a stream that was begun, and counted, as a call.
    pub fn of_call(mut line: CallLine<'_>) -> Self {
        line.is_stream = true;
        Self {
            rpc: line.rpc,
            metrics: Arc::clone(&line.log.metrics),
            started: Instant::now(),
            peer: line.peer,
            trace_id: line.trace_id,
            principal: line.principal.clone(),
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
        calls.handled(self.rpc, label(code), elapsed);
        let principal = self.principal.as_ref();
        tracing::info!(
            rpc = self.rpc.map(|(_, rpc)| rpc),
            code = code_name(code),
            elapsed_ms = milliseconds(elapsed),
            principal_kind = principal.map(|principal| principal.kind.as_str()),
            principal_id = principal.map(|principal| display(principal.id)),
            principal = principal.map(|principal| principal.name.as_str()),
            peer = self.peer.map(display),
            trace_id = self.trace_id.map(display),
            "stream ended"
        );
    }
}

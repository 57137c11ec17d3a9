//! The line of a call in the log. It is written once, when the call ends, at this place alone.
//!
//! | Ended | Message | Level |
//! |---|---|---|
//! | OK | `call completed` | info, or debug for a call that only read |
//! | an error that the caller can correct | `call refused` | the same; info for every refusal of a caller |
//! | an internal error | `call failed` | error |
//! | the database unavailable | `call failed` | debug; `outage` counts it and logs the outage |
//! | the client disconnected | `call canceled` | as OK |
//!
//! A call that only read is logged at info too if it is one of the sampled ones, or took a second or longer. The module
//! must not read the messages of a call: what only its handler knows is in its [`CallNotes`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, Response};
use opentelemetry::trace::TraceId;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Level;

use crate::auth::policy;
use crate::core::call::Principal;
use crate::core::call_notes::CallNotes;
use crate::core::text_enum::TextEnum as _;
use crate::error::{LoggedError, code_name};
use crate::metrics::{Metrics, Rpc};
use crate::server::outage::Outage;
use crate::server::{headers, milliseconds};
use crate::telemetry::traces::Span;

/// A call that only reads and takes this long is logged at info.
const SLOW: Duration = Duration::from_secs(1);
/// The name of an RPC that the server does not have. Its real name is not logged: a client could choose it freely.
const UNKNOWN: &str = "unknown";

/// Which calls are logged, and what their lines share.
pub struct CallLog {
    /// The share of calls that only read which are logged at info.
    reads: f64,
    /// How many of these calls there were.
    counted: AtomicU64,
    pub outage: Outage,
    pub metrics: Arc<Metrics>,
}

impl CallLog {
    pub fn new(reads: f64, metrics: Arc<Metrics>) -> Self {
        Self {
            reads,
            counted: AtomicU64::new(0),
            outage: Outage::default(),
            metrics,
        }
    }

    /// Whether this call, which only reads, is logged at info. Of any hundred calls in sequence, a share of 0.05 selects
    /// five.
    fn is_sampled(&self) -> bool {
        if self.reads <= 0.0 {
            return false;
        }
        // Exact up to 2^53 calls.
        let number = self.counted.fetch_add(1, Ordering::Relaxed) as f64;
        ((number + 1.0) * self.reads).floor() > (number * self.reads).floor()
    }

    /// Begins the line of a call. `rpc` is none for an RPC that the server does not have.
    pub fn begin(&self, rpc: Rpc, headers: &HeaderMap, peer: Option<IpAddr>) -> CallLine<'_> {
        self.metrics.calls.started(rpc);
        let is_read = rpc.is_some_and(|(_, rpc)| policy::is_read(rpc));
        let is_sampled = is_read && self.is_sampled();
        let (span, trace_id) = Span::of_call(name(rpc), headers::remote_span(headers));
        let has_notes =
            !is_read || is_sampled || span.is_recorded() || tracing::enabled!(Level::DEBUG);
        CallLine {
            log: self,
            rpc,
            is_quiet: is_read && !is_sampled,
            started: Instant::now(),
            peer,
            trace_id,
            span,
            principal: None,
            notes: match has_notes {
                true => CallNotes::new(peer, trace_id),
                false => CallNotes::default(),
            },
            end: None,
            is_stream: false,
        }
    }
}

/// The line of a call. It is written when this is dropped: also a call whose client has disconnected gets one.
pub struct CallLine<'a> {
    pub(super) log: &'a CallLog,
    pub(super) rpc: Rpc,
    /// Whether the line is written at debug if there is nothing special about the call.
    is_quiet: bool,
    started: Instant,
    pub(super) peer: Option<IpAddr>,
    pub(super) trace_id: Option<TraceId>,
    /// Its span in the trace.
    pub span: Span,
    /// The caller, once it is authenticated.
    pub principal: Option<Arc<Principal>>,
    pub notes: CallNotes,
    /// The code, and the status where it is an error. None until the call has ended.
    end: Option<(Code, Option<Status>)>,
    /// The call has become a stream, which has a line of its own.
    pub(super) is_stream: bool,
}

impl CallLine<'_> {
    /// Writes the line at debug if there is nothing special about the call.
    pub fn quiet(&mut self) {
        self.is_quiet = true;
    }

    /// The call has ended with this response. `code` is the code of its trailers.
    pub fn end(&mut self, response: &mut Response<Body>, code: Code) {
        // Taken out: nothing needs it after this, and it would stay in memory until the response is sent.
        let status = response.extensions_mut().remove::<Status>();
        self.end = Some((code, status));
    }
}

/// Writes an event with the fields of a line.
macro_rules! write_line {
    ($level:expr, $message:literal, $line:ident, $code:ident, $elapsed:ident, $error:ident) => {{
        let notes = $line.notes.end();
        let principal = notes.signed_in.as_ref().or($line.principal.as_ref());
        let records = (!notes.records.is_empty()).then_some(&notes.records);
        tracing::event!(
            $level,
            rpc = name($line.rpc),
            code = code_name($code),
            reason = $error.map(|error| error.reason),
            elapsed_ms = milliseconds($elapsed),
            principal_kind = principal.map(|principal| principal.kind.as_str()),
            principal_id = principal.map(|principal| display(principal.id)),
            principal = principal.map(|principal| principal.name.as_str()),
            peer = $line.peer.map(display),
            request_id = notes.request_id.map(display),
            trace_id = $line.trace_id.map(display),
            effect = notes.effect.as_str(),
            records = records.map(display),
            records_omitted = (notes.records.omitted > 0).then_some(notes.records.omitted),
            lockout = notes.is_lockout.then_some(true),
            error_id = $error.and_then(|error| error.error_id.as_deref()),
            cause = $error.and_then(LoggedError::cause),
            $message
        );
    }};
}

impl Drop for CallLine<'_> {
    fn drop(&mut self) {
        if self.is_stream {
            return self.end_span(Code::Ok, None);
        }
        let elapsed = self.started.elapsed();
        let line = self;
        let code = line.end.as_ref().map_or(Code::Cancelled, |(code, _)| *code);
        line.log
            .metrics
            .calls
            .handled(line.rpc, label(code), elapsed);
        let is_quiet = line.is_quiet && elapsed < SLOW;
        let status = line.end.as_ref().and_then(|(_, status)| status.as_ref());
        line.end_span(code, status.and_then(LoggedError::of));
        let Some((code, status)) = line.end.take() else {
            let (code, error) = (Code::Cancelled, None::<&LoggedError>);
            return if std::thread::panicking() {
                let code = Code::Internal;
                write_line!(Level::ERROR, "call failed", line, code, elapsed, error)
            } else if is_quiet {
                write_line!(Level::DEBUG, "call canceled", line, code, elapsed, error)
            } else {
                write_line!(Level::INFO, "call canceled", line, code, elapsed, error)
            };
        };
        let error = status.as_ref().and_then(LoggedError::of);
        if let Some(error) = error {
            line.log.metrics.calls.failed(error.reason);
        }
        if let Some(error) = error
            && error.error_id.is_some()
        {
            let error = Some(error);
            write_line!(Level::ERROR, "call failed", line, code, elapsed, error)
        } else if let Some(error) = error
            && error.is_outage()
        {
            line.log
                .outage
                .call_failed(error.cause().unwrap_or_default());
            let error = Some(error);
            write_line!(Level::DEBUG, "call failed", line, code, elapsed, error)
        } else if code == Code::Ok {
            match is_quiet {
                true => write_line!(Level::DEBUG, "call completed", line, code, elapsed, error),
                false => write_line!(Level::INFO, "call completed", line, code, elapsed, error),
            }
        } else if is_quiet && ![Code::Unauthenticated, Code::PermissionDenied].contains(&code) {
            write_line!(Level::DEBUG, "call refused", line, code, elapsed, error)
        } else {
            write_line!(Level::INFO, "call refused", line, code, elapsed, error)
        }
    }
}

impl CallLine<'_> {
    /// Ends the span of the call, with what its line says.
    fn end_span(&self, code: Code, error: Option<&LoggedError>) {
        let span = &self.span;
        if !span.is_recorded() {
            return;
        }
        let notes = self.notes.end();
        span.set("rpc.system.name", || "grpc");
        span.set("rpc.method", || name(self.rpc));
        span.set("rpc.response.status_code", || code_name(code));
        if let Some(error) = error {
            span.set("error.type", || error.reason);
        }
        if is_fault(code) {
            span.failed();
        }
        if let Some(peer) = self.peer {
            span.set("client.address", || peer.to_string());
        }
        if let Some(principal) = notes.signed_in.as_ref().or(self.principal.as_ref()) {
            span.set("leadsmith.principal.kind", || principal.kind.as_str());
            span.set("leadsmith.principal.id", || principal.id.to_string());
        }
        if let Some(id) = notes.request_id {
            span.set("leadsmith.request_id", || id.to_string());
        }
        if let Some(effect) = notes.effect.as_str() {
            span.set("leadsmith.effect", || effect);
        }
        if !notes.records.is_empty() {
            span.set("leadsmith.records", || notes.records.to_string());
        }
    }
}

/// Whether a call that ends with this code is a fault of the server, by OpenTelemetry's conventions for gRPC.
fn is_fault(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

/// The name of an RPC in the log and in traces.
fn name(rpc: Rpc) -> &'static str {
    rpc.map_or(UNKNOWN, |(_, rpc)| rpc)
}

/// The number and the name of a code, for the metrics.
pub(super) fn label(code: Code) -> (usize, &'static str) {
    (code as usize, code_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_sampled_evenly() {
        for (share, expected) in [(0.0, 0), (0.05, 5), (0.5, 50), (1.0, 100)] {
            let log = CallLog::new(share, Arc::new(Metrics::new().unwrap()));
            for _ in 0..3 {
                let sampled = (0..100).filter(|_| log.is_sampled()).count();
                assert!(sampled.abs_diff(expected) <= 1, "{share}: {sampled}");
            }
        }
    }
}

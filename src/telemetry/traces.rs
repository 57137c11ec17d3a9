//! Traces: where the time of a call goes, for a collector of OpenTelemetry.
//!
//! ```text
//! leadsmith.v1.LeadService/Update        the call; its parent is what the client sent (W3C Trace Context)
//! ├─ wait                                until a batch took the change
//! └─ batch                               the batch: child of one of its calls, linked to the others
//!    ├─ begin                            with the wait for a connection
//!    ├─ SELECT …                         each statement
//!    ├─ decide
//!    ├─ INSERT …
//!    └─ commit
//! ```
//!
//! A task that works for several calls at a time ([`Span::shared`]) is a child of the first one. The others get a span for
//! the same time, with a link to it.
//!
//! The current span travels with the future that it runs ([`Span::run`]), so what is measured far below needs no
//! parameter. Without a collector, and for calls that are not sampled, every [`Span`] is empty.
//!
//! It uses OpenTelemetry directly and not the spans of `tracing`: their filter is that of the log, and a span that begins
//! after its end is known (a statement) cannot be expressed.

mod export;

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::future::Either;
use opentelemetry::context::FutureExt as _;
use opentelemetry::time::now;
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceId,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

pub use export::Traces;

/// The tracer of this process. Unset without a collector.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The maximum length of a statement in a span, in bytes.
const MAX_STATEMENT: usize = 2_048;

/// A handle to a span that has begun. The span ends when its last handle is dropped.
#[derive(Clone, Debug, Default)]
pub struct Span(Option<Arc<Active>>);

#[derive(Debug)]
struct Active {
    context: Context,
    name: &'static str,
    parent: SpanId,
    started: SystemTime,
}

impl Span {
    /// The span of a call, and the id of its trace. `remote` is the span of the client.
    pub fn of_call(rpc: &'static str, remote: Option<SpanContext>) -> (Self, Option<TraceId>) {
        let Some(tracer) = TRACER.get() else {
            return (Self::default(), remote.map(|remote| remote.trace_id()));
        };
        let parent = match remote {
            Some(remote) => Context::new().with_remote_span_context(remote),
            None => Context::new(),
        };
        let span = SpanBuilder::from_name(rpc).with_kind(SpanKind::Server);
        let span = span.start_with_context(tracer, &parent);
        let trace = span.span_context().trace_id();
        if !span.is_recording() {
            return (Self::default(), Some(trace));
        }
        (Self::active(rpc, &parent, span), Some(trace))
    }

    /// A span within the current one.
    pub fn begin(name: &'static str) -> Self {
        let Some(tracer) = TRACER.get() else {
            return Self::default();
        };
        Context::map_current(|parent| {
            if !parent.span().is_recording() {
                return Self::default();
            }
            let span = SpanBuilder::from_name(name).start_with_context(tracer, parent);
            Self::active(name, parent, span)
        })
    }

    /// The span of work that several callers wait for. Empty if none of them is traced.
    pub fn shared<'a>(name: &'static str, callers: impl Iterator<Item = &'a Caller>) -> Self {
        let Some(tracer) = TRACER.get() else {
            return Self::default();
        };
        let mut callers = callers.filter_map(|caller| caller.0.as_deref());
        let Some(first) = callers.next() else {
            return Self::default();
        };
        let parent = Context::new().with_remote_span_context(first.span.clone());
        let links = callers.map(|caller| Link::with_context(caller.span.clone()));
        let span = SpanBuilder::from_name(name).with_links(links.collect());
        Self::active(name, &parent, span.start_with_context(tracer, &parent))
    }

    fn active(name: &'static str, parent: &Context, span: opentelemetry_sdk::trace::Span) -> Self {
        Self(Some(Arc::new(Active {
            name,
            parent: parent.span().span_context().span_id(),
            context: parent.with_span(span),
            started: now(),
        })))
    }

    /// Whether anything is recorded.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Runs `future` with this span as the current one. With an empty span, the current one stays.
    pub async fn run<F: Future>(&self, future: F) -> F::Output {
        // Pinned first: a future that is moved into either branch would take its space three times.
        let future = pin!(future);
        match &self.0 {
            Some(active) => future.with_context(active.context.clone()).await,
            None => future.await,
        }
    }

    /// Adds an attribute. `value` is only made if the span is recorded.
    pub fn set<V: Into<Value>>(&self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(active) = &self.0 {
            let attribute = KeyValue::new(key, value());
            active.context.span().set_attribute(attribute);
        }
    }

    /// Marks the span as failed.
    pub fn failed(&self) {
        if let Some(active) = &self.0 {
            active.context.span().set_status(Status::error(""));
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.context.span().end();
    }
}

/// Runs `future`, which is spawned as a task, within the current span.
pub fn in_current_span<F: Future>(future: F) -> impl Future<Output = F::Output> {
    match TRACER.get() {
        Some(_) => Either::Left(future.with_current_context()),
        None => Either::Right(future),
    }
}

/// Records a statement that has just ended, within the current span. `sql` has placeholders in place of values.
pub fn statement(operation: &'static str, sql: &str, elapsed: Duration, is_failed: bool) {
    let Some(tracer) = TRACER.get() else {
        return;
    };
    Context::map_current(|parent| {
        if !parent.span().is_recording() {
            return;
        }
        let ended = now();
        let sql = &sql[..sql.floor_char_boundary(MAX_STATEMENT)];
        let mut span = SpanBuilder::from_name(operation)
            .with_kind(SpanKind::Client)
            .with_start_time(ended.checked_sub(elapsed).unwrap_or(ended))
            .with_attributes([
                KeyValue::new("db.operation.name", operation),
                KeyValue::new("db.query.text", sql.to_owned()),
            ])
            .start_with_context(tracer, parent);
        if is_failed {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(ended);
    });
}

/// The span that waits for work that another task does. Empty if it is not traced.
#[derive(Debug, Default)]
pub struct Caller(Option<Box<Waiting>>);

#[derive(Debug)]
struct Waiting {
    span: SpanContext,
    since: SystemTime,
}

impl Caller {
    /// The current span, which begins to wait.
    pub fn current() -> Self {
        if TRACER.get().is_none() {
            return Self::default();
        }
        Context::map_current(|context| {
            let span = context.span();
            let waiting = span.is_recording().then(|| Waiting {
                span: span.span_context().clone(),
                since: now(),
            });
            Self(waiting.map(Box::new))
        })
    }

    /// Records that `work` is done: how long this caller waited for it to begin, and how long it took.
    pub fn is_served(&self, work: &Span) {
        let (Some(tracer), Some(caller), Some(work)) = (TRACER.get(), &self.0, &work.0) else {
            return;
        };
        let parent = Context::new().with_remote_span_context(caller.span.clone());
        let began = work.started.max(caller.since);
        let wait = SpanBuilder::from_name("wait").with_start_time(caller.since);
        wait.start_with_context(tracer, &parent)
            .end_with_timestamp(began);
        if work.parent != caller.span.span_id() {
            let link = Link::with_context(work.context.span().span_context().clone());
            let span = SpanBuilder::from_name(work.name).with_start_time(began);
            let mut span = span
                .with_links(vec![link])
                .start_with_context(tracer, &parent);
            span.end();
        }
    }
}

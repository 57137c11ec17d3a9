//! The log, and the traces. Each line of the log has a message and fields, and is written once, at the boundary of the
//! service.

pub mod traces;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{LogFormat, LogSettings};

/// Changes what is logged while the program runs.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<Targets, Registry>);

impl LogLevel {
    /// Logs this level and the more important ones from now on. Without effect if logging was started by another
    /// call of [`init`].
    pub fn set(&self, level: Level) {
        // It fails if the log is gone, so there is nothing to report it to.
        let _ = self.0.reload(targets(level));
    }
}

fn targets(level: Level) -> Targets {
    // At verbose levels, libraries log frames, headers, URLs and statements, some of which are secret; at
    // other levels they log noise. So no setting enables more than their warnings.
    let level = LevelFilter::from_level(level);
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // It warns about unknown parameters of the database URL and logs their values. If a parameter name
        // was mistyped, its value may be a secret.
        .with_target("sqlx_postgres::options", LevelFilter::OFF)
        // It logs each attempt to open a connection whose session is not as it must be. The regular check of the
        // database reports the same once.
        .with_target("sqlx_core::pool::inner", LevelFilter::OFF)
        .with_target("leadsmith", level)
}

/// Starts logging to standard error. A second call has no effect.
pub fn init(settings: &LogSettings) -> LogLevel {
    if settings.log_format == LogFormat::Json {
        std::panic::set_hook(Box::new(log_panic));
    }
    let (filter, handle) = reload::Layer::new(targets(settings.log));
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let layer = match settings.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // One filter for the registry instead of one for the layer: a per-layer filter sometimes loses an
    // event, if code checked whether an event is enabled and then did not log it (tokio-rs/tracing#2519).
    // `try_init` fails if logging was already started, as in tests that start several servers.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
    LogLevel(handle)
}

/// Logs a panic. The default hook would write lines that are not JSON.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(&backtrace);
    tracing::error!(
        error = panic.payload_as_str(),
        location = panic.location().map(display),
        backtrace = backtrace.map(display),
        "a task panicked"
    );
}

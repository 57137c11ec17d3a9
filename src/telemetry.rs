//! The log. A line is a message and fields, written once, at the boundary.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogSettings};

/// Starts to log to standard error. A second call changes nothing.
pub fn init(settings: &LogSettings) {
    // Libraries below log frames, headers, URLs and statements at their finer levels. Some of that
    // is secret, so no setting of ours turns it on.
    let level = LevelFilter::from_level(settings.log);
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target("leadsmith", level);
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let layer = match settings.log_format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    };
    // Fails when a log was started before, as in tests that start several servers.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

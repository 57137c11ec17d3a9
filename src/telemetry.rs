//! The log. A line is a message and fields, written once, at the boundary.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogSettings};

/// Starts to log to standard error. A second call changes nothing.
pub fn init(settings: &LogSettings) {
    // Libraries below log frames, headers, URLs and statements at their finer levels, and chatter at
    // their coarser ones. Some of that is secret, so no setting of ours turns it on.
    let level = LevelFilter::from_level(settings.log);
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // Warns of a parameter of the database URL that it does not know, with its value, which is
        // a secret if the name was mistyped.
        .with_target("sqlx_postgres::options", LevelFilter::OFF)
        .with_target("leadsmith", level);
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let layer = match settings.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // One filter for all, not one of the layer: those lose an event now and then, when somebody
    // asked whether one would be logged and then did not log it (tokio-rs/tracing#2519).
    // This fails when a log was started before, as in tests that start several servers.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
}

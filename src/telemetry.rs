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
    // The filter is a layer, not the other layer's own: such a one remembers a refusal until the
    // next event, so that a library's mere question whether to log loses a line of ours.
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    // Fails when a log was started before, as in tests that start several servers.
    let _ = subscriber.try_init();
}

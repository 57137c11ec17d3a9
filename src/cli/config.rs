//! `leadsmith config`: every setting, its value and where it came from.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::arguments::Origins;
use super::output::{Failure, OutputSettings};
use crate::app;
use crate::config::{ClientTlsSettings, Described, LogSettings, ServeSettings};
use crate::core::text::printable;

pub const EXAMPLES: &str = "\
The values come from a flag, from the environment, from the file of --config, or are defaults.

Examples:
  leadsmith config --config /etc/leadsmith.toml
  leadsmith config --output json";

#[derive(Args, Debug)]
pub struct ConfigSettings {
    #[command(flatten)]
    output: OutputSettings,
    #[command(flatten)]
    serve: ServeSettings,
    #[command(flatten)]
    client: ClientTlsSettings,
}

/// A setting in the output. The names are part of the interface.
#[derive(Serialize)]
struct Setting<'a> {
    /// The flag without its dashes.
    name: &'a str,
    /// The value, with secrets hidden; empty if there is none.
    value: &'a str,
    /// `flag`, `environment`, `file` or `default`.
    source: &'static str,
}

/// Checks the settings, without opening or binding anything, and prints them.
pub fn run(
    settings: &ConfigSettings,
    file: Option<&Path>,
    log: &LogSettings,
    origins: &Origins,
) -> Result<(), Failure> {
    let ConfigSettings {
        output,
        serve,
        client,
    } = settings;
    app::check(serve)?;
    client.check()?;
    let file = file.map_or_else(String::new, |file| file.display().to_string());
    let mut described: Vec<Described> = vec![("config", file)];
    described.extend(serve.describe());
    described.extend(log.describe());
    described.extend(client.describe());
    let rows: Vec<_> = described
        .iter()
        .map(|(name, value)| Setting {
            name,
            value,
            source: origins.of(name).name(),
        })
        .collect();
    let line = |setting: &Setting<'_>| {
        let Setting {
            name,
            value,
            source,
        } = setting;
        let line = format!("{name:<30}{source:<13}{}", printable(value));
        format!("{}\n", line.trim_end())
    };
    output.show(&rows, || rows.iter().map(line).collect())
}

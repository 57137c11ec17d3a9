//! The log format for a failure of the settings themselves, which are then unknown.
//!
//! It looks for the one setting with the precedence of all, and ignores everything that is wrong: the failure that is
//! to be reported says what that is.

use std::env;
use std::path::Path;

use clap::ValueEnum as _;
use toml::de::DeTable;

use super::environment::{read_text, variable};
use super::{file, is_set};
use crate::config::LogFormat;

/// The format that is requested by a flag, by a variable or by the configuration file; otherwise text.
pub fn requested() -> LogFormat {
    let given = given("log-format").or_else(|| in_file(given("config")?.trim()));
    given
        .and_then(|word| LogFormat::from_str(word.trim(), false).ok())
        .unwrap_or(LogFormat::Text)
}

/// The value of a setting by its flag or variable.
fn given(name: &str) -> Option<String> {
    let flag = format!("--{name}");
    let mut arguments = env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned());
    let mut value = None;
    while let Some(argument) = arguments.next() {
        if argument == flag {
            value = arguments.next();
        } else if let Some(rest) = argument.strip_prefix(&flag)
            && let Some(rest) = rest.strip_prefix('=')
        {
            value = Some(rest.to_owned());
        }
    }
    let variable = variable(name);
    let of_variable = || match is_set(variable.as_ref()) {
        true => env::var(&variable).ok(),
        false => None,
    };
    value.or_else(of_variable)
}

fn in_file(path: &str) -> Option<String> {
    let text = read_text(Path::new(path), "--config").ok()?;
    let table = DeTable::parse(&text).ok()?;
    file::as_text(table.get_ref().get("log-format")?.get_ref())
}

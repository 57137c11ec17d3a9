//! Writes to standard output and standard error.
//!
//! Both may be closed or on a full disk, so a failed write is an error to handle. All commands print through this
//! module and never with `println!`, which would panic.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::arguments::{Unreadable, log_format};
use crate::config::{Cause, LogFormat, LogSettings, StartupError};
use crate::core::text::{is_unprintable, printable};
use crate::error::Error;
use crate::telemetry;

/// The form of a command's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people. It may change between versions.
    Text,
    /// One JSON value. Its field names do not change.
    Json,
}

/// How a command prints its result.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputSettings {
    /// The form of the result: text for people, or json, whose field names do not change
    #[arg(
        long = "output",
        default_value = "text",
        hide_possible_values = true,
        value_name = "text|json"
    )]
    format: Format,
}

impl OutputSettings {
    /// Prints the result of a command that changes nothing. `text` returns whole lines.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn show<T: Serialize>(
        self,
        result: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        show(&self.render(result, text)?)
    }

    /// Prints what a command has changed, as [`confirm`] does.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn confirm<T: Serialize>(
        self,
        done: &str,
        result: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), StartupError> {
        confirm(done, &self.render(result, text)?)
    }

    /// Whether the form is JSON.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// The result as whole lines.
    ///
    /// # Errors
    /// If it has no JSON form.
    pub fn render<T: Serialize>(
        self,
        result: &T,
        text: impl FnOnce() -> String,
    ) -> Result<String, StartupError> {
        match self.format {
            Format::Text => Ok(text()),
            Format::Json => {
                let json = serde_json::to_string_pretty(result);
                let json = json.map_err(|error| {
                    StartupError::new(format!("the result has no JSON form: {error}"))
                })?;
                Ok(format!("{}\n", escaped(&json)))
            }
        }
    }
}

/// A result as JSON on one line.
pub fn json_line(result: &serde_json::Value) -> String {
    format!("{}\n", escaped(&result.to_string()))
}

/// Escapes what a terminal must not get. JSON has such characters only inside of texts.
fn escaped(json: &str) -> String {
    let mut units = [0; 2];
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || !is_unprintable(character) {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut units) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The command could not do its work.
    Refused(StartupError),
    /// Standard output was closed by a reader that needs no more output, such as `head`.
    OutputClosed,
}

impl From<StartupError> for Failure {
    fn from(refusal: StartupError) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error.into())
    }
}

/// The exit code for a wrong command line, as of clap and of most programs, and for a wrong setting.
const WRONG_SETTINGS: u8 = 2;
/// The exit code for a database that is away: EX_UNAVAILABLE of sysexits.h.
const UNAVAILABLE: u8 = 69;
/// The exit code that a shell reports for a command that SIGPIPE ended, as most programs end in this case.
const OUTPUT_CLOSED: u8 = 128 + 13;

impl Failure {
    /// The failure of a write whose command changed nothing.
    fn of_write(error: &io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Refused(StartupError::new(unwritten(error)))
    }

    /// Reports the failure on standard error: to people as a sentence, to machines as a line of the log. Returns the
    /// exit code.
    pub fn report(&self, format: LogFormat) -> ExitCode {
        match self {
            Self::Refused(refusal) => report(refusal, format),
            Self::OutputClosed => ExitCode::from(OUTPUT_CLOSED),
        }
    }
}

fn report(refusal: &StartupError, format: LogFormat) -> ExitCode {
    match format {
        LogFormat::Text => note(&format!("leadsmith: {refusal}")),
        LogFormat::Json => tracing::error!(error = %refusal, "the command failed"),
    }
    match refusal.cause() {
        Cause::Refused => ExitCode::FAILURE,
        Cause::Settings => ExitCode::from(WRONG_SETTINGS),
        Cause::Unavailable => ExitCode::from(UNAVAILABLE),
    }
}

impl Unreadable {
    /// Prints what the command line asks for instead of a command, or what is wrong, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Usage(error) => usage(error),
            Self::Settings(error) => report(error, start_log()),
        }
    }
}

/// Starts the log before the settings are known, and returns its format as far as it can be found out.
fn start_log() -> LogFormat {
    let log_format = log_format::requested();
    telemetry::init(&LogSettings {
        log: tracing::Level::INFO,
        log_format,
    });
    log_format
}

/// Escapes what a usage error repeats of the arguments.
pub fn printable_error(mut error: clap::Error) -> clap::Error {
    let escape = |value: &ContextValue| {
        if let ContextValue::String(text) = value {
            return Some(ContextValue::String(printable(text)));
        }
        let ContextValue::Strings(texts) = value else {
            return None;
        };
        let texts = texts.iter().map(|text| printable(text));
        Some(ContextValue::Strings(texts.collect()))
    };
    let escaped: Vec<(ContextKind, ContextValue)> = error
        .context()
        .filter_map(|(kind, value)| Some((kind, escape(value)?)))
        .collect();
    for (kind, value) in escaped {
        error.insert(kind, value);
    }
    error
}

fn unwritten(error: &io::Error) -> String {
    format!("standard output cannot be written ({error}): redirect it to a place with free space")
}

/// Prints the result of a command that changes nothing. `text` consists of whole lines.
///
/// # Errors
/// If standard output cannot be written.
pub fn show(text: &str) -> Result<(), Failure> {
    print(text).map_err(|error| Failure::of_write(&error))
}

/// Prints what a command has changed. `text` consists of whole lines. If the write fails, the error says by `done`
/// that the change was made.
///
/// # Errors
/// If standard output cannot be written.
pub fn confirm(done: &str, text: &str) -> Result<(), StartupError> {
    print(text).map_err(|error| StartupError::new(format!("{done}, but {}", unwritten(&error))))
}

/// Writes the whole text to standard output.
///
/// # Errors
/// If standard output cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Whether standard output is the null device, so that nobody sees the output. The null device also replaces a
/// standard output that was closed before the program began.
pub fn is_discarded() -> bool {
    let null = Path::new("/dev/null").metadata();
    let output = rustix::fs::fstat(io::stdout());
    match (null, output) {
        (Ok(null), Ok(output)) => output.st_rdev == null.rdev(),
        _ => false,
    }
}

/// Writes a line to standard error, if possible.
pub fn note(line: &str) {
    // A failure is ignored, because there is nowhere else to report it.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints the message of the command line parser: the help, or a usage error.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && start_log() == LogFormat::Json {
        let error = error.to_string();
        tracing::error!(error = error.trim(), "the command line is invalid");
    } else {
        let printed = error.print().and_then(|()| io::stdout().flush());
        if let Err(unwritten) = printed
            && !error.use_stderr()
        {
            return Failure::of_write(&unwritten).report(LogFormat::Text);
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

//! Writes to standard output and standard error.
//!
//! Both may be closed or on a full disk, so a failed write is an error to handle. All commands print through this
//! module and never with `println!`, which would panic.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::StartupError;
use crate::error::Error;

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

    /// Reports the failure on standard error. Returns the exit code: 1, or 141 if standard output was closed.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Refused(refusal) => {
                note(&format!("leadsmith: {refusal}"));
                ExitCode::FAILURE
            }
            Self::OutputClosed => ExitCode::from(OUTPUT_CLOSED),
        }
    }
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
pub fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(unwritten) if !error.use_stderr() => Failure::of_write(&unwritten).report(),
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)),
    }
}

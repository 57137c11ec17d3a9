//! Standard output and standard error. They may be closed or on a full disk, so a failed write is an
//! error to handle; `println!` would panic.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::Refusal;
use crate::error::Error;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// What it was to do cannot be done.
    Refused(Refusal),
    /// Standard output was closed by a reader that has enough, such as `head`.
    OutputClosed,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error.into())
    }
}

/// What a shell reports of a command that SIGPIPE ended, which is how others end there.
const OUTPUT_CLOSED: u8 = 128 + 13;

impl Failure {
    /// Of a write of what was only to be looked at.
    fn of_write(error: &io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Refused(Refusal::new(unwritten(error)))
    }

    /// Says on standard error what is to be said. The code to exit with: 1, or 141 where standard output
    /// was closed.
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
    format!("standard output cannot be written ({error}): send it where there is room")
}

/// Prints what a command that changes nothing has found, whole lines of it.
///
/// # Errors
/// When it cannot be written.
pub fn show(text: &str) -> Result<(), Failure> {
    print(text).map_err(|error| Failure::of_write(&error))
}

/// Prints what a command has changed, whole lines of it. `done` says that, for when this fails.
///
/// # Errors
/// When it cannot be written.
pub fn confirm(done: &str, text: &str) -> Result<(), Refusal> {
    print(text).map_err(|error| Refusal::new(format!("{done}, but {}", unwritten(&error))))
}

/// Writes all of it to standard output.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Whether what is printed reaches nobody: standard output is the null device, which also stands for one
/// that was closed before the program began.
pub fn is_discarded() -> bool {
    let null = Path::new("/dev/null").metadata();
    let output = rustix::fs::fstat(io::stdout());
    match (null, output) {
        (Ok(null), Ok(output)) => output.st_rdev == null.rdev(),
        _ => false,
    }
}

/// Writes a line to standard error, if that can be.
pub fn note(line: &str) {
    // There is nowhere else to say that this failed.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints what the command line parser has to say: its help, or what is wrong with the arguments.
pub fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(unwritten) if !error.use_stderr() => Failure::of_write(&unwritten).report(),
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)),
    }
}

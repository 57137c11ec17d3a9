//! The error type of the command line: why the program does not start, or why a command fails.
//!
//! It must not be sent to gRPC callers, because it may contain internal details.

use std::fmt;

use crate::core::text;
use crate::error::Error;

/// One sentence that says what is wrong and how to fix it.
#[derive(Debug)]
pub struct StartupError(String);

impl StartupError {
    /// `sentence` says what is wrong and how to fix it.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::printable(&self.0))
    }
}

impl std::error::Error for StartupError {}

impl From<Error> for StartupError {
    fn from(error: Error) -> Self {
        // A command may print the internal cause, which a server would only log.
        Self(error.cause().unwrap_or(error.message()).to_owned())
    }
}

impl From<crate::core::violations::Violations> for StartupError {
    fn from(violations: crate::core::violations::Violations) -> Self {
        Error::from(violations).into()
    }
}

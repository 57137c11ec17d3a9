//! The error type of the command line: why the program does not start, or why a command fails.
//!
//! It must not be sent to gRPC callers, because it may contain internal details.

use std::fmt;

use crate::core::text;
use crate::error::Error;

/// What must be done before the same command can succeed. The command line makes an exit code of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The request is refused as things are. Example: the username is taken.
    Refused,
    /// A setting or a file that a setting names is wrong: only changing it helps.
    Settings,
    /// The database does not exist or cannot be reached: trying again later may help.
    Unavailable,
}

/// One sentence that says what is wrong and how to fix it.
#[derive(Debug)]
pub struct StartupError {
    sentence: String,
    cause: Cause,
}

impl StartupError {
    /// `sentence` says what is wrong and how to fix it.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            cause: Cause::Refused,
        }
    }

    /// A setting is wrong. `sentence` names it.
    pub fn settings(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            cause: Cause::Settings,
        }
    }

    /// The database does not exist or cannot be reached.
    pub fn unavailable(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            cause: Cause::Unavailable,
        }
    }

    /// What must be done before the same command can succeed.
    pub fn cause(&self) -> Cause {
        self.cause
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::printable(&self.sentence))
    }
}

impl std::error::Error for StartupError {}

impl From<Error> for StartupError {
    fn from(error: Error) -> Self {
        Self {
            // A command may print the internal cause, which a server would only log.
            sentence: error.detail().to_owned(),
            cause: match error.is_unavailable() {
                true => Cause::Unavailable,
                false => Cause::Refused,
            },
        }
    }
}

impl From<crate::core::violations::Violations> for StartupError {
    fn from(violations: crate::core::violations::Violations) -> Self {
        Error::from(violations).into()
    }
}

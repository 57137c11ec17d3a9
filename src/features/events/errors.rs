//! The errors of streams of events.

use tonic::Code;

use crate::db::event_log::Lost;
use crate::error::{Error, ErrorReason};

/// The log cannot be read from a token. `earliest` is the token of what is still stored.
pub fn resume_token_expired(lost: Lost, earliest: String) -> Error {
    let (cause, why) = match lost {
        Lost::Deleted => (
            "RETENTION",
            "Events after the resume token were deleted because of their age",
        ),
        Lost::Replaced => (
            "RESTORED",
            "The database was restored since the resume token was issued",
        ),
    };
    let message = format_args!(
        "{why}. List the records again and watch from the watch_token of the list, or begin with what is stored, from \
         earliest_token."
    );
    Error::new(Code::OutOfRange, ErrorReason::ResumeTokenExpired, message)
        .field("resume_token", "is too old, or of another log")
        .with("cause", cause)
        .with_token("earliest_token", earliest)
}

/// The stream is too far behind.
pub fn watch_too_slow(resume_token: String) -> Error {
    let message = "The stream was read too slowly, and the server has dropped events that it did not send yet. Watch \
                   again from resume_token, and read faster or with narrower filters.";
    Error::new(Code::ResourceExhausted, ErrorReason::WatchTooSlow, message)
        .with_token("resume_token", resume_token)
}

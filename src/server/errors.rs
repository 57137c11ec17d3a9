//! The errors of the layers before the services. Each is built here and nowhere else, so that a reason always has the
//! same code and message. It must not know the errors of a feature.

use std::time::Duration;

use tonic::Code;

use crate::error::{Error, ErrorReason};

pub(super) fn message_malformed() -> Error {
    let message = "The request cannot be decoded as this RPC's request message. Use stubs generated from the \
                   current .proto files, and send text as valid UTF-8.";
    Error::new(
        Code::InvalidArgument,
        ErrorReason::MessageMalformed,
        message,
    )
}

pub(super) fn message_too_large(limit: usize) -> Error {
    let message = format_args!("The request is larger than {limit} bytes. Send a smaller request.");
    Error::new(
        Code::ResourceExhausted,
        ErrorReason::MessageTooLarge,
        message,
    )
    .with("limit_bytes", limit)
}

pub(super) fn method_unknown() -> Error {
    let message = "The server does not have this RPC. List its services by reflection (grpcurl HOST:PORT list).";
    Error::new(Code::Unimplemented, ErrorReason::MethodUnknown, message)
}

pub(super) fn encoding_unsupported(encoding: &str, supported: &str) -> Error {
    let message = format_args!(
        "The encoding {encoding:?} of the request is not supported. Send the request uncompressed or with gzip."
    );
    Error::new(
        Code::Unimplemented,
        ErrorReason::EncodingUnsupported,
        message,
    )
    .with("encoding", encoding)
    .with("supported", supported)
}

pub(super) fn symbol_not_found() -> Error {
    let message = "The server has no service, file or symbol with this name. List its services by reflection \
                   (grpcurl HOST:PORT list).";
    Error::new(Code::NotFound, ErrorReason::SymbolNotFound, message)
}

/// More than `limit` bytes of a principal's responses are unread.
pub(super) fn responses_unread(limit: usize) -> Error {
    let message = "Too many bytes of responses are unread. Read them, make fewer concurrent calls, and retry with \
                   the same request_id: a change may have been made, and is not made again.";
    Error::new(
        Code::ResourceExhausted,
        ErrorReason::ResponsesUnread,
        message,
    )
    .with("limit_bytes", limit)
    .retry_after(Duration::from_secs(1))
}

pub(super) fn rate_limited(retry_after: Duration) -> Error {
    let message = "You exceeded your limit of calls per second, and this call was not started. Retry after the \
                   delay, and make fewer calls.";
    Error::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).retry_after(retry_after)
}

/// As many streams are open as are allowed, of this principal or of all. `limit` is that of a principal.
pub(super) fn watch_limit(limit: usize) -> Error {
    let message = "As many streams of EventService.Watch are open as the server allows, of this principal or of all \
                   together. End other streams, or retry in a second.";
    Error::new(Code::ResourceExhausted, ErrorReason::WatchLimit, message)
        .with("limit", limit)
        .retry_after(Duration::from_secs(1))
}

pub(super) fn deadline_exceeded() -> Error {
    let message = "The call took longer than its deadline, and a change may still have been made. Retry with the \
                   same request_id: a change is not made again.";
    Error::new(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
        message,
    )
}

//! The timeout for request bodies. A client that sends its message one byte at a time has no cost, while the server
//! holds a permit for its call. It depends on no other part of the server than its errors.
//!
//! It is written by hand because tonic has no timeout for the body of a request, and that of tower-http limits the time
//! between two frames, which does not stop such a client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use prost::bytes::Bytes;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::errors;

/// How long the message of a call may take to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A request body that fails when it does not arrive in time.
pub struct BodyTimeout {
    body: Body,
    /// Created at the first wait, because most messages have arrived already and need no timer.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl BodyTimeout {
    pub fn wrap(body: Body) -> Body {
        Body::new(Self {
            body,
            timeout: None,
        })
    }
}

impl http_body::Body for BodyTimeout {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() {
            let timeout = self
                .timeout
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(MESSAGE_TIMEOUT)));
            if timeout.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(errors::deadline_exceeded().into())));
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

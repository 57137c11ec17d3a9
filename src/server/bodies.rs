//! What comes in, limited in time. A caller that sends its message a byte at a time costs itself nothing,
//! while the server holds a place for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use prost::bytes::Bytes;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use crate::error::Error;

/// How long a call's message may take to come.
const MESSAGE: Duration = Duration::from_secs(5);

/// A request whose message has to come in time.
pub struct Timely {
    body: Body,
    /// Begins when the message has to be waited for: mostly it is there already.
    late: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    pub fn wrap(body: Body) -> Body {
        Body::new(Self { body, late: None })
    }
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() {
            let late = self
                .late
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(MESSAGE)));
            if late.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(Error::DeadlineExceeded.into())));
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

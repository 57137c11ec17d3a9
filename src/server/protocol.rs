//! Rejects requests that are not gRPC, before any other check: by their method, content type and encoding. It also adds
//! the error details to errors that the libraries return without them. It must not know calls or services.
//!
//! It is written by hand because tonic's server responds with HTTP 200 to a request whose content type is not gRPC, and
//! its errors have no reason that a client could test.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::{Code, Status};

use super::errors;

/// The supported message encodings, in the format of `grpc-accept-encoding`.
const ENCODINGS: &str = "identity,gzip";
/// How many characters of the name of an unsupported encoding are repeated in the error.
const LONGEST_ENCODING: usize = 32;

/// The response to a request that is not a gRPC call or whose messages cannot be decoded; none for any other request.
pub fn reject<B>(request: &Request<B>) -> Option<Response<Body>> {
    if request.method() != Method::POST {
        let text = "This is a gRPC server, and every call is a POST request: use a gRPC client.\n";
        let mut response = not_grpc(StatusCode::METHOD_NOT_ALLOWED, text);
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(response);
    }
    if !is_grpc(request.headers()) {
        let text = "This is a gRPC server: use a gRPC client, whose content type is application/grpc. JSON and \
                    gRPC-Web require a proxy that translates them.\n";
        let mut response = not_grpc(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
        let headers = response.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/grpc"));
        return Some(response);
    }
    let encoding = unsupported_encoding(request.headers())?;
    let error = errors::encoding_unsupported(&encoding, ENCODINGS);
    let mut response: Response<Body> = Status::from(error).into_http();
    let headers = response.headers_mut();
    headers.insert("grpc-accept-encoding", HeaderValue::from_static(ENCODINGS));
    Some(response)
}

fn not_grpc(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(text.to_owned()));
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Whether there is exactly one content type and it is that of gRPC with Protobuf messages.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(CONTENT_TYPE).iter();
    let (Some(one), None) = (all.next(), all.next()) else {
        return false;
    };
    let Ok(text) = one.to_str() else {
        return false;
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|name| essence.eq_ignore_ascii_case(name))
}

/// The encoding of the request's messages when it is not supported.
fn unsupported_encoding(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all("grpc-encoding").iter();
    let encoding = all.find(|value| !["identity", "gzip"].iter().any(|name| value == name))?;
    let text = String::from_utf8_lossy(encoding.as_bytes());
    Some(text.chars().take(LONGEST_ENCODING).collect())
}

/// Adds details to an error response without details. Such an error comes from tonic, before or instead of a service,
/// or from health and reflection. `largest` is the size of the largest accepted message, in bytes.
pub fn with_reason(mut response: Response<Body>, largest: usize) -> Response<Body> {
    if let Some(status) = add_reason(response.headers_mut(), largest) {
        // For the log.
        response.extensions_mut().insert(status);
    }
    response
}

/// The same for a response that may be a stream, whose error is in its trailers. The code that it ends with is stored
/// in `code`.
pub fn with_reason_in_trailers(
    response: Response<Body>,
    largest: usize,
    code: Arc<AtomicI32>,
) -> Response<Body> {
    let response = with_reason(response, largest);
    store_code(response.headers(), &code);
    response.map(|body| match body.is_end_stream() {
        true => body,
        false => Body::new(ReasonBody {
            body,
            largest,
            code,
        }),
    })
}

fn store_code(headers: &HeaderMap, code: &AtomicI32) {
    if let Some(status) = headers.get(Status::GRPC_STATUS) {
        code.store(
            Code::from_bytes(status.as_bytes()).into(),
            Ordering::Relaxed,
        );
    }
}

/// Returns the status that was added, if one was.
fn add_reason(headers: &mut HeaderMap, largest: usize) -> Option<Status> {
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return None;
    }
    let code = Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes());
    let error = if [Code::OutOfRange, Code::ResourceExhausted].contains(&code) {
        // A message over the size limit, before or after decompression.
        errors::message_too_large(largest)
    } else if [Code::Internal, Code::InvalidArgument].contains(&code) {
        // Bytes that are not the message of this RPC, or a reflection request without a question.
        errors::message_malformed()
    } else if code == Code::Unimplemented {
        errors::method_unknown()
    } else if code == Code::NotFound {
        errors::symbol_not_found()
    } else {
        return None;
    };
    let status = Status::from(error);
    if let Err(status) = status.add_header(headers) {
        tracing::error!(%status, "writing an error as headers failed");
    }
    Some(status)
}

/// A stream that adds details to the error in its trailers.
struct ReasonBody {
    body: Body,
    largest: usize,
    code: Arc<AtomicI32>,
}

impl http_body::Body for ReasonBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map_ok(|frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                store_code(&trailers, &self.code);
                add_reason(&mut trailers, self.largest);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let name = http::HeaderName::from_static(name);
        let values = values.iter().map(|value| HeaderValue::from_static(value));
        values.map(|value| (name.clone(), value)).collect()
    }

    #[test]
    fn only_grpc_content_types_are_accepted() {
        for (types, expected) in [
            (&["application/grpc"][..], true),
            (&["application/grpc+proto"], true),
            (&["Application/GRPC"], true),
            (&["application/grpc; charset=utf-8"], true),
            (&["application/grpc+proto;x=y"], true),
            (&[], false),
            (&[""], false),
            (&["application/grpc", "application/grpc"], false),
            (&["application/grpc,application/json"], false),
            (&["application/grpc+json"], false),
            (&["application/grpc-web"], false),
            (&["application/grpc-web+proto"], false),
            (&["application/grpc-web-text"], false),
            (&["application/grpcx"], false),
            (&["application/json"], false),
            (&["text/plain"], false),
        ] {
            assert_eq!(
                is_grpc(&headers("content-type", types)),
                expected,
                "{types:?}"
            );
        }
    }

    #[test]
    fn only_identity_and_gzip_are_supported() {
        for (encodings, expected) in [
            (&[][..], None),
            (&["identity"][..], None),
            (&["gzip"], None),
            (&["identity", "zstd"], Some("zstd")),
            (&["zstd"], Some("zstd")),
            (&[""], Some("")),
            (&["GZIP"], Some("GZIP")),
            (&["gzip,identity"], Some("gzip,identity")),
        ] {
            let found = unsupported_encoding(&headers("grpc-encoding", encodings));
            assert_eq!(found.as_deref(), expected, "{encodings:?}");
        }
    }
}

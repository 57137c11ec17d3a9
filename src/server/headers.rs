//! Reads the headers of a call: the token, the trace and the timeout. It must not depend on anything but the headers.
//!
//! It is written by hand because tonic does not expose its own parser of `grpc-timeout`.

use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The bearer token of a call, or none without the header. Where the header holds something else or occurs twice, the
/// token is empty, and no token is empty: a caller that sent an unusable token must not be authenticated by its client
/// certificate.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some("");
    }
    let bearer = value.to_str().ok().and_then(|text| text.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Some(bearer.map_or("", |(_, token)| token.trim()))
}

/// The span of the client that the call belongs to, if the client sent exactly one valid `traceparent`.
pub fn remote_span(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?.as_bytes();
    // The library reads numbers with signs, and with too few or too many digits.
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut parts = value.split(|byte| *byte == b'-');
    let mut has = |digits: usize| {
        let part = parts.next();
        part.is_some_and(|part| part.len() == digits && part.iter().all(is_digit))
    };
    if values.next().is_some() || ![2, 32, 16, 2].into_iter().all(&mut has) {
        return None;
    }
    let context =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Trace(headers));
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

const TRACEPARENT: &str = "traceparent";

struct Trace<'a>(&'a HeaderMap);

impl Extractor for Trace<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The timeout that the client set, in the format of the gRPC HTTP/2 mapping: at most 8 digits and a unit.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (unit, digits) = text.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            http::HeaderValue::from_bytes(value).unwrap(),
        )])
    }

    #[test]
    fn a_timeout_has_digits_and_a_unit() {
        let read = |text: &str| grpc_timeout(&headers("grpc-timeout", text.as_bytes()));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(359_999_996_400))
        );
        assert_eq!(read("20u"), Some(Duration::from_micros(20)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for wrong in [
            "",
            "S",
            "5",
            "+5S",
            "-5S",
            "5s",
            "5.0S",
            " 5S",
            "123456789S",
            "5SS",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_header_without_a_bearer_token_gives_an_empty_token() {
        let read = |value: &[u8]| token(&headers("authorization", value)).map(str::to_owned);
        assert_eq!(read(b"Bearer lsk_a").as_deref(), Some("lsk_a"));
        assert_eq!(read(b"bearer  lsk_a ").as_deref(), Some("lsk_a"));
        for wrong in [&b""[..], b"Bearer", b"Basic YTpi", b"lsk_a", b"Bearer \xff"] {
            assert_eq!(read(wrong).as_deref(), Some(""), "{wrong:?}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
        let mut twice = headers("authorization", b"Bearer lsk_a");
        twice.append(
            "authorization",
            http::HeaderValue::from_static("Bearer lsk_a"),
        );
        assert_eq!(token(&twice), Some(""));
    }

    #[test]
    fn a_trace_id_is_read_from_a_valid_traceparent_only() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parse = |text: &str| {
            let span = remote_span(&headers("traceparent", text.as_bytes()));
            span.map(|span| span.trace_id().to_string())
        };
        for valid in [
            format!("00-{trace}-00f067aa0ba902b7-01"),
            format!("00-{trace}-00f067aa0ba902b7-00"),
            format!("cc-{trace}-00f067aa0ba902b7-01-more"),
        ] {
            assert_eq!(parse(&valid).as_deref(), Some(trace), "{valid}");
        }
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            trace.to_owned(),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{trace}a-00f067aa0ba902b7-01"),
            format!("00-+{}-00f067aa0ba902b7-01", &trace[1..]),
            format!(" 00-{trace}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong:?}");
        }
    }
}

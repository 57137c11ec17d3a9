//! What never reaches a service: bytes that are no message, messages too large, methods that are
//! not there, and deadlines.

use std::net::SocketAddr;
use std::time::Duration;

use leadsmith_proto::{self as proto, Lead};
use prost::Message;
use prost::bytes::Bytes;
use tonic::{Code, Status};

use super::{UNKNOWN, named, refused};
use crate::harness::{Caller, Harness, metadata, reason};
use crate::on_both;

pub const GET: &str = "/leadsmith.v1.LeadService/Get";
pub const CREATE: &str = "/leadsmith.v1.LeadService/Create";

/// A gRPC message in its frame: not compressed, and its length.
pub fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame.into()
}

/// Calls with these very bytes and headers, which no client of ours stands behind. The token is
/// that of `sales` unless the headers bring another.
pub async fn raw(h: &Harness, path: &str, headers: &[(&str, &str)], body: Bytes) -> Status {
    measured(h, path, headers, body).await.0
}

/// The same, with how many bytes the headers have that the status came in, as HTTP/2 counts them
/// (RFC 9113, section 6.5.2): this is what clients limit.
pub async fn measured(
    h: &Harness,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> (Status, usize) {
    let bearer = format!("Bearer {}", h.sales.token);
    let mut all = vec![("authorization", bearer.as_str())];
    all.retain(|(name, _)| headers.iter().all(|(other, _)| other != name));
    all.extend(headers);
    let call = send(h.server.address, path, &all, body);
    let answer = tokio::time::timeout(Duration::from_secs(20), call).await;
    answer.expect("an answer")
}

async fn send(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> (Status, usize) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::post(format!("http://{address}{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut client = client.ready().await.unwrap();
    let request = request.body(()).unwrap();
    let (response, mut stream) = client.send_request(request, false).unwrap();
    // It fails when the server has answered already, without waiting for the body.
    let _ = stream.send_data(body, true);
    let response = response.await.unwrap();
    assert_eq!(
        response.status(),
        200,
        "the error is reported by gRPC, not by HTTP"
    );
    if let Some(status) = Status::from_header_map(response.headers()) {
        connection.abort();
        // With the `:status`, which is no header here.
        return (status, size(response.headers()) + 42);
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    let trailers = body.trailers().await.unwrap().expect("trailers");
    connection.abort();
    let status = Status::from_header_map(&trailers).expect("a status");
    (status, size(&trailers))
}

fn size(headers: &http::HeaderMap) -> usize {
    let headers = headers.iter();
    headers
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

on_both! {
    async fn a_message_over_64_kib_is_refused(h: Harness) {
        // A lead whose unknown field makes the message this long.
        let padded = |length: usize| {
            let mut message = proto::CreateLeadRequest {
                lead: Some(named()),
                ..Default::default()
            }
            .encode_to_vec();
            let rest = length - message.len() - 5;
            message.extend([0xfa, 0x01]);
            prost::encoding::encode_varint(u64::try_from(rest).unwrap(), &mut message);
            message.resize(length, b'x');
            message
        };
        let status = raw(&h, CREATE, &[], frame(&padded(65_536))).await;
        assert_eq!(status.code(), Code::Ok, "{status:?}");
        let before = h.count("SELECT COUNT(*) FROM leads").await;
        assert_eq!(before, 1);
        let status = raw(&h, CREATE, &[], frame(&padded(65_537))).await;
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason(&status), "MESSAGE_TOO_LARGE");
        assert_eq!(metadata(&status, "limit_bytes"), "65536");
        // A frame that only says it is long.
        let liar = Bytes::from_static(b"\0\xff\xff\xff\xffab");
        assert_eq!(
            reason(&raw(&h, CREATE, &[], liar).await),
            "MESSAGE_TOO_LARGE"
        );
        assert_eq!(h.count("SELECT COUNT(*) FROM leads").await, before);

        let nobody = [("authorization", "Bearer none")];
        let status = raw(&h, CREATE, &nobody, frame(&padded(65_537))).await;
        assert_eq!(reason(&status), "TOKEN_INVALID", "nobody learns of limits");
    }

    async fn bytes_that_are_no_message_are_refused(h: Harness) {
        let before = h.count("SELECT COUNT(*) FROM leads").await;
        for (what, path, body) in [
            ("no protobuf", CREATE, frame(b"\xff\xff\xff\xff")),
            ("a field cut off", CREATE, frame(b"\x0a\x05ab")),
            ("bad UTF-8 in an id", GET, frame(b"\x0a\x02\xc3\x28")),
            (
                "bad UTF-8 in a name",
                CREATE,
                frame(b"\x0a\x04\x1a\x02\xc3\x28"),
            ),
            (
                "a half surrogate in a name",
                CREATE,
                frame(b"\x0a\x05\x1a\x03\xed\xa0\x80"),
            ),
            (
                "a frame cut off",
                CREATE,
                Bytes::from_static(b"\0\0\0\0\x09ab"),
            ),
            ("nothing", CREATE, Bytes::new()),
        ] {
            let status = raw(&h, path, &[], body).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
            assert_eq!(reason(&status), "MESSAGE_MALFORMED", "{what}");
        }
        assert_eq!(h.count("SELECT COUNT(*) FROM leads").await, before);
    }

    async fn only_who_is_known_learns_which_methods_there_are(h: Harness) {
        for path in [
            "/leadsmith.v1.LeadService/Delete",
            "/leadsmith.v1.NoService/Get",
            "/leadsmith.v1.LeadService",
            "/",
            "/leadsmith.v1.LeadService/Get/",
            "/leadsmith.v1.leadservice/get",
        ] {
            let status = raw(&h, path, &[], frame(b"")).await;
            assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
            assert_eq!(reason(&status), "METHOD_UNKNOWN", "{path}");
            for token in ["", "Bearer ", "Bearer none", "Basic YTpi"] {
                let status = raw(&h, path, &[("authorization", token)], frame(b"")).await;
                assert_eq!(
                    status.code(),
                    Code::Unauthenticated,
                    "{path} {token:?}: {status:?}"
                );
                assert_eq!(reason(&status), "TOKEN_INVALID", "{path} {token:?}");
            }
        }
    }

    async fn a_callers_deadline_is_told_by_the_server_and_its_effect_can_be_asked_for(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        let request = proto::DeactivateLeadRequest {
            id: lead.id.clone(),
            request_id: UNKNOWN.into(),
            ..Default::default()
        };
        let body = frame(&request.encode_to_vec());
        let held = h.hold_changes().await;
        let path = "/leadsmith.v1.LeadService/Deactivate";
        let status = raw(&h, path, &[("grpc-timeout", "300m")], body).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
        let running = refused(h.sales.leads().deactivate(request.clone()).await);
        assert_eq!(
            reason(&running),
            "REQUEST_IN_FLIGHT",
            "it goes on without its caller"
        );
        held.release().await;

        let answer = repeat_until_answered(&h.sales, &request).await;
        assert_eq!(h.sales.get(&lead.id).await, answer);
        assert_eq!(
            h.sales.history(&lead.id).await.len(),
            2,
            "created, and deactivated once"
        );
    }
}

async fn repeat_until_answered(caller: &Caller, request: &proto::DeactivateLeadRequest) -> Lead {
    for _ in 0..200 {
        match caller.leads().deactivate(request.clone()).await {
            Ok(answer) => return answer.into_inner().lead.unwrap(),
            Err(status) => assert_eq!(reason(&status), "REQUEST_IN_FLIGHT", "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the first call never ended");
}

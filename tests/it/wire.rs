//! Requests that are not gRPC calls, or calls in unusual forms: they are rejected with a clear status, or served.

mod authorities;

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use leadsmith_proto::lead_service_client::LeadServiceClient;
use leadsmith_proto::{self as proto, Lead};
use prost::Message;
use prost::bytes::Bytes;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::harness::{Harness, metadata, reason};
use crate::on_both;

const CREATE: &str = "/leadsmith.v1.LeadService/Create";
const GET: &str = "/leadsmith.v1.LeadService/Get";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// A raw response.
struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The gRPC status, from the headers or the trailers.
    fn status(&self) -> Status {
        assert_eq!(self.code, StatusCode::OK);
        Status::from_header_map(&self.headers)
            .or_else(|| Status::from_header_map(self.trailers.as_ref()?))
            .expect("a status")
    }
}

/// Sends a request with these headers and no others.
async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let work = async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut client = client.ready().await.unwrap();
        let (response, mut stream) = client
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        // This fails if the server has already responded.
        let _ = stream.send_data(Bytes::from(body), true);
        let (parts, mut rest) = response.await.unwrap().into_parts();
        let mut body = Vec::new();
        while let Some(data) = rest.data().await {
            let Ok(data) = data else { break };
            body.extend_from_slice(&data);
            rest.flow_control().release_capacity(data.len()).unwrap();
        }
        let trailers = rest.trailers().await.ok().flatten();
        connection.abort();
        Answer {
            code: parts.status,
            headers: parts.headers,
            body,
            trailers,
        }
    };
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("a response")
}

/// A frame with a message and its compression flag.
fn frame(compressed: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![compressed];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

fn new_lead() -> Vec<u8> {
    let lead = Lead {
        last_name: "Lovelace".into(),
        ..Lead::default()
    };
    let request = proto::CreateLeadRequest {
        lead: Some(lead),
        ..Default::default()
    };
    frame(0, &request.encode_to_vec())
}

fn bearer(h: &Harness) -> String {
    format!("Bearer {}", h.sales.token)
}

async fn leads(h: &Harness) -> i64 {
    h.count("SELECT count(*) FROM leads").await
}

on_both! {
    async fn only_post_is_a_call(h: Harness) {
        let token = bearer(&h);
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "POSTS"] {
            for path in [CREATE, CHECK, "/", "/nonsense"] {
                for headers in [&[GRPC, ("authorization", token.as_str())][..], &[GRPC], &[]] {
                    let method = Method::from_bytes(method.as_bytes()).unwrap();
                    let answer = send(h.server.address, method.clone(), path, headers, new_lead()).await;
                    assert_eq!(answer.code, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                    assert_eq!(answer.header("allow"), "POST");
                    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
                    assert!(method == Method::HEAD || answer.body.starts_with(b"This is a gRPC server"));
                }
            }
        }
        assert_eq!(leads(&h).await, 0);
    }

    async fn only_grpcs_content_type_is_a_call(h: Harness) {
        let token = bearer(&h);
        let token = ("authorization", token.as_str());
        for kind in [
            "application/json", "text/plain", "application/x-www-form-urlencoded", "application/proto",
            "application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text",
            "application/grpc+json", "application/grpcs", "application/connect+proto", "*/*", "",
        ] {
            for path in [CREATE, CHECK, REFLECTION, "/leadsmith.v1.AuthService/SignIn", "/nonsense"] {
                let headers = [("content-type", kind), token];
                let answer = send(h.server.address, Method::POST, path, &headers, new_lead()).await;
                assert_eq!(answer.code, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind} {path}");
                assert_eq!(answer.header("accept"), "application/grpc");
                assert!(answer.body.starts_with(b"This is a gRPC server"));
            }
        }
        for headers in [&[token][..], &[GRPC, GRPC, token], &[GRPC, ("content-type", "text/plain"), token]] {
            let answer = send(h.server.address, Method::POST, CREATE, headers, new_lead()).await;
            assert_eq!(answer.code, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{headers:?}");
        }
        assert_eq!(leads(&h).await, 0);
        for (created, kind) in (1..).zip([
            "application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "Application/gRPC",
        ]) {
            let headers = [("content-type", kind), token];
            let answer = send(h.server.address, Method::POST, CREATE, &headers, new_lead()).await;
            assert_eq!(answer.status().code(), Code::Ok, "{kind}");
            assert_eq!(leads(&h).await, created);
        }
    }

    async fn an_encoding_that_is_not_supported_is_named(h: Harness) {
        let token = bearer(&h);
        let token = ("authorization", token.as_str());
        let long = "x".repeat(1_000);
        for encoding in ["zstd", "deflate", "br", "snappy", "GZIP", "gzip,identity", "", &long] {
            for path in [CREATE, CHECK, REFLECTION, "/leadsmith.v1.AuthService/SignIn"] {
                let headers = [GRPC, token, ("grpc-encoding", encoding)];
                let answer = send(h.server.address, Method::POST, path, &headers, new_lead()).await;
                let status = answer.status();
                assert_eq!(status.code(), Code::Unimplemented, "{encoding} {path}");
                assert_eq!(reason(&status), "ENCODING_UNSUPPORTED");
                assert_eq!(metadata(&status, "encoding"), encoding[..encoding.len().min(32)]);
                assert_eq!(metadata(&status, "supported"), "identity,gzip");
                assert_eq!(answer.header("grpc-accept-encoding"), "identity,gzip");
            }
        }
        assert_eq!(leads(&h).await, 0);
        let headers = [GRPC, token, ("grpc-encoding", "identity")];
        let answer = send(h.server.address, Method::POST, CREATE, &headers, new_lead()).await;
        assert_eq!(answer.status().code(), Code::Ok);
        // Marked as compressed, but without an encoding, as identity, or with a body that is not gzip.
        for headers in [&[GRPC, token][..], &headers, &[GRPC, token, ("grpc-encoding", "gzip")]] {
            let answer = send(h.server.address, Method::POST, CREATE, headers, frame(1, b"\x0a\x00")).await;
            assert_eq!(reason(&answer.status()), "MESSAGE_MALFORMED", "{headers:?}");
        }
        assert_eq!(leads(&h).await, 1);
    }

    async fn gzip_is_spoken_by_every_service(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let mut request = tonic::Request::new(proto::GetLeadRequest { id: lead.id.clone() });
        request.metadata_mut().insert("authorization", bearer(&h).parse().unwrap());
        let mut client = LeadServiceClient::new(h.channel())
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        let answer = client.get(request).await.unwrap().into_inner();
        assert_eq!(answer.lead, Some(lead));

        let mut health = tonic_health::pb::health_client::HealthClient::new(h.channel())
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        let answer = health.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().status, 1);
        // The message size limit also applies to messages that are small when compressed.
        let service = "x".repeat(1 << 20);
        let refused = health.check(HealthCheckRequest { service }).await.unwrap_err();
        assert_eq!(reason(&refused), "MESSAGE_TOO_LARGE");
        assert_eq!(metadata(&refused, "limit_bytes"), "4096");
    }

    async fn one_authorization_counts_and_no_second_beside_it(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let body = frame(0, &proto::GetLeadRequest { id: lead.id }.encode_to_vec());
        let (sales, viewer) = (bearer(&h), format!("Bearer {}", h.viewer.token));
        let (both, quoted) = (format!("{sales}, {viewer}"), format!("\"{sales}\""));
        let in_bytes = "authorization-bin";
        for (tokens, valid) in [
            (&[("authorization", sales.as_str())][..], true),
            (&[("authorization", sales.as_str()), ("authorization", viewer.as_str())], false),
            (&[("authorization", sales.as_str()), ("authorization", sales.as_str())], false),
            (&[("authorization", sales.as_str()), ("authorization", "")], false),
            (&[("authorization", "Bearer x"), ("authorization", sales.as_str())], false),
            (&[("authorization", both.as_str())], false),
            (&[("authorization", quoted.as_str())], false),
            (&[(in_bytes, sales.as_str())], false),
            (&[], false),
        ] {
            let headers = [&[GRPC][..], tokens].concat();
            let status = send(h.server.address, Method::POST, GET, &headers, body.clone()).await.status();
            if valid {
                assert_eq!(status.code(), Code::Ok, "{tokens:?}: {status:?}");
            } else {
                assert_eq!(status.code(), Code::Unauthenticated, "{tokens:?}");
                assert_eq!(reason(&status), "TOKEN_INVALID");
            }
        }
    }

    async fn a_path_that_is_no_rpc_is_told_so_with_a_reason(h: Harness) {
        let token = bearer(&h);
        for path in [
            "//grpc.health.v1.Health/Check", "///grpc.health.v1.Health/Check", "/grpc.health.v1.Health//Check",
            "/grpc.health.v1.Health/Check/", "/grpc.health.v1.Health/check", "/grpc.health.v1.Health/Chec%6B",
            "/grpc.health.v1.Health/Check%00", "/./grpc.health.v1.Health/Check", "/grpc.health.v1.Health", "/",
            "//leadsmith.v1.LeadService/Get", "/leadsmith.v1.LeadService/Get/", "/leadsmith.v1.leadservice/Get",
            "//leadsmith.v1.AuthService/SignIn", "//grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            let nobody = send(h.server.address, Method::POST, path, &[GRPC], frame(0, b"")).await.status();
            assert_eq!((nobody.code(), reason(&nobody).as_str()), (Code::Unauthenticated, "TOKEN_INVALID"), "{path}");
            let headers = [GRPC, ("authorization", token.as_str())];
            let known = send(h.server.address, Method::POST, path, &headers, frame(0, b"")).await.status();
            assert_eq!((known.code(), reason(&known).as_str()), (Code::Unimplemented, "METHOD_UNKNOWN"), "{path}");
        }
        let query = format!("{CHECK}?service=x");
        let answer = send(h.server.address, Method::POST, &query, &[GRPC], frame(0, b"")).await;
        assert_eq!(answer.status().code(), Code::Ok, "a query is not part of the name");
    }

    async fn the_errors_of_health_and_reflection_have_reasons(h: Harness) {
        let ask = async |path: &str, body: Vec<u8>| {
            send(h.server.address, Method::POST, path, &[GRPC], body).await.status()
        };
        let unknown = HealthCheckRequest { service: "nonsense".into() }.encode_to_vec();
        for path in [CHECK, "/grpc.health.v1.Health/Watch"] {
            let status = ask(path, frame(0, &unknown)).await;
            assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "SYMBOL_NOT_FOUND"), "{path}");
        }
        let question = |question| ServerReflectionRequest {
            host: String::new(),
            message_request: question,
        };
        for path in [REFLECTION, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"] {
            let listed = question(Some(MessageRequest::ListServices(String::new())));
            assert_eq!(ask(path, frame(0, &listed.encode_to_vec())).await.code(), Code::Ok);
            for (asked, expected) in [
                (Some(MessageRequest::FileContainingSymbol("nonsense".into())), "SYMBOL_NOT_FOUND"),
                (Some(MessageRequest::FileByFilename("nonsense".into())), "SYMBOL_NOT_FOUND"),
                (None, "MESSAGE_MALFORMED"),
            ] {
                let status = ask(path, frame(0, &question(asked.clone()).encode_to_vec())).await;
                assert_eq!(reason(&status), expected, "{path} {asked:?}");
            }
        }
        for path in [CHECK, "/grpc.health.v1.Health/Watch"] {
            let status = ask(path, frame(0, b"\xff\xff")).await;
            assert_eq!(reason(&status), "MESSAGE_MALFORMED", "{path}");
            let status = ask(path, frame(0, &[0; 5_000])).await;
            assert_eq!(reason(&status), "MESSAGE_TOO_LARGE", "{path}");
            assert_eq!(metadata(&status, "limit_bytes"), "4096");
        }
    }
}

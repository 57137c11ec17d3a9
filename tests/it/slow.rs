//! Clients that are slow on purpose: incomplete messages, unread responses, and long streams. The number and the
//! duration of these are limited, and other calls still succeed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use h2::RecvStream;
use h2::client::SendRequest;
use leadsmith_proto::{self as proto, Lead};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::harness::{Backend, Harness, PASSWORD, eventually, reason, sign_in};

const SIGN_IN: &str = "leadsmith.v1.AuthService/SignIn";
const GET: &str = "leadsmith.v1.LeadService/Get";
const LIST: &str = "leadsmith.v1.LeadService/List";
const CHECK: &str = "grpc.health.v1.Health/Check";
const WATCH: &str = "grpc.health.v1.Health/Watch";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// An empty message, and the start of a message that declares 100 bytes.
const EMPTY: &[u8] = b"\0\0\0\0\0";
const BEGINNING: &[u8] = b"\0\0\0\0\x64abc";

/// A connection on which the test controls when data are sent and read.
struct Wire {
    client: SendRequest<Bytes>,
    connection: JoinHandle<()>,
    token: String,
}

/// A call in progress.
struct Call {
    answer: h2::client::ResponseFuture,
    /// Open until the message is complete.
    message: h2::SendStream<Bytes>,
}

impl Wire {
    /// With a window of 0 the server can send only headers.
    async fn open(h: &Harness, window: u32) -> Self {
        Self::to(h, h.server.address, window).await
    }

    async fn to(h: &Harness, address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (client, connection) = builder.handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move {
            // Only the time matters, not the result.
            let _ = connection.await;
        });
        Self {
            client,
            connection,
            token: h.sales.token.clone(),
        }
    }

    async fn call(&self, rpc: &str, message: &'static [u8], end: bool) -> Call {
        let request = http::Request::post(format!("http://localhost/{rpc}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "60S")
            .header("authorization", format!("Bearer {}", self.token));
        let mut client = self.client.clone().ready().await.unwrap();
        let (answer, mut stream) = client
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        stream.send_data(Bytes::from_static(message), end).unwrap();
        Call {
            answer,
            message: stream,
        }
    }

    /// Sends an empty message and returns the status.
    async fn ask(&self, rpc: &str) -> Status {
        self.call(rpc, EMPTY, true).await.status().await
    }
}

impl Call {
    /// Waits for the response headers.
    async fn begun(self) -> (RecvStream, Option<Status>) {
        let answer = tokio::time::timeout(Duration::from_secs(10), self.answer);
        let answer = answer.await.expect("an answer").unwrap();
        let status = Status::from_header_map(answer.headers());
        (answer.into_body(), status)
    }

    async fn status(self) -> Status {
        let (mut body, status) = self.begun().await;
        if let Some(status) = status {
            return status;
        }
        let rest = async {
            while let Some(data) = body.data().await {
                let length = data.unwrap().len();
                body.flow_control().release_capacity(length).unwrap();
            }
            body.trailers().await.unwrap().expect("trailers")
        };
        let trailers = tokio::time::timeout(Duration::from_secs(10), rest).await;
        Status::from_header_map(&trailers.expect("an end")).expect("a status")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_ins_that_are_never_finished_keep_nobody_from_signing_in() {
    let h = Harness::start_with(Backend::Sqlite, |settings| settings.limits.max_calls = 32).await;
    let lead = h.sales.create_lead("Half").await;
    let wire = Wire::open(&h, 65_535).await;
    let begun = Instant::now();
    // Of 32 calls, 8 may be sign-ins, 4 of them from one address, and the server waits for at most 2 incomplete
    // messages from one address.
    let mut halves = Vec::new();
    for _ in 0..60 {
        halves.push(wire.call(SIGN_IN, BEGINNING, false).await);
    }
    for _ in 0..20 {
        sign_in(h.channel(), "sales", PASSWORD)
            .await
            .expect("while all the halves are there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(h.sales.get(&lead.id).await, lead, "the others go on");

    let mut reasons: Vec<String> = Vec::new();
    for half in halves {
        reasons.push(reason(&half.status().await));
    }
    let with = |name: &str| reasons.iter().filter(|reason| *reason == name).count();
    assert_eq!(with("DEADLINE_EXCEEDED"), 2, "{reasons:?}");
    assert_eq!(with("SERVER_OVERLOADED"), 58, "{reasons:?}");
    assert!(begun.elapsed() < Duration::from_secs(9), "not for a minute");
    // Their permits are released, and a slow but complete call succeeds.
    let mut slow = wire.call(SIGN_IN, &EMPTY[..2], false).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    slow.message
        .send_data(Bytes::from_static(&EMPTY[2..]), true)
        .unwrap();
    assert_eq!(reason(&slow.status().await), "FIELD_INVALID");
    let next = wire.ask(SIGN_IN).await;
    assert_eq!(reason(&next), "FIELD_INVALID");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_to_come_in_time_whoever_sends_it() {
    let h = Harness::start(Backend::Sqlite).await;
    let wire = Wire::open(&h, 65_535).await;
    let begun = Instant::now();
    let mut slow = Vec::new();
    for rpc in [GET, CHECK] {
        slow.push(wire.call(rpc, BEGINNING, false).await);
    }
    for call in slow {
        let status = call.status().await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
    assert!(begun.elapsed() >= Duration::from_secs(4), "it had its time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_needs_no_token_can_send_no_large_message() {
    let h = Harness::start(Backend::Sqlite).await;
    let wire = Wire::open(&h, 65_535).await;
    // It declares 5,000 bytes. If that were allowed, the server would wait for them.
    for rpc in [CHECK, WATCH, REFLECTION] {
        let call = wire.call(rpc, b"\0\0\0\x13\x88abc", false).await;
        let ended = tokio::time::timeout(Duration::from_secs(3), call.status()).await;
        assert!(ended.is_ok(), "{rpc}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_anybody_may_open_are_limited_and_health_is_told_all_the_same() {
    let h = Harness::start_with(Backend::Sqlite, |settings| {
        settings.limits.max_connections_per_address = 6;
    })
    .await;
    let wire = Wire::open(&h, 65_535).await;
    let mut held = Vec::new();
    for rpc in [WATCH, REFLECTION, WATCH, REFLECTION, WATCH, WATCH] {
        let (message, end) = match rpc == WATCH {
            true => (EMPTY, true),
            false => (&b""[..], false),
        };
        let (body, refused) = wire.call(rpc, message, end).await.begun().await;
        assert!(refused.is_none(), "{rpc}: {refused:?}");
        held.push(body);
    }
    assert_eq!(reason(&wire.ask(WATCH).await), "SERVER_OVERLOADED");
    assert_eq!(wire.ask(CHECK).await.code(), Code::Ok);
    held.pop();
    eventually("the place of one that was let go", async || {
        let (_, refused) = wire.call(WATCH, EMPTY, true).await.begun().await;
        refused.is_none()
    })
    .await;
}

/// Of two large unread pages, the first is within the limit of 4 MiB. Returns the status of the second.
pub async fn page_beyond_what_is_unread(h: &Harness, address: SocketAddr) -> Status {
    let value = "x".repeat(4_096);
    for number in 0..50 {
        let custom_fields = (0..14).map(|key| (format!("field_{key}"), value.clone()));
        let lead = Lead {
            last_name: format!("Large {number}"),
            custom_fields: custom_fields.collect(),
            ..Lead::default()
        };
        h.sales.create(lead).await.unwrap();
    }
    let deaf = Wire::to(h, address, 0).await;
    let (unread, refused) = deaf.call(LIST, EMPTY, true).await.begun().await;
    assert!(refused.is_none(), "{refused:?}");
    let status = deaf.ask(LIST).await;
    // Other connections and small responses are not affected.
    let reads = Wire::to(h, address, 65_535).await;
    assert_eq!(reason(&reads.ask(GET).await), "FIELD_INVALID");
    drop(unread);
    eventually("what is not kept any more does not count", async || {
        reads.ask(LIST).await.code() == Code::Ok
    })
    .await;
    status
}

/// A connection that reads nothing, with the smallest possible receive buffer.
async fn deaf(h: &Harness) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(h.server.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    stream
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An Update whose error has the maximum length, as frames.
fn wrong_update(h: &Harness, stream: u32) -> Vec<u8> {
    let mut headers = Vec::new();
    let bearer = format!("Bearer {}", h.sales.token);
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/leadsmith.v1.LeadService/Update"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", bearer.as_str()),
    ] {
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).unwrap());
            headers.extend(text.as_bytes());
        }
    }
    // All errors differ, otherwise HPACK would compress later ones.
    let path = format!("{:-<40}", format!("call_{stream}"));
    let update = proto::UpdateLeadRequest {
        lead: Some(Lead::default()),
        update_mask: Some(prost_types::FieldMask {
            paths: vec![path; 25],
        }),
        ..Default::default()
    }
    .encode_to_vec();
    let length = u32::try_from(update.len()).unwrap().to_be_bytes();
    let message = [&[0], &length[..], &update].concat();
    [frame(1, 4, stream, &headers), frame(0, 1, stream, &message)].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_is_not_read_takes_a_place_until_its_connection_is_closed() {
    let h = Harness::start_with(Backend::Sqlite, |settings| {
        settings.limits.max_calls = 1;
        settings.limits.max_deadline = Duration::from_secs(3);
        settings.limits.default_deadline = Duration::from_secs(3);
    })
    .await;
    let lead = h.sales.create_lead("Unread").await;
    let overloaded = async || {
        let id = lead.id.clone();
        let got = h.viewer.leads().get(proto::GetLeadRequest { id }).await;
        got.is_err_and(|status| reason(&status) == "SERVER_OVERLOADED")
    };
    // Not because of the check itself, which uses the only permit for a moment.
    let stays_overloaded = async || {
        for _ in 0..5 {
            if !overloaded().await {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    };
    let mut connection = deaf(&h).await;
    let begun = Instant::now();
    let mut stream = 1;
    // Until the socket accepts no more responses.
    while !stays_overloaded().await {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "errors do not count"
        );
        let request = wrong_update(&h, stream);
        stream += 2;
        if connection.write_all(&request).await.is_err() {
            // On a busy machine it may be closed before the check has seen that it takes the place.
            connection = deaf(&h).await;
            stream = 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually("it takes nothing, and is closed", async || {
        !overloaded().await
    })
    .await;
    assert_eq!(h.viewer.get(&lead.id).await, lead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_takes_ends_its_connection_and_no_other() {
    let h = Harness::start_with(Backend::Sqlite, |settings| {
        settings.limits.default_deadline = Duration::from_secs(1);
        settings.limits.max_deadline = Duration::from_secs(1);
    })
    .await;
    h.sales.create_lead("Unread").await;
    let (deaf, idle) = (Wire::open(&h, 0).await, Wire::open(&h, 65_535).await);
    let (_stream, refused) = idle.call(WATCH, EMPTY, true).await.begun().await;
    assert!(refused.is_none());
    assert_eq!(idle.ask(LIST).await.code(), Code::Ok);

    let (_unread, refused) = deaf.call(LIST, EMPTY, true).await.begun().await;
    assert!(refused.is_none(), "it is answered");
    let ended = tokio::time::timeout(Duration::from_secs(5), deaf.connection).await;
    assert!(ended.is_ok(), "its answer is kept for ever");
    assert_eq!(idle.ask(LIST).await.code(), Code::Ok);
    assert!(!idle.connection.is_finished(), "who only listens may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_answers_unread_leaves_the_others_room() {
    let h = Harness::start_with(Backend::Sqlite, |settings| settings.limits.max_calls = 4).await;
    let lead = h.sales.create_lead("Share").await;
    let deaf = Wire::open(&h, 0).await;
    let mut unread = Vec::new();
    let begun = Instant::now();
    while unread.len() < 3 {
        let (body, refused) = deaf.call(LIST, EMPTY, true).await.begun().await;
        match refused {
            None => unread.push(body),
            // The permit of the call that created the lead may be held for a moment after its response is read.
            Some(status) => {
                assert_eq!(reason(&status), "SERVER_OVERLOADED");
                assert!(begun.elapsed() < Duration::from_secs(5), "{status:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    // On any connection.
    let another = Wire::open(&h, 65_535).await;
    assert_eq!(reason(&another.ask(GET).await), "SERVER_OVERLOADED");
    assert_eq!(h.viewer.get(&lead.id).await, lead, "the others go on");

    unread.clear();
    eventually("its share is free", async || {
        reason(&another.ask(GET).await) == "FIELD_INVALID"
    })
    .await;
}

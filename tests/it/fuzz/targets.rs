//! The fuzz targets and the checks of their results. cargo-fuzz (`fuzz/`) and the tests share this file, so that
//! the tests repeat what fuzzing has found.
//!
//! The bytes take the path of every request: the layers, tonic, the feature's `api.rs`, and a database. The result
//! must be OK or a documented reason other than INTERNAL.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use leadsmith::app::App;
use leadsmith::auth::passwords::Passwords;
use leadsmith::auth::policy::{RPCS, WATCH};
use leadsmith::cli::console::Console;
use leadsmith::config::TlsSettings;
use leadsmith::config::{
    DatabaseSettings, Limits, ObserveSettings, PasswordSettings, ServeSettings,
};
use leadsmith::core::clock::Clock;
use leadsmith::core::role::Role;
use leadsmith::error::LARGEST;
use leadsmith::server::LARGEST_REQUEST;
use leadsmith_proto::{self as proto, ErrorReason};
use prost::Message;
use prost::bytes::Bytes;
use tempfile::TempDir;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

/// The targets, by the names of their folders under `fuzz/corpus`.
pub const TARGETS: [&str; 7] = [
    "requests",
    "repeats",
    "bodies",
    "page_tokens",
    "order_by",
    "field_masks",
    "headers",
];

/// RPCs whose raw bodies are fuzzed, including the frames.
const FRAMED: [&str; 4] = [
    "leadsmith.v1.LeadService/Get",
    "leadsmith.v1.LeadService/Search",
    "grpc.health.v1.Health/Check",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];
const ENCODINGS: [&str; 4] = ["", "gzip", "identity", "zstd"];

/// The service without a listener, on its own database.
pub struct Fuzz {
    service: BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>,
    /// Two principals that may change data: a service account, and an operator with a password.
    tokens: [String; 2],
    lead: String,
    page_token: String,
    _folder: TempDir,
}

impl Fuzz {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("fuzz.db").display());
        let settings = ServeSettings {
            database: DatabaseSettings {
                database_url: url.into(),
            },
            listen: "127.0.0.1:0".parse().unwrap(),
            insecure: false,
            tls: TlsSettings::default(),
            migrate: true,
            observe: ObserveSettings::default(),
            passwords: PasswordSettings::default(),
            limits: Limits::default(),
        };
        let app = App::open(&settings, Clock::default()).await.unwrap();
        let password = "a long enough password";
        let console = Console::new(&app.db, Passwords::default());
        console.create_account("fuzz", Role::Sales).await.unwrap();
        let (_, key) = console.create_key("fuzz").await.unwrap();
        let hidden = password.to_owned().into();
        console
            .create_operator("fuzz", "", Role::Sales, hidden)
            .await
            .unwrap();
        let service = app.without_listener(&settings.limits).await.unwrap();
        let mut fuzz = Self {
            service: BoxCloneSyncService::new(service),
            tokens: [key.expose().to_owned(), String::new()],
            lead: String::new(),
            page_token: String::new(),
            _folder: folder,
        };
        let sign_in = proto::SignInRequest {
            username: "fuzz".into(),
            password: password.into(),
            ..Default::default()
        };
        let answer: proto::SignInResponse = fuzz.ask("AuthService/SignIn", &sign_in).await.unwrap();
        fuzz.tokens[1] = answer.token;
        for name in ["Ada", "Bel", "Cem"] {
            let create = proto::CreateLeadRequest {
                lead: Some(proto::Lead {
                    last_name: name.into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let answer: proto::CreateLeadResponse =
                fuzz.ask("LeadService/Create", &create).await.unwrap();
            fuzz.lead = answer.lead.unwrap().id;
        }
        let list = proto::ListLeadsRequest {
            page_size: 1,
            ..Default::default()
        };
        let answer: proto::ListLeadsResponse = fuzz.ask("LeadService/List", &list).await.unwrap();
        fuzz.page_token = answer.next_page_token;
        fuzz
    }

    /// Runs a target with one input.
    pub async fn feed(&self, target: &str, bytes: &[u8]) {
        match target {
            "requests" => self.requests(bytes).await,
            "repeats" => self.repeats(bytes).await,
            "bodies" => self.bodies(bytes).await,
            "page_tokens" => self.page_tokens(bytes).await,
            "order_by" => self.order_by(bytes).await,
            "field_masks" => self.field_masks(bytes).await,
            "headers" => self.headers(bytes).await,
            _ => panic!("there is no target {target}"),
        }
    }

    /// Any bytes as the message of any RPC. The first line names the RPC.
    async fn requests(&self, bytes: &[u8]) {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return;
        };
        let (name, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 1..]);
        let Some((rpc, _)) = RPCS
            .iter()
            .find(|(rpc, _)| rpc.strip_prefix("leadsmith.v1.") == Some(&name))
        else {
            return;
        };
        // The operator must stay signed in, and hashing would take most of the time.
        let sign_in = proto::SignInRequest::decode(body).unwrap_or_default();
        if *name == *"AuthService/SignOut"
            || *name == *"AuthService/SignIn" && !sign_in.password.is_empty()
        {
            return;
        }
        for token in &self.tokens {
            documented(&self.call(rpc, &bearer(token), frame(body)).await);
        }
    }

    /// Many mistakes in few bytes: the message of any RPC, which the first line names. The next byte says how many
    /// of the bytes after it occur in the message once. The rest is repeated up to the size of the largest
    /// request.
    async fn repeats(&self, bytes: &[u8]) {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return;
        };
        let (rpc, message) = bytes.split_at(end + 1);
        let Some((once, message)) = message.split_first() else {
            return;
        };
        let (once, again) = message.split_at(message.len().min((*once).into()));
        let room = LARGEST_REQUEST.saturating_sub(once.len());
        let times = room.checked_div(again.len()).unwrap_or(0);
        let request = [rpc, once, &again.repeat(times)].concat();
        self.requests(&request).await;
    }

    /// Any bytes as a whole body: gRPC frames, compressed or not. The first three bytes select the RPC, the
    /// declared compression, and the size of the chunks.
    async fn bodies(&self, bytes: &[u8]) {
        let [rpc, encoding, length, body @ ..] = bytes else {
            return;
        };
        let of = |names: [&'static str; 4], byte: &u8| names[usize::from(byte % 4)];
        let (rpc, encoding) = (of(FRAMED, rpc), of(ENCODINGS, encoding));
        let mut headers = bearer(&self.tokens[0]);
        if !encoding.is_empty() {
            headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
        }
        let pieces: Vec<_> = body
            .chunks(usize::from(*length) + 1)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        let (status, _) = self.send(rpc, &headers, Body::new(body)).await;
        // tonic implements health and reflection. Their errors have no reasons.
        if rpc.starts_with("leadsmith.") && status.code() != Code::Ok {
            documented(&Err(status));
        }
    }

    /// A page token that is modified by the bytes, or replaced by them.
    async fn page_tokens(&self, bytes: &[u8]) {
        let Some((how, bytes)) = bytes.split_first() else {
            return;
        };
        let page_token = if how % 2 == 0 {
            let mut sealed = URL_SAFE_NO_PAD.decode(&self.page_token).unwrap();
            for (index, byte) in bytes.iter().enumerate() {
                let index = index % sealed.len();
                sealed[index] ^= byte;
            }
            URL_SAFE_NO_PAD.encode(sealed)
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        };
        let list = proto::ListLeadsRequest {
            page_size: 1,
            page_token: page_token.clone(),
            ..Default::default()
        };
        let answer = self
            .ask::<proto::ListLeadsResponse>("LeadService/List", &list)
            .await;
        if page_token.is_empty() || page_token == self.page_token {
            assert!(answer.is_ok(), "{answer:?}");
        } else {
            assert_eq!(reason(&answer.unwrap_err()), "PAGE_TOKEN_INVALID");
        }
    }

    async fn order_by(&self, bytes: &[u8]) {
        let order_by = String::from_utf8_lossy(bytes).into_owned();
        let list = proto::ListLeadsRequest {
            page_size: 1,
            order_by: order_by.clone(),
            ..Default::default()
        };
        let answer = self
            .ask::<proto::ListLeadsResponse>("LeadService/List", &list)
            .await;
        let words: Vec<_> = order_by.split_whitespace().collect();
        let keys = ["create_time", "update_time", "last_name", "company"];
        let right = match words[..] {
            [] => true,
            [key] | [key, "desc"] => keys.contains(&key),
            _ => false,
        };
        assert_eq!(answer.is_ok(), right, "{order_by:?}: {answer:?}");
    }

    /// Paths, one per line.
    async fn field_masks(&self, bytes: &[u8]) {
        let paths = String::from_utf8_lossy(bytes);
        let update = proto::UpdateLeadRequest {
            lead: Some(proto::Lead {
                id: self.lead.clone(),
                last_name: "Ada".into(),
                custom_fields: [("tier".to_owned(), "gold".to_owned())].into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.lines().map(str::to_owned).collect(),
            }),
            validate_only: true,
            ..Default::default()
        };
        // `ask` checks the result.
        let _ = self
            .ask::<proto::UpdateLeadResponse>("LeadService/Update", &update)
            .await;
    }

    /// A `grpc-timeout`, an `authorization` and a request id, one per line.
    async fn headers(&self, bytes: &[u8]) {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let mut headers = bearer(&self.tokens[0]);
        for name in ["grpc-timeout", "authorization"] {
            let line = lines.next().filter(|line| !line.is_empty());
            if let Some(Ok(value)) = line.map(HeaderValue::from_bytes) {
                headers.insert(name, value);
            }
        }
        let convert = proto::ConvertLeadRequest {
            id: self.lead.clone(),
            request_id: String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned(),
            validate_only: true,
            ..Default::default()
        };
        let body = frame(&convert.encode_to_vec());
        documented(
            &self
                .call("leadsmith.v1.LeadService/Convert", &headers, body)
                .await,
        );
    }

    /// Calls as the service account.
    async fn ask<T: Message + Default>(
        &self,
        rpc: &str,
        message: &impl Message,
    ) -> Result<T, Status> {
        let body = frame(&message.encode_to_vec());
        let rpc = format!("leadsmith.v1.{rpc}");
        let answer = self.call(&rpc, &bearer(&self.tokens[0]), body).await;
        documented(&answer);
        answer.map(|message| T::decode(message).unwrap())
    }

    /// Makes a call with one message in its frame, and returns the message of the response.
    async fn call(&self, rpc: &str, headers: &HeaderMap, body: Bytes) -> Result<Bytes, Status> {
        let body = Body::new(http_body_util::Full::new(body));
        let (status, answer) = self.send(rpc, headers, body).await;
        if status.code() == Code::Ok {
            Ok(answer.slice(5..))
        } else {
            Err(status)
        }
    }

    async fn send(&self, rpc: &str, headers: &HeaderMap, body: Body) -> (Status, Bytes) {
        let mut request = Request::post(format!("/{rpc}")).body(body).unwrap();
        *request.headers_mut() = headers.clone();
        let kind = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert("content-type", kind);
        let mut service = self.service.clone();
        let Ok(response) = service.ready().await.unwrap().call(request).await;
        let (head, mut body) = response.into_parts();
        if rpc == WATCH && !head.headers.contains_key("grpc-status") {
            // A stream without an end: its first message is enough.
            let first = body.frame().await.unwrap().unwrap();
            let first = first.into_data().unwrap_or_default();
            return (Status::new(Code::Ok, ""), first);
        }
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let told = match head.headers.contains_key("grpc-status") {
            true => &head.headers,
            false => &trailers,
        };
        let status = Status::from_header_map(told).expect("an answer has a status");
        accepted_by_clients(told, &status);
        (status, body.to_bytes())
    }
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
}

/// A gRPC frame with a message.
fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    info.map_or(String::new(), |info| info.reason.clone())
}

/// For any request, the headers of the response must be small enough for every client, and decodable.
fn accepted_by_clients(headers: &HeaderMap, status: &Status) {
    let headers = headers.iter();
    let size: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum();
    // The server adds a status, a date and a length.
    assert!(size + 200 < LARGEST, "{size} bytes: {status:?}");
    let details = status.check_error_details().expect("details");
    let metadata = details.error_info().map(|info| info.metadata.iter());
    let metadata = metadata.into_iter().flatten();
    let metadata: usize = metadata.map(|(key, value)| key.len() + value.len()).sum();
    assert!(metadata < 2_048, "{metadata} bytes of metadata: {status:?}");
    assert!(status.message().len() < 2_048, "a long message: {status:?}");
    let wrong = details.bad_request().map(|bad| &bad.field_violations);
    let wrong = wrong.map_or(&[][..], |wrong| wrong);
    assert!(wrong.len() <= 21, "{} violations: {status:?}", wrong.len());
    assert!(
        wrong.iter().all(|violation| !violation.reason.is_empty()),
        "{status:?}"
    );
}

/// OK, or a documented reason.
fn documented(answer: &Result<Bytes, Status>) {
    let Err(status) = answer else { return };
    let reason = reason(status);
    let known = ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}"));
    assert!(known.is_some(), "no documented reason: {status:?}");
    assert_ne!(known, Some(ErrorReason::Internal), "{status:?}");
}

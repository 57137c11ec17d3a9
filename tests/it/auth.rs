//! Letting people in, for how long, and keeping guessers out.

mod faults;
mod lockout;
mod spelling;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration as StdDuration;

use chrono::{DateTime, Duration, Utc};
use leadsmith::auth::attempts::{self, Bucket};
use leadsmith::auth::passwords::Passwords;
use leadsmith::auth::roles::Role;
use leadsmith::db::entities::session;
use leadsmith::server::{self, Running};
use leadsmith::wire::proto::{self, Lead};
use leadsmith::{operators, service_accounts};
use prost_reflect::DescriptorPool;
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseConnection, EntityTrait, QueryFilter};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::harness::{
    self, Backend, Caller, Harness, PASSWORD, eventually, is_let_in, reason, sign_in, update, whole,
};
use crate::{on_both, raw};

const WRONG: &str = "not the right password";
const OTHER: &str = "another horse, another battery";
const WINDOW: StdDuration = StdDuration::from_secs(15 * 60);

/// The code, the message and every byte of the details.
fn everything(status: &Status) -> (Code, String, Vec<u8>) {
    let details = status.details().to_vec();
    (status.code(), status.message().to_owned(), details)
}

/// Another server over the same database, in the same time.
async fn replica(h: &Harness) -> Running {
    server::start(&h.database.settings(), h.clock.clone())
        .await
        .unwrap()
}

/// The same caller at another server.
fn at(server: &Running, caller: &Caller) -> Caller {
    Caller {
        channel: harness::channel(server.address),
        ..caller.clone()
    }
}

async fn who_am_i(caller: &Caller) -> Result<proto::WhoAmIResponse, Status> {
    let answer = caller.auth().who_am_i(proto::WhoAmIRequest {}).await?;
    Ok(answer.into_inner())
}

async fn change_password(caller: &Caller, current: &str, new: &str) -> Result<(), Status> {
    let request = proto::ChangePasswordRequest {
        current_password: current.into(),
        new_password: new.into(),
        ..Default::default()
    };
    caller.auth().change_password(request).await.map(|_| ())
}

/// Changes a lead's email to another one, which asks for the password.
async fn change_email(caller: &Caller, id: &str, to: &str, password: &str) -> Result<Lead, Status> {
    let lead = Lead {
        id: id.into(),
        email: format!("{to}@example.com"),
        ..Lead::default()
    };
    let request = proto::UpdateLeadRequest {
        current_password: password.into(),
        ..update(lead, &["email"])
    };
    let answer = caller.leads().update(request).await?;
    Ok(answer.into_inner().lead.unwrap())
}

async fn wrong_current_password(caller: &Caller, lead: &Lead) {
    let status = change_email(caller, &lead.id, "wrong", WRONG)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(reason(&status), "CURRENT_PASSWORD_INVALID");
}

async fn wrong_sign_in(h: &Harness, username: &str) {
    let status = sign_in(h.channel(), username, WRONG).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(reason(&status), "SIGN_IN_FAILED");
}

/// The call was refused because of too many wrong passwords, and says when to come back.
fn is_locked_out<T: std::fmt::Debug>(answer: Result<T, Status>) -> Status {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(reason(&status), "PASSWORD_ATTEMPTS_EXCEEDED");
    let details = status.get_error_details();
    let wait = details.retry_info().and_then(|info| info.retry_delay);
    let wait = wait.expect("how long to wait");
    assert!(wait > StdDuration::ZERO && wait <= WINDOW, "{wait:?}");
    status
}

/// When each of an operator's sessions ends.
async fn ends(db: &DatabaseConnection, caller: &Caller) -> Vec<DateTime<Utc>> {
    let rows = session::Entity::find()
        .filter(session::Column::OperatorId.eq(caller.id))
        .all(db)
        .await
        .unwrap();
    rows.into_iter().map(|row| row.expire_time).collect()
}

on_both! {
    async fn an_operator_signs_in_by_the_username_in_any_letter_case(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        for username in ["ada", "ADA", " Ada "] {
            let request = proto::SignInRequest {
                username: username.into(),
                password: PASSWORD.into(),
..Default::default()
};
            let begun = h.clock.now();
            let mut client = h.with_token("").auth();
            let answer = client.sign_in(request).await.unwrap().into_inner();
            let operator = answer.operator.unwrap();
            assert_eq!(operator.id, ada.id.to_string());
            assert_eq!(operator.username, "ada");
            assert_eq!(operator.display_name, "ada");
            assert_eq!(operator.role(), proto::Role::Sales);
            let lasts = answer.expire_time.unwrap().seconds - begun.timestamp();
            assert!((12 * 3600..12 * 3600 + 60).contains(&lasts), "{lasts}");
            assert_ne!(answer.token, ada.token, "each session has a token of its own");

            let principal = who_am_i(&h.with_token(&answer.token)).await.unwrap();
            assert_eq!(principal.role(), proto::Role::Sales);
            let principal = principal.principal.unwrap();
            assert_eq!(principal.kind(), proto::PrincipalKind::Operator);
            assert_eq!((principal.id, principal.name), (ada.id.to_string(), "ada".to_owned()));
        }
    }

    async fn nobody_learns_whether_a_username_exists(h: Harness) {
        h.operator("ada", Role::Sales).await;
        h.operator("grace", Role::Sales).await;
        operators::disable(&h.server.desk.db, "grace").await.unwrap();
        let unknown = sign_in(h.channel(), "nobody", PASSWORD).await.unwrap_err();
        let wrong = sign_in(h.channel(), "ada", WRONG).await.unwrap_err();
        let disabled = sign_in(h.channel(), "grace", PASSWORD).await.unwrap_err();
        assert_eq!(reason(&wrong), "SIGN_IN_FAILED");
        assert_eq!(wrong.code(), Code::Unauthenticated);
        assert_eq!(everything(&unknown), everything(&wrong));
        assert_eq!(everything(&disabled), everything(&wrong));
    }

    async fn a_sign_in_without_both_is_told_what_is_missing(h: Harness) {
        let status = sign_in(h.channel(), " ", "").await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), "FIELD_INVALID");
        let details = status.get_error_details();
        let bad = details.bad_request().unwrap();
        let fields: Vec<_> = bad.field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["username", "password"]);
    }

    async fn what_is_only_checked_changes_no_session_and_no_password(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let robot = h.service_account("robot", Role::Sales).await;
        let db = h.database.connect().await;
        let sessions = ends(&db, &ada).await;
        let check_sign_in = async |username: &str, password: &str| {
            let request = proto::SignInRequest {
                username: username.into(),
                password: password.into(),
                validate_only: true,
            };
            let answer = h.with_token("").auth().sign_in(request).await;
            answer.map(tonic::Response::into_inner)
        };
        let answer = check_sign_in("ADA", PASSWORD).await.unwrap();
        assert_eq!((answer.token.as_str(), answer.expire_time), ("", None));
        assert_eq!(answer.operator.unwrap().id, ada.id.to_string());
        let refused = check_sign_in("ada", "").await.unwrap_err();
        assert_eq!(reason(&refused), "FIELD_INVALID");
        // An attempt counts like every other: this is no way to guess for free.
        for _ in 0..5 {
            let refused = check_sign_in("ada", WRONG).await.unwrap_err();
            assert_eq!(reason(&refused), "SIGN_IN_FAILED");
        }
        is_locked_out(check_sign_in("ada", PASSWORD).await);

        let sign_out = proto::SignOutRequest { validate_only: true };
        ada.auth().sign_out(sign_out).await.unwrap();
        let refused = robot.auth().sign_out(sign_out).await.unwrap_err();
        assert_eq!(reason(&refused), "OPERATOR_REQUIRED");

        let check_password = async |caller: &Caller, current: &str, new: &str| {
            let request = proto::ChangePasswordRequest {
                current_password: current.into(),
                new_password: new.into(),
                validate_only: true,
            };
            caller.auth().change_password(request).await
        };
        check_password(&ada, PASSWORD, OTHER).await.unwrap();
        for (caller, current, new, expected) in [
            (&robot, PASSWORD, OTHER, "OPERATOR_REQUIRED"),
            (&ada, "", OTHER, "CURRENT_PASSWORD_REQUIRED"),
            (&ada, PASSWORD, "short", "FIELD_INVALID"),
            (&ada, WRONG, OTHER, "CURRENT_PASSWORD_INVALID"),
        ] {
            let refused = check_password(caller, current, new).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        assert!(is_let_in(&ada).await);
        assert_eq!(ends(&db, &ada).await, sessions);
        h.clock.advance(Duration::minutes(16));
        sign_in(h.channel(), "ada", PASSWORD).await.expect("the password is the old one");
    }

    async fn signing_out_ends_the_session_and_no_other(h: Harness) {
        let second = replica(&h).await;
        let first = h.operator("ada", Role::Viewer).await;
        let other = h.with_token(&sign_in(h.channel(), "ada", PASSWORD).await.unwrap());
        assert!(is_let_in(&at(&second, &first)).await);
        first.auth().sign_out(proto::SignOutRequest::default()).await.unwrap();
        assert!(!is_let_in(&first).await);
        eventually("ended on the other server too", async || {
            !is_let_in(&at(&second, &first)).await
        })
        .await;
        assert!(is_let_in(&other).await);
        let again = first.auth().sign_out(proto::SignOutRequest::default()).await.unwrap_err();
        assert_eq!(reason(&again), "TOKEN_INVALID");
    }

    async fn disabling_an_operator_ends_their_sessions(h: Harness) {
        let second = replica(&h).await;
        let ada = h.operator("ada", Role::Admin).await;
        assert!(is_let_in(&ada).await && is_let_in(&at(&second, &ada)).await);
        operators::disable(&h.server.desk.db, "Ada").await.unwrap();
        for server in [&h.server, &second] {
            eventually("ended on every server", async || {
                !is_let_in(&at(server, &ada)).await
            })
            .await;
        }
        assert!(is_let_in(&h.admin).await, "nobody else's");
    }

    async fn a_session_that_is_not_used_ends_after_12_hours(h: Harness) {
        let ada = h.operator("ada", Role::Viewer).await;
        h.clock.advance(Duration::hours(12) + Duration::seconds(1));
        assert!(!is_let_in(&ada).await);
        let token = sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
        assert!(is_let_in(&h.with_token(&token)).await);
    }

    async fn a_session_that_is_used_goes_on(h: Harness) {
        let ada = h.operator("ada", Role::Viewer).await;
        let db = h.database.connect().await;
        for _ in 0..3 {
            h.clock.advance(Duration::hours(11));
            let full = h.clock.now() + Duration::hours(12);
            assert!(is_let_in(&ada).await);
            eventually("prolonged by its use", async || {
                ends(&db, &ada).await.iter().any(|end| *end >= full)
            })
            .await;
        }
        h.clock.advance(Duration::hours(12) + Duration::minutes(1));
        assert!(!is_let_in(&ada).await);
    }

    async fn changing_the_password_ends_the_other_sessions(h: Harness) {
        let own = h.operator("ada", Role::Viewer).await;
        let other = h.with_token(&sign_in(h.channel(), "ada", PASSWORD).await.unwrap());
        change_password(&own, PASSWORD, OTHER).await.unwrap();
        assert!(is_let_in(&own).await, "the one it was changed in stays");
        assert!(!is_let_in(&other).await);
        assert!(is_let_in(&h.viewer).await, "another operator's stays");
        wrong_sign_in(&h, "ada").await;
        let status = sign_in(h.channel(), "ada", PASSWORD).await.unwrap_err();
        assert_eq!(reason(&status), "SIGN_IN_FAILED", "the old one");
        sign_in(h.channel(), "ada", OTHER).await.unwrap();
    }

    async fn a_refused_change_of_the_password_changes_nothing(h: Harness) {
        let ada = h.operator("ada", Role::Viewer).await;
        let other = h.with_token(&sign_in(h.channel(), "ada", PASSWORD).await.unwrap());

        let status = change_password(&ada, "", OTHER).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), "CURRENT_PASSWORD_REQUIRED");
        let details = status.get_error_details();
        let field = &details.bad_request().unwrap().field_violations[0].field;
        assert_eq!(field, "current_password");

        let status = change_password(&ada, WRONG, OTHER).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(reason(&status), "CURRENT_PASSWORD_INVALID");

        let long = "x".repeat(1025);
        for new in ["", "eleven byte", &long] {
            let status = change_password(&ada, PASSWORD, new).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{}", new.len());
            assert_eq!(reason(&status), "FIELD_INVALID");
            let details = status.get_error_details();
            let field = &details.bad_request().unwrap().field_violations[0].field;
            assert_eq!(field, "new_password");
        }
        assert!(is_let_in(&ada).await && is_let_in(&other).await);
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
    }

    async fn setting_the_password_ends_every_session(h: Harness) {
        let ada = h.operator("ada", Role::Viewer).await;
        let db = &h.server.desk.db;
        operators::set_password(db, &Passwords::default(), "ADA", OTHER.to_owned().into())
            .await
            .unwrap();
        assert!(!is_let_in(&ada).await);
        assert!(is_let_in(&h.viewer).await);
        sign_in(h.channel(), "ada", OTHER).await.unwrap();
    }

    async fn a_service_account_calls_by_its_key_until_it_is_revoked(h: Harness) {
        let second = replica(&h).await;
        let db = &h.server.desk.db;
        let account = service_accounts::create(db, "billing", Role::Sales).await.unwrap();
        let (first_id, first) = service_accounts::create_key(db, "billing").await.unwrap();
        let (_, other) = service_accounts::create_key(db, "billing").await.unwrap();
        let (first, other) = (h.with_token(first.expose()), h.with_token(other.expose()));
        for caller in [&first, &other, &at(&second, &first)] {
            let answer = who_am_i(caller).await.unwrap();
            assert_eq!(answer.role(), proto::Role::Sales);
            let principal = answer.principal.unwrap();
            assert_eq!(principal.kind(), proto::PrincipalKind::ServiceAccount);
            assert_eq!(principal.id, account.to_string());
            assert_eq!(principal.name, "billing");
        }
        service_accounts::revoke_key(db, first_id).await.unwrap();
        eventually("revoked", async || !is_let_in(&first).await).await;
        eventually("revoked on the other server", async || {
            !is_let_in(&at(&second, &first)).await
        })
        .await;
        assert!(is_let_in(&other).await, "the account's other key stays");
        let again = service_accounts::revoke_key(db, first_id).await.unwrap_err();
        assert!(again.to_string().contains("revoked already"), "{again}");
    }

    async fn a_service_account_does_nothing_that_needs_a_person(h: Harness) {
        let billing = h.service_account("billing", Role::Admin).await;
        let lead = billing.create_lead("Lovelace").await;
        let sign_out = billing.auth().sign_out(proto::SignOutRequest::default()).await;
        for status in [
            sign_out.unwrap_err(),
            change_password(&billing, PASSWORD, OTHER).await.unwrap_err(),
            change_email(&billing, &lead.id, "new", PASSWORD).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::PermissionDenied);
            assert_eq!(reason(&status), "OPERATOR_REQUIRED");
        }
        assert!(is_let_in(&billing).await);
        assert_eq!(billing.get(&lead.id).await, lead);
    }

    async fn every_bad_authorization_gets_one_answer(h: Harness) {
        let token = h.admin.token.clone();
        let key = h.service_account("billing", Role::Admin).await.token;
        let rpc = "leadsmith.v1.AuthService/WhoAmI";
        for valid in [format!("Bearer {token}"), format!("bearer {key}")] {
            let answer = raw::call(&h.channel(), rpc, Some(valid.as_bytes()), Vec::new()).await;
            assert!(answer.is_ok(), "the scheme's letter case does not matter: {answer:?}");
        }
        let none = raw::call(&h.channel(), rpc, None, Vec::new()).await.unwrap_err();
        assert_eq!(none.code(), Code::Unauthenticated);
        assert_eq!(reason(&none), "TOKEN_INVALID");

        let (body, last) = token.split_at(token.len() - 1);
        let changed = if last == "A" { "B" } else { "A" };
        let bad = [
            String::new(),
            " ".into(),
            "Bearer".into(),
            "Bearer ".into(),
            token.clone(),
            format!("Basic {token}"),
            format!("Token {token}"),
            format!("Bearer{token}"),
            format!("Bearer,{token}"),
            format!("Bearer Bearer {token}"),
            format!("Bearer {body}"),
            format!("Bearer {body}{changed}"),
            format!("Bearer {token}A"),
            format!("Bearer {token} {token}"),
            format!("Bearer {}", token.to_uppercase()),
            format!("Bearer {}", token.replacen("lss_", "lsk_", 1)),
            format!("Bearer {}", key.replacen("lsk_", "lss_", 1)),
            format!("Bearer {}", token.replacen("lss_", "lsx_", 1)),
            format!("Bearer lss_{}", "A".repeat(43)),
            format!("Bearer lsk_{}", "A".repeat(43)),
            format!("Bearer lss_{}", "A".repeat(12 * 1024)),
            "x".repeat(12 * 1024),
        ];
        let mut bad: Vec<Vec<u8>> = bad.into_iter().map(String::into_bytes).collect();
        bad.push([b"Bearer lss_".as_slice(), &[0xff; 43]].concat());
        for header in &bad {
            let answer = raw::call(&h.channel(), rpc, Some(header), Vec::new()).await;
            let shown = String::from_utf8_lossy(&header[..header.len().min(60)]);
            let status = answer.expect_err(&shown);
            assert_eq!(everything(&status), everything(&none), "{shown}");
        }
    }

    async fn health_answers_without_a_token(h: Harness) {
        let mut client = HealthClient::new(h.channel());
        let pool = DescriptorPool::decode(leadsmith::wire::DESCRIPTORS).unwrap();
        let mut names: Vec<String> = pool.services().map(|s| s.full_name().to_owned()).collect();
        assert!(names.len() >= 5, "{names:?}");
        names.push(String::new());
        for service in names {
            let request = HealthCheckRequest { service: service.clone() };
            let answer = client.check(request).await.unwrap_or_else(|status| {
                panic!("no health of {service:?}: {status:?}")
            });
            assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service}");
        }
        let request = HealthCheckRequest { service: "leadsmith.v1.Nonsense".into() };
        assert_eq!(client.check(request).await.unwrap_err().code(), Code::NotFound);
    }

    async fn reflection_answers_without_a_token_and_knows_the_details_of_errors(h: Harness) {
        let pool = DescriptorPool::decode(leadsmith::wire::DESCRIPTORS).unwrap();
        let ours: BTreeSet<String> = pool.services().map(|s| s.full_name().to_owned()).collect();
        for version in ["v1", "v1alpha"] {
            let services = match version {
                "v1" => v1::services(&h).await,
                _ => v1alpha::services(&h).await,
            };
            assert!(services.is_superset(&ours), "{version}: {services:?}");
            assert!(services.contains("grpc.health.v1.Health"), "{version}");
            for message in ["ErrorInfo", "BadRequest", "RetryInfo", "PreconditionFailure", "ResourceInfo"] {
                let symbol = format!("google.rpc.{message}");
                let files = match version {
                    "v1" => v1::files_with(&h, &symbol).await,
                    _ => v1alpha::files_with(&h, &symbol).await,
                };
                let found = files.iter().any(|file| {
                    file.package() == "google.rpc"
                        && file.message_type.iter().any(|m| m.name() == message)
                });
                assert!(found, "{version} has no {symbol}");
            }
        }
    }
}

macro_rules! reflection {
    ($version:ident) => {
        mod $version {
            use std::collections::BTreeSet;

            use prost::Message;
            use prost_types::FileDescriptorProto;
            use tonic_reflection::pb::$version as pb;

            use pb::server_reflection_client::ServerReflectionClient;
            use pb::server_reflection_request::MessageRequest;
            use pb::server_reflection_response::MessageResponse;

            use crate::harness::Harness;

            async fn ask(h: &Harness, question: MessageRequest) -> MessageResponse {
                let request = pb::ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(question),
                };
                let requests = futures_util::stream::iter([request]);
                let mut client = ServerReflectionClient::new(h.channel());
                let answer = client.server_reflection_info(requests).await.unwrap();
                let message = answer.into_inner().message().await.unwrap().unwrap();
                message.message_response.unwrap()
            }

            pub async fn services(h: &Harness) -> BTreeSet<String> {
                let answer = ask(h, MessageRequest::ListServices(String::new())).await;
                let MessageResponse::ListServicesResponse(list) = answer else {
                    panic!("{answer:?}");
                };
                list.service.into_iter().map(|s| s.name).collect()
            }

            pub async fn files_with(h: &Harness, symbol: &str) -> Vec<FileDescriptorProto> {
                let answer = ask(h, MessageRequest::FileContainingSymbol(symbol.into())).await;
                let MessageResponse::FileDescriptorResponse(files) = answer else {
                    panic!("{answer:?}");
                };
                let decode = |bytes: &Vec<u8>| FileDescriptorProto::decode(bytes.as_slice());
                let files = files.file_descriptor_proto.iter().map(decode);
                files.map(|file| file.unwrap()).collect()
            }
        }
    };
}

reflection!(v1);
reflection!(v1alpha);

/// A look-up that was under way while its token was revoked ends after it, with what it read before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_look_up_under_way_brings_a_revoked_token_back() {
    let h = Harness::start(Backend::Postgres).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(sign_in(h.channel(), "sales", PASSWORD).await.unwrap());
    }
    // Every look-up takes half a second from its reading to its end.
    let db = h.database.connect().await;
    for sql in [
        "ALTER TABLE operators RENAME TO all_operators",
        "CREATE VIEW operators AS SELECT * FROM all_operators WHERE pg_sleep(0.5) IS NOT NULL",
    ] {
        db.execute_unprepared(sql).await.unwrap();
    }
    for token in tokens {
        let caller = h.with_token(&token);
        let mut calls = JoinSet::new();
        for n in 0..12 {
            let caller = caller.clone();
            calls.spawn(async move {
                tokio::time::sleep(StdDuration::from_millis(n * 50)).await;
                let _ = caller.auth().who_am_i(proto::WhoAmIRequest {}).await;
            });
        }
        caller
            .auth()
            .sign_out(proto::SignOutRequest::default())
            .await
            .unwrap();
        for _ in 0..20 {
            assert!(!is_let_in(&caller).await, "after the answer to SignOut");
            tokio::time::sleep(StdDuration::from_millis(20)).await;
        }
        calls.join_all().await;
        assert!(!is_let_in(&caller).await, "after the last look-up");
    }
}

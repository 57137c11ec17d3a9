//! Every error as its caller sees it: a snapshot of each reason's whole answer, to be read as a
//! caller would.

mod bounds;
mod raw;

use std::time::Duration;

use leadsmith::auth::roles::Role;

use leadsmith::server::Running;
use leadsmith::wire::proto::{self, ErrorReason, Lead};
use sea_orm::ConnectionTrait;
use tonic::Status;

use crate::harness::{
    Backend, Caller, Harness, PASSWORD, metadata, reason, sign_in, update, whole,
};
use crate::on_both;
use crate::slow::page_beyond_what_is_unread;
use raw::{CREATE, GET, frame, raw};

const UNKNOWN: &str = "01900000-0000-7000-8000-000000000001";

/// Compares an error with its snapshot; the same one for both databases.
fn check(name: &str, status: &Status) {
    let mut text = whole(status);
    if reason(status) == "INTERNAL" {
        text = text.replace(&metadata(status, "error_id"), "[error_id]");
    }
    insta::assert_snapshot!(name, text);
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Status {
    outcome.expect_err("a refusal")
}

/// The reasons of `error_reason.proto`.
fn reasons() -> impl Iterator<Item = ErrorReason> {
    (0..1_000).filter_map(|number| ErrorReason::try_from(number).ok())
}

fn name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// A call that fails for this reason, from outside. Where there is none, why.
///
/// Without a wildcard: who adds a reason has to say here how it comes about.
async fn provoke(h: &Harness, reason: ErrorReason) -> Result<Status, &'static str> {
    use ErrorReason as R;
    Ok(match reason {
        R::Unspecified => return Err("the service never sends it"),
        R::FieldInvalid => refused(h.sales.create(two_mistakes()).await),
        R::PageTokenInvalid => {
            let request = proto::ListLeadsRequest {
                page_token: "x".into(),
                ..Default::default()
            };
            refused(h.viewer.leads().list(request).await)
        }
        R::RequestIdReused => {
            let mut request = proto::CreateLeadRequest {
                lead: Some(named()),
                request_id: UNKNOWN.into(),
                ..Default::default()
            };
            h.sales.leads().create(request.clone()).await.unwrap();
            request.allow_duplicate = true;
            refused(h.sales.leads().create(request).await)
        }
        R::RequestInFlight => first_of_two(h, &h.server, &h.sales.id.to_string()).await,
        R::EtagMismatch => {
            let lead = h.sales.create_lead("Hopper").await;
            let stale = Lead {
                etag: "\"9\"".into(),
                ..lead
            };
            refused(h.sales.update(stale, &["phone"]).await)
        }
        R::WriteConflict if h.database.backend == Backend::Sqlite => {
            return Err("SQLite has one writer, who loses no race");
        }
        R::WriteConflict => write_conflict(h).await,
        R::MessageMalformed => raw(h, GET, &[], frame(b"\xff\xff\xff")).await,
        R::MessageTooLarge => raw(h, CREATE, &[], frame(&vec![0; 65_537])).await,
        R::EncodingUnsupported => raw(h, GET, &[("grpc-encoding", "zstd")], frame(b"")).await,
        // Of a health check of a service that there is not.
        R::SymbolNotFound => raw(h, "/grpc.health.v1.Health/Check", &[], frame(b"\x0a\x01x")).await,
        R::MethodUnknown => raw(h, "/leadsmith.v1.LeadService/Delete", &[], frame(b"")).await,
        R::TokenInvalid
        | R::SignInFailed
        | R::RoleInsufficient
        | R::OperatorRequired
        | R::CurrentPasswordRequired
        | R::CurrentPasswordInvalid
        | R::PasswordAttemptsExceeded => of_who_calls(h, reason).await,
        R::LeadNotFound => refused(h.sales.deactivate(UNKNOWN).await),
        R::DuplicateLead => {
            h.sales.create(with_email("ada@example.com")).await.unwrap();
            refused(h.sales.create(with_email("ada@example.com")).await)
        }
        R::LeadDeactivated => {
            let lead = h.sales.create_lead("Hopper").await;
            h.sales.deactivate(&lead.id).await.unwrap();
            refused(h.sales.convert(&lead.id).await)
        }
        R::LeadConverted => {
            let lead = h.sales.create_lead("Hopper").await;
            h.sales.convert(&lead.id).await.unwrap();
            refused(h.sales.deactivate(&lead.id).await)
        }
        R::LeadNotDeactivated => {
            let lead = h.sales.create_lead("Hopper").await;
            refused(h.sales.reactivate(&lead.id).await)
        }
        R::LeadErased => {
            let lead = h.sales.create_lead("Hopper").await;
            h.admin.erase(&lead.id).await.unwrap();
            refused(h.sales.deactivate(&lead.id).await)
        }
        R::ClientNotFound => {
            let request = proto::GetClientRequest { id: UNKNOWN.into() };
            refused(h.viewer.clients().get(request).await)
        }
        R::OpportunityNotFound => {
            let request = proto::GetOpportunityRequest { id: UNKNOWN.into() };
            refused(h.viewer.opportunities().get(request).await)
        }
        R::OrderNotFound
        | R::ActionNotFound
        | R::ActionPrerequisite
        | R::ActionDone
        | R::OrderCanceled => of_an_order(h, reason).await,
        R::QueryTooSlow => query_too_slow(h).await,
        R::RateLimited => {
            let server = h
                .another_server(|settings| settings.limits.calls_per_second = 1)
                .await;
            let caller = h.viewer.at(&server);
            let who = async || caller.auth().who_am_i(proto::WhoAmIRequest {}).await;
            // The one a second that may be made, and another within the same second.
            let (one, other) = tokio::join!(who(), who());
            let status = refused(one.and(other));
            caller
                .auth()
                .sign_out(proto::SignOutRequest::default())
                .await
                .unwrap();
            server.stop().await.unwrap();
            status
        }
        R::ServerOverloaded => {
            let server = h
                .another_server(|settings| settings.limits.max_calls = 1)
                .await;
            let status = first_of_two(h, &server, "").await;
            server.stop().await.unwrap();
            status
        }
        R::ResponsesUnread => {
            let server = h
                .another_server(|settings| {
                    settings.limits.unread_bytes_per_principal = 4 << 20;
                })
                .await;
            let status = page_beyond_what_is_unread(h, server.address).await;
            server.stop().await.unwrap();
            status
        }
        R::DeadlineExceeded => {
            let short = Duration::from_millis(300);
            let server = h.another_server(|settings| settings.limits.default_deadline = short);
            let server = server.await;
            let lead = h.sales.create_lead("Hopper").await;
            let held = h.hold_changes().await;
            let status = refused(h.sales.at(&server).deactivate(&lead.id).await);
            held.release().await;
            server.stop().await.unwrap();
            status
        }
        R::DatabaseUnavailable => {
            let server = h.another_server(|settings| {
                settings.limits.sqlite_write_wait = Duration::from_secs(1);
            });
            let server = server.await;
            let status = no_database(h, &server).await;
            server.stop().await.unwrap();
            status
        }
        R::Internal => {
            let lead = h.sales.create_lead("Hopper").await;
            break_row(h, &lead.id).await;
            let request = proto::GetLeadRequest { id: lead.id };
            refused(h.viewer.leads().get(request).await)
        }
    })
}

fn named() -> Lead {
    Lead {
        last_name: "Lovelace".into(),
        ..Lead::default()
    }
}

fn with_email(email: &str) -> Lead {
    Lead {
        email: email.into(),
        ..named()
    }
}

fn two_mistakes() -> Lead {
    Lead {
        language: "?".into(),
        ..with_email("ada")
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only some come here")]
async fn of_who_calls(h: &Harness, reason: ErrorReason) -> Status {
    use ErrorReason as R;
    let name = name(reason).to_lowercase();
    let caller = h.operator(&name, Role::Sales).await;
    let robot = h.service_account(&name, Role::Sales).await;
    let lead = caller.create_lead("Hopper").await;
    let new_email = |password: &str| proto::UpdateLeadRequest {
        current_password: password.into(),
        ..update(
            Lead {
                id: lead.id.clone(),
                ..with_email("ada@example.org")
            },
            &["email"],
        )
    };
    let change = async |caller: &Caller, password: &str| {
        refused(caller.leads().update(new_email(password)).await)
    };
    match reason {
        R::TokenInvalid => refused(h.with_token("").create(named()).await),
        R::SignInFailed => refused(sign_in(h.channel(), "nobody", "not my password").await),
        R::RoleInsufficient => refused(h.viewer.create(named()).await),
        R::OperatorRequired => change(&robot, PASSWORD).await,
        R::CurrentPasswordRequired => change(&caller, "").await,
        R::CurrentPasswordInvalid => change(&caller, "not my password").await,
        R::PasswordAttemptsExceeded => {
            for _ in 0..5 {
                change(&caller, "not my password").await;
            }
            change(&caller, PASSWORD).await
        }
        reason => panic!("{reason:?} is not about who calls"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only some come here")]
async fn of_an_order(h: &Harness, reason: ErrorReason) -> Status {
    use ErrorReason as R;
    let action = |key: &str, prerequisites: &[&str]| proto::OrderAction {
        key: key.into(),
        r#type: proto::ActionType::Manual.into(),
        prerequisites: prerequisites.iter().map(|key| (*key).to_owned()).collect(),
        ..Default::default()
    };
    let lead = h.sales.create_lead("Hopper").await;
    let actions = vec![action("invoice", &[]), action("activate", &["invoice"])];
    let order = h.sales.create_order(&lead.id, actions).await;
    match reason {
        R::OrderNotFound => refused(h.sales.run(UNKNOWN, "invoice").await),
        R::ActionNotFound => refused(h.sales.run(&order.id, "deliver").await),
        R::ActionPrerequisite => refused(h.sales.run(&order.id, "activate").await),
        R::ActionDone => {
            h.sales.run(&order.id, "invoice").await.unwrap();
            refused(h.sales.run(&order.id, "invoice").await)
        }
        R::OrderCanceled => {
            let sql = "UPDATE orders SET state = 'CANCELED'";
            h.database
                .connect()
                .await
                .execute_unprepared(sql)
                .await
                .unwrap();
            refused(h.sales.run(&order.id, "invoice").await)
        }
        reason => panic!("{reason:?} is not about orders"),
    }
}

/// Makes the same call twice at once while no change can be made, so that neither can end by
/// itself: the answer of the one that ends nevertheless.
async fn first_of_two(h: &Harness, server: &Running, request_id: &str) -> Status {
    let lead = h.sales.create_lead("Hopper").await;
    let held = h.hold_changes().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let caller = h.sales.at(server);
        let request = proto::DeactivateLeadRequest {
            id: lead.id.clone(),
            request_id: request_id.into(),
            ..Default::default()
        };
        calls.spawn(async move { caller.leads().deactivate(request).await });
    }
    let first = tokio::time::timeout(Duration::from_secs(4), calls.join_next()).await;
    held.release().await;
    let status = refused(first.expect("one is refused").unwrap().unwrap());
    let other = calls.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(other.into_inner().lead.unwrap().id, lead.id);
    status
}

/// SQLite has one writer, and a table of PostgreSQL's that nobody may read is as good as none.
async fn no_database(h: &Harness, server: &Running) -> Status {
    let lead = h.sales.create_lead("Hopper").await;
    let held = h.hold_changes().await;
    let caller = h.sales.at(server);
    let status = match h.database.backend {
        Backend::Sqlite => refused(caller.deactivate(&lead.id).await),
        Backend::Postgres => {
            held.lock_out_readers().await;
            let request = proto::GetLeadRequest { id: lead.id };
            refused(caller.leads().get(request).await)
        }
    };
    held.release().await;
    status
}

/// A list that takes longer than a query may: on SQLite any that is not tiny, on PostgreSQL one that
/// waits.
async fn query_too_slow(h: &Harness) -> Status {
    let (time, held) = match h.database.backend {
        Backend::Sqlite => {
            for _ in 0..30 {
                h.sales.create_lead("Hopper").await;
            }
            (Duration::ZERO, None)
        }
        Backend::Postgres => {
            let held = h.hold_changes().await;
            held.lock_out_readers().await;
            (Duration::from_millis(50), Some(held))
        }
    };
    let server = h
        .another_server(|settings| settings.limits.statement_time = time)
        .await;
    let request = proto::ListLeadsRequest::default();
    let status = refused(h.sales.at(&server).leads().list(request).await);
    if let Some(held) = held {
        held.release().await;
    }
    server.stop().await.unwrap();
    status
}

/// Nobody gives the row free while the service waits for it.
async fn write_conflict(h: &Harness) -> Status {
    let short = Duration::from_secs(1);
    let server = h
        .another_server(|settings| settings.limits.statement_time = short)
        .await;
    let lead = h.sales.create_lead("Hopper").await;
    let held = h.hold_changes().await;
    let status = refused(h.sales.at(&server).deactivate(&lead.id).await);
    held.release().await;
    server.stop().await.unwrap();
    status
}

/// Something the service cannot have written.
async fn break_row(h: &Harness, id: &str) {
    let sql = match h.database.backend {
        Backend::Postgres => format!("UPDATE leads SET state = 'LOST' WHERE id = '{id}'"),
        Backend::Sqlite => {
            let id = id.replace('-', "");
            format!("UPDATE leads SET state = 'LOST' WHERE id = X'{id}'")
        }
    };
    let done = h
        .database
        .connect()
        .await
        .execute_unprepared(&sql)
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 1);
}

on_both! {
    async fn each_reason_is_told_in_full(h: Harness) {
        for reason in reasons() {
            match provoke(&h, reason).await {
                Ok(status) => {
                    assert_eq!(crate::harness::reason(&status), name(reason), "{status:?}");
                    check(name(reason), &status);
                }
                Err(why) => assert!(
                    [ErrorReason::Unspecified, ErrorReason::WriteConflict].contains(&reason),
                    "{reason:?}: {why}"
                ),
            }
        }
    }

    async fn what_to_do_depends_on_the_leads_state(h: Harness) {
        let away = h
            .sales
            .create(with_email("away@example.com"))
            .await
            .unwrap();
        h.sales.deactivate(&away.id).await.unwrap();
        let client = h
            .sales
            .create(with_email("client@example.com"))
            .await
            .unwrap();
        h.sales.convert(&client.id).await.unwrap();
        check(
            "DUPLICATE_LEAD-deactivated",
            &refused(h.sales.create(with_email("away@example.com")).await),
        );
        check(
            "DUPLICATE_LEAD-converted",
            &refused(h.sales.create(with_email("client@example.com")).await),
        );
        check(
            "LEAD_DEACTIVATED-already",
            &refused(h.sales.deactivate(&away.id).await),
        );
        let order = h.sales.create_order(&away.id, Vec::new()).await;
        check(
            "LEAD_DEACTIVATED-by_an_order",
            &refused(h.sales.run(&order.id, "provision-client").await),
        );
    }
}

#[test]
fn every_reason_has_a_snapshot() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/snapshots");
    let found: std::collections::BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let name = name.strip_prefix("it__errors__")?.strip_suffix(".snap")?;
            Some(name.split('-').next().unwrap_or_default().to_owned())
        })
        .collect();
    let expected: std::collections::BTreeSet<String> = reasons()
        .filter(|reason| *reason != ErrorReason::Unspecified)
        .map(|reason| name(reason).to_owned())
        .collect();
    assert_eq!(found, expected);
}

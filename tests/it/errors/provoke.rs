//! For each error reason, a call that fails with it.

use std::time::Duration;

use leadsmith::app::Running;
use leadsmith::core::role::Role;
use leadsmith_proto::{self as proto, ErrorReason, Lead};
use sea_orm::ConnectionTrait;
use tonic::Status;

use super::raw::{CREATE, GET, frame, raw};
use super::{UNKNOWN, name, named, refused, with_email};
use crate::harness::{Backend, Caller, Harness, PASSWORD, sign_in, update};
use crate::slow::page_beyond_what_is_unread;

/// Makes a call that fails with this reason and returns its error. Where no call can, says why.
///
/// The match has no wildcard: each new reason must be added here, with a call that causes it.
pub async fn provoke(h: &Harness, reason: ErrorReason) -> Result<Status, &'static str> {
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
        // A health check of an unknown service.
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
        R::LeadNotConverted => {
            let lead = h.sales.create_lead("Hopper").await;
            refused(h.sales.revert(&lead.id).await)
        }
        R::ConversionSettled => {
            let lead = h.sales.create_lead("Hopper").await;
            let order = h.sales.create_order(&lead.id, Vec::new()).await;
            h.sales.run(&order.id, "provision-client").await.unwrap();
            refused(h.sales.revert(&lead.id).await)
        }
        R::ClientFull => {
            let client = h.sales.create_lead("Hopper").await.id;
            h.sales.convert(&client).await.unwrap();
            for _ in 0..100 {
                let lead = h.sales.create_lead("Hopper").await;
                h.sales.convert_into(&lead.id, &client, &[]).await.unwrap();
            }
            let lead = h.sales.create_lead("Hopper").await;
            refused(h.sales.convert_into(&lead.id, &client, &[]).await)
        }
        R::ClientNotFound => {
            let request = proto::GetClientRequest { id: UNKNOWN.into() };
            refused(h.viewer.clients().get(request).await)
        }
        R::OpportunityNotFound => {
            let request = proto::GetOpportunityRequest { id: UNKNOWN.into() };
            refused(h.viewer.opportunities().get(request).await)
        }
        R::OpportunityClosed => {
            let lead = h.sales.create_lead("Hopper").await;
            let sale = h.sales.create_sale(&lead.id, "Compiler").await;
            let won = h.sales.win(&sale.id).await.unwrap();
            refused(h.sales.update_sale(won, &["name"]).await)
        }
        R::OpportunityOpen => {
            let lead = h.sales.create_lead("Hopper").await;
            let sale = h.sales.create_sale(&lead.id, "Compiler").await;
            refused(h.sales.reopen(&sale.id).await)
        }
        R::OperatorNotFound
        | R::DuplicateOperator
        | R::LastAdmin
        | R::SessionNotFound
        | R::ServiceAccountNotFound
        | R::DuplicateServiceAccount
        | R::DuplicateCertificateName
        | R::ApiKeyNotFound => super::people::provoke(h, reason).await,
        R::ResumeTokenInvalid | R::ResumeTokenExpired | R::WatchTooSlow | R::WatchLimit => {
            super::events::provoke(h, reason).await
        }
        R::OrderNotFound
        | R::ActionNotFound
        | R::ActionPrerequisite
        | R::ActionDone
        | R::ActionStep
        | R::ActionNotSkipped
        | R::OrderComplete
        | R::OrderCanceled => of_an_order(h, reason).await,
        R::ClaimLost | R::ActionClaimed | R::ClaimNotFound => of_a_claim(h, reason).await,
        R::OrderQueueNotFound
        | R::DuplicateOrderQueue
        | R::OrderQueueArchived
        | R::OrderQueueDefault => of_a_queue(h, reason).await,
        R::QueryTooSlow => query_too_slow(h).await,
        R::RateLimited => {
            let server = h
                .another_server(|settings| settings.limits.calls_per_second = 1)
                .await;
            let caller = h.viewer.at(&server);
            let who = async || caller.auth().who_am_i(proto::WhoAmIRequest {}).await;
            // The one call per second that is allowed, and another within the same second.
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
        reason => panic!("{reason:?} is not about the caller"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only some come here")]
async fn of_a_claim(h: &Harness, reason: ErrorReason) -> Status {
    use ErrorReason as R;
    let install = proto::OrderAction {
        key: "install".into(),
        r#type: proto::ActionType::External.into(),
        ..Default::default()
    };
    let lead = h.sales.create_lead("Hopper").await;
    let order = h.sales.create_order(&lead.id, vec![install]).await;
    let request = proto::ClaimActionsRequest {
        actions: vec!["install".into()],
        lease: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..Default::default()
    };
    let claimed = h.sales.orders().claim_actions(request).await.unwrap();
    let run = claimed.into_inner().runs.remove(0);
    let report = async |run_id: &str| {
        let request = proto::ReportActionRequest {
            run_id: run_id.into(),
            outcome: proto::RunOutcome::Succeeded.into(),
            ..Default::default()
        };
        h.sales.orders().report_action(request).await
    };
    match reason {
        R::ClaimLost => {
            report(&run.id).await.unwrap();
            refused(report(&run.id).await)
        }
        R::ActionClaimed => refused(h.sales.run(&order.id, "install").await),
        R::ClaimNotFound => refused(report(UNKNOWN).await),
        reason => panic!("{reason:?} is not about claims"),
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
        R::ActionNotSkipped => {
            let request = proto::UndoSkipRequest {
                order_id: order.id,
                action: "invoice".into(),
                ..Default::default()
            };
            refused(h.sales.orders().undo_skip(request).await)
        }
        R::ActionStep => {
            let queue = queue_of_two_steps(h).await;
            let request = proto::CreateOrderRequest {
                order: Some(proto::Order {
                    lead_id: lead.id,
                    ..Default::default()
                }),
                queue_id: queue.id,
                ..Default::default()
            };
            let created = h.sales.orders().create(request).await.unwrap();
            let order = created.into_inner().order.unwrap();
            refused(h.sales.run(&order.id, "deliver").await)
        }
        R::OrderComplete => {
            h.sales.run(&order.id, "invoice").await.unwrap();
            h.sales.run(&order.id, "activate").await.unwrap();
            let request = proto::CancelOrderRequest {
                id: order.id,
                ..Default::default()
            };
            refused(h.sales.orders().cancel(request).await)
        }
        R::OrderCanceled => {
            let request = proto::CancelOrderRequest {
                id: order.id.clone(),
                ..Default::default()
            };
            h.sales.orders().cancel(request).await.unwrap();
            refused(h.sales.run(&order.id, "invoice").await)
        }
        reason => panic!("{reason:?} is not about orders"),
    }
}

/// A queue with an action in each of two steps.
async fn queue_of_two_steps(h: &Harness) -> proto::OrderQueue {
    let step = |key: &str| proto::OrderStep {
        key: key.into(),
        ..Default::default()
    };
    let action = |key: &str, step: &str| proto::OrderAction {
        key: key.into(),
        r#type: proto::ActionType::Manual.into(),
        step: step.into(),
        ..Default::default()
    };
    let queue = proto::OrderQueue {
        name: "Hosting".into(),
        steps: vec![step("setup"), step("delivery")],
        actions: vec![action("install", "setup"), action("deliver", "delivery")],
        ..Default::default()
    };
    let created = h.admin.queues().create(new_queue(queue)).await.unwrap();
    created.into_inner().order_queue.unwrap()
}

fn new_queue(queue: proto::OrderQueue) -> proto::CreateOrderQueueRequest {
    proto::CreateOrderQueueRequest {
        order_queue: Some(queue),
        ..Default::default()
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only some come here")]
async fn of_a_queue(h: &Harness, reason: ErrorReason) -> Status {
    use ErrorReason as R;
    let archive = async |id: &str| {
        let request = proto::ArchiveOrderQueueRequest {
            id: id.into(),
            ..Default::default()
        };
        h.admin.queues().archive(request).await
    };
    match reason {
        R::OrderQueueNotFound => {
            let request = proto::GetOrderQueueRequest { id: UNKNOWN.into() };
            refused(h.viewer.queues().get(request).await)
        }
        R::DuplicateOrderQueue => {
            let queue = proto::OrderQueue {
                name: "DEFAULT".into(),
                steps: vec![proto::OrderStep {
                    key: "a".into(),
                    ..Default::default()
                }],
                ..Default::default()
            };
            refused(h.admin.queues().create(new_queue(queue)).await)
        }
        R::OrderQueueArchived => {
            let queue = proto::OrderQueue {
                name: "Old".into(),
                steps: vec![proto::OrderStep {
                    key: "a".into(),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let created = h.admin.queues().create(new_queue(queue)).await.unwrap();
            let queue_id = created.into_inner().order_queue.unwrap().id;
            archive(&queue_id).await.unwrap();
            let lead = h.sales.create_lead("Hopper").await;
            let request = proto::CreateOrderRequest {
                order: Some(proto::Order {
                    lead_id: lead.id,
                    ..Default::default()
                }),
                queue_id,
                ..Default::default()
            };
            refused(h.sales.orders().create(request).await)
        }
        R::OrderQueueDefault => refused(archive("00000000-0000-7000-8000-000000000001").await),
        reason => panic!("{reason:?} is not about queues"),
    }
}

/// Makes the same call twice concurrently while changes are blocked, so that neither can succeed.
/// Returns the error of the one that is refused.
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

/// Makes the database unavailable: SQLite by its one write lock, PostgreSQL by a lock that blocks
/// readers.
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

/// A list that exceeds the time limit of a statement: on SQLite any list that is not tiny, on PostgreSQL
/// one that waits for a lock.
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

/// The row stays locked for as long as the service waits for it.
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

/// Stores a value that the service never writes.
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

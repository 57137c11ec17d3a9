//! Authentication: operators and their sessions, service accounts and their keys, and the limits of
//! password attempts. This file has what the tests share.

mod authorization;
mod dry_runs;
mod faults;
mod lockout;
mod passwords;
mod public;
mod service_accounts;
mod sessions;
mod signing_in;
mod spelling;

use std::time::Duration as StdDuration;

use chrono::{DateTime, Utc};
use leadsmith::app::{self, Running};
use leadsmith::db::entities::session;
use leadsmith_proto::{self as proto, Lead};
use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, QueryFilter};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{self, Caller, Harness, reason, sign_in, update};

const WRONG: &str = "not the right password";
const OTHER: &str = "another horse, another battery";
const WINDOW: StdDuration = StdDuration::from_secs(15 * 60);

/// The code, the message and every byte of the details.
fn everything(status: &Status) -> (Code, String, Vec<u8>) {
    let details = status.details().to_vec();
    (status.code(), status.message().to_owned(), details)
}

/// Another server with the same database and the same clock.
async fn replica(h: &Harness) -> Running {
    app::start(&h.database.settings(), h.clock.clone())
        .await
        .unwrap()
}

/// The same caller, connected to another server.
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

/// Changes a lead's email, which requires the current password.
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

/// The call was refused because of too many wrong passwords, and the error says when to retry.
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

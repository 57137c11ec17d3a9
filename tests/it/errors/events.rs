//! Errors of streams of events.

use leadsmith::core::role::Role;
use leadsmith_proto::{self as proto, ErrorReason};
use sea_orm::ConnectionTrait;
use tonic::Status;

use crate::events::lifetime::slow_stream;
use crate::events::{from_now, from_token, refused};
use crate::harness::Harness;

#[expect(clippy::wildcard_enum_match_arm, reason = "only some come here")]
pub async fn provoke(h: &Harness, reason: ErrorReason) -> Status {
    // Sessions of the operators were ended by other errors.
    let account = format!("watcher-{}", i32::from(reason));
    let caller = h.service_account(&account, Role::Sales).await;
    match reason {
        ErrorReason::ResumeTokenInvalid => refused(&caller, from_token("x")).await,
        ErrorReason::ResumeTokenExpired => {
            caller.create_lead("Hopper").await;
            let mut leads = caller.leads();
            let list = leads.list(proto::ListLeadsRequest::default()).await;
            let token = list.unwrap().into_inner().watch_token;
            // As after a restore of an earlier state.
            let db = h.database.connect().await;
            db.execute_unprepared("DELETE FROM events").await.unwrap();
            refused(&caller, from_token(&token)).await
        }
        ErrorReason::WatchTooSlow => slow_stream(h, &caller).await.status,
        ErrorReason::WatchLimit => {
            let server = h
                .another_server(|settings| settings.limits.max_watches_per_principal = 1)
                .await;
            let caller = caller.at(&server);
            let open = caller.events().watch(from_now()).await.unwrap();
            let status = refused(&caller, from_now()).await;
            drop(open);
            server.stop().await.unwrap();
            status
        }
        other => panic!("{other:?} is no reason of a stream"),
    }
}

//! When a session ends: by signing out, by disabling its operator, and after 12 hours without use; on
//! every server.

use std::time::Duration as StdDuration;

use chrono::Duration;
use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use sea_orm::ConnectionTrait;
use tokio::task::JoinSet;

use super::{at, ends, replica};
use crate::harness::{Backend, Harness, PASSWORD, eventually, is_let_in, reason, sign_in};
use crate::on_both;

on_both! {
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
        h.console().disable_operator("Ada").await.unwrap();
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
}

/// A look-up that is in progress while its token is revoked ends after the revocation, with the rows that it
/// read before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_look_up_under_way_brings_a_revoked_token_back() {
    let h = Harness::start(Backend::Postgres).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(sign_in(h.channel(), "sales", PASSWORD).await.unwrap());
    }
    // Every look-up ends half a second after it has read its rows.
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

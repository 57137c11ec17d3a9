//! Passwords and sessions when the database fails, or changes in the middle of a call: interrupted calls
//! are retried, and an attempt without a result does not count.

use std::time::Duration as StdDuration;

use chrono::Duration;
use leadsmith::core::role::Role;
use leadsmith::db::entities::password_attempt;
use leadsmith_proto as proto;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use tokio::task::JoinSet;

use super::{OTHER, change_email, change_password, ends, wrong_sign_in};
use crate::harness::{Backend, Caller, Harness, PASSWORD, eventually, is_let_in, reason, sign_in};
use crate::on_both;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_sessions_do_not_notice_that_connections_died() {
    let h = Harness::start(Backend::Postgres).await;
    let lead = h.sales.create_lead("Lost").await;
    for turn in 0..4 {
        h.database.end_sessions().await;
        let token = sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
        h.database.end_sessions().await;
        wrong_sign_in(&h, "sales").await;
        h.database.end_sessions().await;
        let mut client = h.with_token(&token).auth();
        client
            .sign_out(proto::SignOutRequest::default())
            .await
            .unwrap();
        assert!(!is_let_in(&h.with_token(&token)).await);
        h.database.end_sessions().await;
        change_email(&h.sales, &lead.id, &format!("lost{turn}"), PASSWORD)
            .await
            .unwrap();
        h.database.end_sessions().await;
        change_password(&h.sales, PASSWORD, PASSWORD).await.unwrap();
    }
    let counting =
        "SELECT count(*) FROM password_attempts WHERE NOT failed AND expire_time > now()";
    assert_eq!(h.count(counting).await, 0, "right passwords do not count");
    let failed = "SELECT count(*) FROM password_attempts WHERE failed";
    assert_eq!(
        h.count(failed).await,
        3 * 4,
        "a wrong one counts once, by each bucket"
    );
}

/// A deferred trigger runs inside COMMIT and ends the session there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_died_while_it_was_committed_is_done_once() {
    let h = Harness::start(Backend::Postgres).await;
    h.database
        .connect()
        .await
        .execute_unprepared(
            "CREATE SEQUENCE deaths; \
             CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF nextval('deaths') % 2 = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
               RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER die AFTER INSERT ON sessions \
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die(); \
             CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON operators \
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
        )
        .await
        .unwrap();
    let ada = Caller {
        token: sign_in(h.channel(), "sales", PASSWORD).await.unwrap(),
        ..h.sales.clone()
    };
    assert_eq!(ends(&h.database.connect().await, &ada).await.len(), 2);
    change_password(&ada, PASSWORD, OTHER).await.unwrap();
    assert!(is_let_in(&ada).await);
    sign_in(h.channel(), "sales", OTHER).await.unwrap();
    assert_eq!(
        h.count("SELECT last_value FROM deaths").await,
        6,
        "it died thrice"
    );
}

/// The number of attempts that still count in five minutes.
async fn counting(h: &Harness) -> usize {
    let soon = h.clock.now() + Duration::minutes(5);
    let attempts = password_attempt::Entity::find()
        .filter(password_attempt::Column::ExpireTime.gt(soon))
        .all(&h.database.connect().await)
        .await;
    attempts.unwrap().len()
}

on_both! {
    async fn an_attempt_that_came_to_nothing_does_not_count(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let lead = ada.create_lead("Lovelace").await;
        let beside = h.database.connect().await;
        // The attempt can be reserved, and then the stored password cannot be read.
        let hide = "ALTER TABLE operators RENAME TO hidden";
        beside.execute_unprepared(hide).await.unwrap();
        for _ in 0..5 {
            change_email(&ada, &lead.id, "new", PASSWORD).await.unwrap_err();
            let refused = sign_in(h.channel(), "ada", PASSWORD).await.unwrap_err();
            assert_eq!(reason(&refused), "INTERNAL");
        }
        let show = "ALTER TABLE hidden RENAME TO operators";
        beside.execute_unprepared(show).await.unwrap();
        eventually("every attempt is given back", async || counting(&h).await == 0).await;
        // Many at once count for two seconds more.
        eventually("the operator can sign in", async || {
            sign_in(h.channel(), "ada", PASSWORD).await.is_ok()
        })
        .await;
        eventually("the password is taken", async || {
            change_email(&ada, &lead.id, "new", PASSWORD).await.is_ok()
        })
        .await;
    }

    async fn who_signs_in_while_the_password_is_reset_is_not_let_in(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await;
        let beside = h.database.connect().await;
        let mut hashing = JoinSet::new();
        for _ in 0..40 {
            let auth = std::sync::Arc::clone(&h.server.app.auth);
            hashing.spawn(async move { auth.passwords.hash(OTHER.into()).await });
        }
        let signing_in = tokio::spawn(sign_in(h.channel(), "ada", PASSWORD));
        let changer = ada.clone();
        let changing = tokio::spawn(async move { change_password(&changer, PASSWORD, OTHER).await });
        eventually("both are claimed", async || counting(&h).await == 4).await;
        // By now both calls have read the hash that they verify against.
        tokio::time::sleep(StdDuration::from_millis(60)).await;
        let reset = "UPDATE operators SET password_hash = 'reset' WHERE username = 'ada'";
        beside.execute_unprepared(reset).await.unwrap();

        let refused = signing_in.await.unwrap().unwrap_err();
        assert_eq!(reason(&refused), "SIGN_IN_FAILED");
        let refused = changing.await.unwrap().unwrap_err();
        assert_eq!(reason(&refused), "CURRENT_PASSWORD_INVALID");
        let kept = "SELECT count(*) FROM operators WHERE password_hash = 'reset'";
        assert_eq!(h.count(kept).await, 1, "the administrator's password stays");
        assert_eq!(ends(&beside, &ada).await.len(), 1, "no session is begun");
    }
}

//! `validate_only` in AuthService: every check runs, and no session or password changes.

use chrono::Duration;
use leadsmith::core::role::Role;
use leadsmith_proto as proto;

use super::{OTHER, WRONG, ends, is_locked_out};
use crate::harness::{Caller, PASSWORD, is_let_in, reason, sign_in};
use crate::on_both;

on_both! {
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
        // The attempt counts like every other: validate_only does not allow more guesses.
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
}

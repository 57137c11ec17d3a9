//! Changing and setting a password: which sessions end, and which changes are refused.

use leadsmith::core::role::Role;
use tonic::Code;
use tonic_types::StatusExt;

use super::{OTHER, WRONG, change_password, wrong_sign_in};
use crate::harness::{PASSWORD, is_let_in, reason, sign_in};
use crate::on_both;

on_both! {
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
        for new in ["", "fourteen bytes", "password12345678", &long] {
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
        h.console().set_password("ADA", OTHER.to_owned().into()).await.unwrap();
        assert!(!is_let_in(&ada).await);
        assert!(is_let_in(&h.viewer).await);
        sign_in(h.channel(), "ada", OTHER).await.unwrap();
    }
}

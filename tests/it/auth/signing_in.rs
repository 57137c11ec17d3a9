//! Signing in: the session that it starts, and errors that do not reveal whether a username exists.

use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use tonic::Code;
use tonic_types::StatusExt;

use super::{WRONG, everything, who_am_i};
use crate::harness::{PASSWORD, reason, sign_in};
use crate::on_both;

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
        h.console().disable_operator("grace").await.unwrap();
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
}

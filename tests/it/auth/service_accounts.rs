//! Service accounts: authentication by API key, revoked keys, and the calls that only an operator may
//! make.

use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use tonic::Code;

use super::{OTHER, at, change_email, change_password, replica, who_am_i};
use crate::harness::{PASSWORD, eventually, is_let_in, reason};
use crate::on_both;

on_both! {
    async fn a_service_account_calls_by_its_key_until_it_is_revoked(h: Harness) {
        let second = replica(&h).await;
        let console = h.console();
        let account = console.create_account("billing", Role::Sales).await.unwrap().id;
        let (created, first) = console.create_key("billing").await.unwrap();
        let (_, other) = console.create_key("billing").await.unwrap();
        let (first, other) = (h.with_token(first.expose()), h.with_token(other.expose()));
        for caller in [&first, &other, &at(&second, &first)] {
            let answer = who_am_i(caller).await.unwrap();
            assert_eq!(answer.role(), proto::Role::Sales);
            let principal = answer.principal.unwrap();
            assert_eq!(principal.kind(), proto::PrincipalKind::ServiceAccount);
            assert_eq!(principal.id, account.to_string());
            assert_eq!(principal.name, "billing");
        }
        console.revoke_key(created.key.id).await.unwrap();
        eventually("revoked", async || !is_let_in(&first).await).await;
        eventually("revoked on the other server", async || {
            !is_let_in(&at(&second, &first)).await
        })
        .await;
        assert!(is_let_in(&other).await, "the account's other key stays");
        let again = console.revoke_key(created.key.id).await.unwrap_err();
        assert!(again.to_string().contains("no active API key"), "{again}");
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
}

//! Calls to Erase: the password that they require, retries, and request ids from before the erasure.

use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use tonic::Code;

use super::{Known, asked, erase, known, request_id};
use crate::harness::{Caller, PASSWORD, reason, whole};
use crate::on_both;

on_both! {
    async fn a_call_answered_before_is_not_made_again(h: Harness) {
        let Known { lead, created, deactivated, converted, .. } = known(&h).await;
        let leads = h.count("SELECT count(*) FROM leads").await;
        let request = proto::EraseLeadRequest { request_id: request_id(), ..asked(&lead.id) };
        let first = erase(&h.admin, request.clone()).await.unwrap();
        let status = h.sales.leads().create(created.clone()).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED", "{}", whole(&status));
        assert_eq!(status.code(), Code::FailedPrecondition);
        let status = h.sales.leads().deactivate(deactivated).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED");
        let status = h.sales.leads().convert(converted).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED");
        let other = proto::CreateLeadRequest { allow_duplicate: true, ..created };
        let status = h.sales.leads().create(other).await.unwrap_err();
        assert_eq!(reason(&status), "REQUEST_ID_REUSED");
        assert_eq!(h.count("SELECT count(*) FROM leads").await, leads);

        // The erasure can be retried, and a second erasure is refused.
        assert_eq!(erase(&h.admin, request.clone()).await.unwrap(), first);
        let forgotten = proto::EraseLeadRequest { current_password: String::new(), ..request };
        assert_eq!(erase(&h.admin, forgotten).await.unwrap(), first);
        let status = erase(&h.admin, asked(&lead.id)).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED");
    }

    async fn it_always_asks_for_the_operators_own_password(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        let with = |password: &str| proto::EraseLeadRequest {
            current_password: password.into(),
            ..asked(&lead.id)
        };
        let refused = async |caller: &Caller, request, expected: &str, code| {
            let status = erase(caller, request).await.unwrap_err();
            assert_eq!(reason(&status), expected);
            assert_eq!(status.code(), code);
            assert_eq!(h.viewer.get(&lead.id).await, lead, "nothing is erased");
        };
        let account = h.service_account("crm", Role::Admin).await;
        refused(&account, with(PASSWORD), "OPERATOR_REQUIRED", Code::PermissionDenied).await;
        refused(&h.sales, with(PASSWORD), "ROLE_INSUFFICIENT", Code::PermissionDenied).await;
        refused(&h.admin, with(""), "CURRENT_PASSWORD_REQUIRED", Code::InvalidArgument).await;
        let stale = proto::EraseLeadRequest { etag: "\"9\"".into(), ..with("wrong") };
        refused(&h.admin, stale, "ETAG_MISMATCH", Code::Aborted).await;
        let nobody = proto::EraseLeadRequest { id: request_id(), ..with("wrong") };
        refused(&h.admin, nobody, "LEAD_NOT_FOUND", Code::NotFound).await;
        for _ in 0..5 {
            refused(&h.admin, with("wrong"), "CURRENT_PASSWORD_INVALID", Code::PermissionDenied)
                .await;
        }
        let exceeded = "PASSWORD_ATTEMPTS_EXCEEDED";
        refused(&h.admin, with(PASSWORD), exceeded, Code::ResourceExhausted).await;
        h.clock.advance(chrono::Duration::minutes(15));
        let right = proto::EraseLeadRequest { etag: lead.etag.clone(), ..with(PASSWORD) };
        erase(&h.admin, right).await.unwrap();
    }
}

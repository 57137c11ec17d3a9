//! The order of the checks, and etags.

use leadsmith_proto::{self as proto, Lead};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{complete, edit, stored, with_email};
use crate::harness::{Caller, metadata, reason, update};
use crate::on_both;

const UNKNOWN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

/// A change of a lead's email without a password.
fn new_email(id: &str, etag: &str) -> Lead {
    edit(id, |lead| {
        lead.etag = etag.into();
        lead.email = "new@example.com".into();
    })
}

#[derive(Clone, Copy, Debug)]
enum Rpc {
    Update,
    Deactivate,
    Reactivate,
    Convert,
}

const RPCS: [Rpc; 4] = [Rpc::Update, Rpc::Deactivate, Rpc::Reactivate, Rpc::Convert];

impl Rpc {
    async fn call(self, caller: &Caller, id: &str, etag: &str) -> Result<Lead, Status> {
        let (id, etag) = (id.to_owned(), etag.to_owned());
        let mut leads = caller.leads();
        let lead = match self {
            Self::Update => {
                let phone = etag.clone();
                let lead = edit(&id, |lead| (lead.etag, lead.phone) = (etag, phone));
                leads
                    .update(update(lead, &["phone"]))
                    .await?
                    .into_inner()
                    .lead
            }
            Self::Deactivate => {
                let request = proto::DeactivateLeadRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                leads.deactivate(request).await?.into_inner().lead
            }
            Self::Reactivate => {
                let request = proto::ReactivateLeadRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                leads.reactivate(request).await?.into_inner().lead
            }
            Self::Convert => {
                let request = proto::ConvertLeadRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                leads.convert(request).await?.into_inner().lead
            }
        };
        Ok(lead.unwrap())
    }

    /// A lead on which this RPC succeeds.
    async fn lead(self, caller: &Caller) -> Lead {
        let lead = caller.create_lead("Hopper").await;
        match self {
            Self::Update | Self::Deactivate | Self::Convert => lead,
            Self::Reactivate => caller.deactivate(&lead.id).await.unwrap(),
        }
    }
}

on_both! {
    async fn the_first_thing_wrong_is_the_one_told(h: Harness) {
        let open = h.sales.create(with_email("ada@example.com")).await.unwrap();
        let away = h.sales.create(with_email("bob@example.com")).await.unwrap();
        let away = h.sales.deactivate(&away.id).await.unwrap();
        let before = stored(&h).await;
        let wrong_shape = |id: &str| Lead {
            phone: "x".repeat(33),
            ..new_email(id, "\"9\"")
        };
        let nobody = h.with_token("");
        let unknown = UNKNOWN.to_string();
        for (caller, lead, expected) in [
            (&nobody, wrong_shape(&unknown), "TOKEN_INVALID"),
            (&h.viewer, wrong_shape(&unknown), "ROLE_INSUFFICIENT"),
            (&h.viewer, new_email(&unknown, ""), "ROLE_INSUFFICIENT"),
            (&h.sales, wrong_shape(&unknown), "FIELD_INVALID"),
            (&h.sales, new_email(&unknown, "\"9\""), "LEAD_NOT_FOUND"),
            (&h.sales, new_email(&away.id, "\"1\""), "ETAG_MISMATCH"),
            (
                &h.sales,
                new_email(&away.id, &away.etag),
                "LEAD_DEACTIVATED",
            ),
            (&h.sales, new_email(&open.id, "\"9\""), "ETAG_MISMATCH"),
            (
                &h.sales,
                new_email(&open.id, &open.etag),
                "CURRENT_PASSWORD_REQUIRED",
            ),
        ] {
            let mut request = update(lead, &["email", "phone"]);
            if expected != "CURRENT_PASSWORD_REQUIRED" {
                request.current_password = "not my password".into();
            }
            let refused = caller.leads().update(request).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        let tried = h
            .count("SELECT COUNT(*) FROM password_attempts WHERE bucket LIKE 'current_password/%'");
        assert_eq!(
            tried.await,
            0,
            "a call refused before its password is looked at costs no attempt"
        );
        assert_eq!(stored(&h).await, before);
    }

    async fn a_lead_that_does_not_exist_is_not_found(h: Harness) {
        let id = UNKNOWN.to_string();
        let get = h
            .viewer
            .leads()
            .get(proto::GetLeadRequest { id: id.clone() })
            .await
            .unwrap_err();
        let history = proto::ListHistoryRequest {
            id: id.clone(),
            ..Default::default()
        };
        let history = h.viewer.leads().list_history(history).await.unwrap_err();
        let mut refused = vec![get, history];
        for rpc in RPCS {
            refused.push(rpc.call(&h.sales, &id, "").await.unwrap_err());
        }
        for status in refused {
            assert_eq!(status.code(), Code::NotFound);
            assert_eq!(reason(&status), "LEAD_NOT_FOUND");
            assert!(status.message().contains(&id), "{}", status.message());
        }
    }

    async fn a_stale_etag_is_refused_and_the_current_one_told(h: Harness) {
        for rpc in RPCS {
            let lead = rpc.lead(&h.sales).await;
            let before = stored(&h).await;
            for stale in ["\"9\"", "9", "\"0\"", "W/\"1\"", "*", "\"", " "] {
                let refused = rpc.call(&h.sales, &lead.id, stale).await.unwrap_err();
                assert_eq!(refused.code(), Code::Aborted, "{rpc:?} {stale:?}");
                assert_eq!(reason(&refused), "ETAG_MISMATCH");
                assert_eq!(metadata(&refused, "etag"), lead.etag);
            }
            assert_eq!(h.sales.get(&lead.id).await, lead);
            assert_eq!(stored(&h).await, before);
            let after = rpc.call(&h.sales, &lead.id, &lead.etag).await.unwrap();
            assert_ne!(after.etag, lead.etag);
        }
    }

    async fn an_etag_may_come_without_its_quotes(h: Harness) {
        for rpc in RPCS {
            let lead = rpc.lead(&h.sales).await;
            let bare = lead.etag.trim_matches('"');
            assert_ne!(bare, lead.etag, "an etag is quoted");
            rpc.call(&h.sales, &lead.id, bare).await.unwrap();
        }
    }

    async fn the_answer_has_the_etag_for_the_next_change(h: Harness) {
        let mut lead = h.sales.create_lead("Hopper").await;
        for rpc in [
            Rpc::Update,
            Rpc::Deactivate,
            Rpc::Reactivate,
            Rpc::Update,
            Rpc::Convert,
        ] {
            let after = rpc.call(&h.sales, &lead.id, &lead.etag).await.unwrap();
            assert_ne!(after.etag, lead.etag, "{rpc:?}");
            lead = after;
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
    }

    async fn an_update_that_changes_nothing_leaves_no_trace(h: Harness) {
        let lead = h.sales.create(complete("")).await.unwrap();
        let before = stored(&h).await;
        for paths in [
            &["*"][..],
            &[],
            &["phone", "address.city", "custom_fields.tier"],
        ] {
            let same = h.sales.update(lead.clone(), paths).await.unwrap();
            assert_eq!(same, lead, "{paths:?}");
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
        assert_eq!(stored(&h).await, before);
    }

    async fn without_an_etag_two_updates_of_two_fields_both_count(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        let (phone, fax) = tokio::join!(
            h.sales
                .update(edit(&lead.id, |lead| lead.phone = "1".into()), &["phone"]),
            h.sales
                .update(edit(&lead.id, |lead| lead.fax = "2".into()), &["fax"]),
        );
        phone.unwrap();
        fax.unwrap();
        let after = h.sales.get(&lead.id).await;
        assert_eq!((after.phone.as_str(), after.fax.as_str()), ("1", "2"));
        assert_eq!(h.sales.history(&lead.id).await.len(), 3);
    }
}

//! `validate_only`: every check, no effect.

use leadsmith_proto::{
    Client, ConvertLeadRequest, ConvertLeadResponse, CreateLeadRequest, DeactivateLeadRequest,
    EraseLeadRequest, Lead, LeadState, ReactivateLeadRequest, UpdateLeadRequest,
};
use tonic::Status;

use super::{complete, edit, stored, with_email};
use crate::harness::{Caller, PASSWORD, reason, update};
use crate::on_both;

const REQUEST_ID: &str = "5d6f52a5-8a3f-4b0c-9c61-6a0f0a4c2f11";

async fn create(caller: &Caller, lead: Lead) -> Result<Lead, Status> {
    let request = CreateLeadRequest {
        lead: Some(lead),
        request_id: REQUEST_ID.into(),
        validate_only: true,
        ..Default::default()
    };
    Ok(caller
        .leads()
        .create(request)
        .await?
        .into_inner()
        .lead
        .unwrap())
}

async fn change(
    caller: &Caller,
    lead: Lead,
    paths: &[&str],
    password: &str,
) -> Result<Lead, Status> {
    let request = UpdateLeadRequest {
        current_password: password.into(),
        request_id: REQUEST_ID.into(),
        validate_only: true,
        ..update(lead, paths)
    };
    Ok(caller
        .leads()
        .update(request)
        .await?
        .into_inner()
        .lead
        .unwrap())
}

async fn convert(caller: &Caller, id: &str, etag: &str) -> Result<ConvertLeadResponse, Status> {
    let request = ConvertLeadRequest {
        id: id.into(),
        etag: etag.into(),
        request_id: REQUEST_ID.into(),
        validate_only: true,
        ..Default::default()
    };
    Ok(caller.leads().convert(request).await?.into_inner())
}

async fn deactivate(caller: &Caller, id: &str, etag: &str, reason: &str) -> Result<Lead, Status> {
    let request = DeactivateLeadRequest {
        id: id.into(),
        etag: etag.into(),
        reason: reason.into(),
        request_id: REQUEST_ID.into(),
        validate_only: true,
    };
    let answer = caller.leads().deactivate(request).await?;
    Ok(answer.into_inner().lead.unwrap())
}

async fn reactivate(caller: &Caller, id: &str, etag: &str) -> Result<Lead, Status> {
    let request = ReactivateLeadRequest {
        id: id.into(),
        etag: etag.into(),
        request_id: REQUEST_ID.into(),
        validate_only: true,
    };
    let answer = caller.leads().reactivate(request).await?;
    Ok(answer.into_inner().lead.unwrap())
}

async fn erase(caller: &Caller, id: &str, etag: &str, password: &str) -> Result<Lead, Status> {
    let request = EraseLeadRequest {
        id: id.into(),
        etag: etag.into(),
        current_password: password.into(),
        request_id: REQUEST_ID.into(),
        validate_only: true,
    };
    let answer = caller.leads().erase(request).await?;
    Ok(answer.into_inner().lead.unwrap())
}

on_both! {
    async fn a_creation_that_is_only_checked(h: Harness) {
        h.sales
            .create(with_email("taken@example.com"))
            .await
            .unwrap();
        let before = stored(&h).await;
        let lead = complete(&h.admin.id.to_string());
        let answer = create(&h.sales, lead.clone()).await.unwrap();
        assert_eq!(
            answer,
            Lead {
                state: LeadState::Open.into(),
                ..lead
            },
            "as it would be, but no id, etag or times"
        );

        for (lead, expected) in [
            (Lead::default(), "FIELD_INVALID"),
            (with_email("TAKEN@example.com"), "DUPLICATE_LEAD"),
            (
                Lead {
                    owner_id: REQUEST_ID.into(),
                    ..with_email("")
                },
                "FIELD_INVALID",
            ),
        ] {
            assert_eq!(reason(&create(&h.sales, lead).await.unwrap_err()), expected);
        }
        let refused = create(&h.viewer, with_email("")).await.unwrap_err();
        assert_eq!(reason(&refused), "ROLE_INSUFFICIENT");
        assert_eq!(stored(&h).await, before);

        // A dry run did not use the request id.
        let request = CreateLeadRequest {
            lead: Some(with_email("new@example.com")),
            request_id: REQUEST_ID.into(),
            ..Default::default()
        };
        h.sales.leads().create(request).await.unwrap();
        assert_eq!(
            stored(&h).await,
            [before[0] + 1, before[1] + 1, before[2] + 1, before[3] + 1]
        );
    }

    async fn an_update_that_is_only_checked(h: Harness) {
        let lead = h.sales.create(with_email("ada@example.com")).await.unwrap();
        let away = h.sales.create_lead("Hopper").await;
        let away = h.sales.deactivate(&away.id).await.unwrap();
        let before = stored(&h).await;
        let phone = |id: &str, etag: &str| {
            edit(id, |lead| {
                (lead.phone, lead.etag) = ("1".into(), etag.into())
            })
        };
        let email = edit(&lead.id, |lead| lead.email = "new@example.com".into());

        let answer = change(&h.sales, phone(&lead.id, &lead.etag), &["phone"], "")
            .await
            .unwrap();
        assert_eq!(
            answer,
            Lead {
                phone: "1".into(),
                ..lead.clone()
            }
        );
        let answer = change(&h.sales, email.clone(), &["email"], PASSWORD)
            .await
            .unwrap();
        assert_eq!(
            answer,
            Lead {
                email: "new@example.com".into(),
                ..lead.clone()
            }
        );
        let answer = change(&h.sales, lead.clone(), &["*"], "").await.unwrap();
        assert_eq!(answer, lead);

        for (change_to, paths, password, expected) in [
            (phone("x", ""), "phone", "", "FIELD_INVALID"),
            (phone(&lead.id, ""), "nickname", "", "FIELD_INVALID"),
            (phone(&lead.id, ""), "last_name", "", "FIELD_INVALID"),
            (phone(REQUEST_ID, ""), "phone", "", "LEAD_NOT_FOUND"),
            (phone(&lead.id, "\"9\""), "phone", "", "ETAG_MISMATCH"),
            (phone(&away.id, ""), "phone", "", "LEAD_DEACTIVATED"),
            (email.clone(), "email", "", "CURRENT_PASSWORD_REQUIRED"),
            (
                email,
                "email",
                "not my password",
                "CURRENT_PASSWORD_INVALID",
            ),
        ] {
            let refused = change(&h.sales, change_to, &[paths], password)
                .await
                .unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
        assert_eq!(stored(&h).await, before);
    }

    async fn a_conversion_that_is_only_checked(h: Harness) {
        let lead = h.sales.create(complete("")).await.unwrap();
        let away = h.sales.create_lead("Hopper").await;
        let away = h.sales.deactivate(&away.id).await.unwrap();
        let client = h.sales.create_lead("Hamilton").await;
        let client = h.sales.convert(&client.id).await.unwrap().lead.unwrap();
        let before = stored(&h).await;

        let answer = convert(&h.sales, &lead.id, &lead.etag).await.unwrap();
        let would_be = answer.lead.unwrap();
        assert_eq!(would_be.state(), LeadState::Converted);
        assert_eq!(would_be.conversion.as_ref().unwrap().client_id, lead.id);
        let Client {
            id,
            email,
            conversion,
            ..
        } = answer.client.unwrap();
        assert_eq!((id, email), (lead.id.clone(), lead.email.clone()));
        assert_eq!(conversion, would_be.conversion);
        let as_it_is = Lead {
            state: lead.state,
            conversion: None,
            ..would_be
        };
        assert_eq!(
            as_it_is, lead,
            "nothing else would change, and the etag has not"
        );

        for (id, etag, expected) in [
            ("x", "", "FIELD_INVALID"),
            (REQUEST_ID, "", "LEAD_NOT_FOUND"),
            (&lead.id, "\"9\"", "ETAG_MISMATCH"),
            (&away.id, "", "LEAD_DEACTIVATED"),
            (&client.id, "", "LEAD_CONVERTED"),
        ] {
            assert_eq!(
                reason(&convert(&h.sales, id, etag).await.unwrap_err()),
                expected
            );
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
        assert_eq!(stored(&h).await, before);
        let nobody = h
            .sales
            .clients()
            .get(leadsmith_proto::GetClientRequest { id: lead.id })
            .await
            .unwrap_err();
        assert_eq!(reason(&nobody), "CLIENT_NOT_FOUND");
    }

    async fn a_deactivation_and_a_reactivation_that_are_only_checked(h: Harness) {
        let lead = h.sales.create(complete("")).await.unwrap();
        let away = h.sales.create_lead("Hopper").await;
        let away = h.sales.deactivate(&away.id).await.unwrap();
        let client = h.sales.create_lead("Hamilton").await;
        let client = h.sales.convert(&client.id).await.unwrap().lead.unwrap();
        let before = stored(&h).await;

        let would_be = deactivate(&h.sales, &lead.id, &lead.etag, " no budget ").await.unwrap();
        assert_eq!(would_be.state(), LeadState::Deactivated);
        assert_eq!(would_be.deactivation.as_ref().unwrap().reason, "no budget");
        let as_it_is = Lead { state: lead.state, deactivation: None, ..would_be };
        assert_eq!(as_it_is, lead, "nothing else would change, and the etag has not");

        let would_be = reactivate(&h.sales, &away.id, &away.etag).await.unwrap();
        assert_eq!(would_be.state(), LeadState::Open);
        let as_it_is = Lead {
            state: away.state,
            deactivation: away.deactivation.clone(),
            ..would_be
        };
        assert_eq!(as_it_is, away);

        for (id, etag, cause, expected) in [
            ("x", "", "", "FIELD_INVALID"),
            (lead.id.as_str(), "", "a\u{0}b", "FIELD_INVALID"),
            (REQUEST_ID, "", "", "LEAD_NOT_FOUND"),
            (&lead.id, "\"9\"", "", "ETAG_MISMATCH"),
            (&away.id, "", "", "LEAD_DEACTIVATED"),
            (&client.id, "", "", "LEAD_CONVERTED"),
        ] {
            let refused = deactivate(&h.sales, id, etag, cause).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        for (id, etag, expected) in [
            ("x", "", "FIELD_INVALID"),
            (REQUEST_ID, "", "LEAD_NOT_FOUND"),
            (away.id.as_str(), "\"9\"", "ETAG_MISMATCH"),
            (&lead.id, "", "LEAD_NOT_DEACTIVATED"),
            (&client.id, "", "LEAD_CONVERTED"),
        ] {
            let refused = reactivate(&h.sales, id, etag).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        let refused = deactivate(&h.viewer, &lead.id, "", "").await.unwrap_err();
        assert_eq!(reason(&refused), "ROLE_INSUFFICIENT");
        assert_eq!(h.sales.get(&lead.id).await, lead);
        assert_eq!(h.sales.get(&away.id).await, away);
        assert_eq!(stored(&h).await, before);
    }

    async fn an_erasure_that_is_only_checked(h: Harness) {
        let lead = h.sales.create(complete(&h.sales.id.to_string())).await.unwrap();
        let gone = h.sales.create_lead("Hopper").await;
        let gone = h.admin.erase(&gone.id).await.unwrap();
        let robot = h.service_account("robot", leadsmith::core::role::Role::Admin).await;
        let before = stored(&h).await;

        let would_be = erase(&h.admin, &lead.id, &lead.etag, PASSWORD).await.unwrap();
        assert!(would_be.erasure.is_some());
        let left = Lead {
            id: lead.id.clone(),
            owner_id: lead.owner_id.clone(),
            state: lead.state,
            etag: lead.etag.clone(),
            create_time: lead.create_time,
            update_time: lead.update_time,
            erasure: would_be.erasure.clone(),
            ..Lead::default()
        };
        assert_eq!(would_be, left);

        for (caller, id, etag, password, expected) in [
            (&h.admin, "x", "", PASSWORD, "FIELD_INVALID"),
            (&h.admin, REQUEST_ID, "", PASSWORD, "LEAD_NOT_FOUND"),
            (&h.admin, &lead.id, "\"9\"", PASSWORD, "ETAG_MISMATCH"),
            (&h.admin, &gone.id, "", PASSWORD, "LEAD_ERASED"),
            (&h.admin, &lead.id, "", "", "CURRENT_PASSWORD_REQUIRED"),
            (&h.admin, &lead.id, "", "not my password", "CURRENT_PASSWORD_INVALID"),
            (&robot, &lead.id, "", PASSWORD, "OPERATOR_REQUIRED"),
            (&h.sales, &lead.id, "", PASSWORD, "ROLE_INSUFFICIENT"),
        ] {
            let refused = erase(caller, id, etag, password).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
        assert_eq!(stored(&h).await, before);
    }
}

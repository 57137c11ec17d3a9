//! OpportunityService.Update: what it accepts, and in which order it checks.

use leadsmith::core::role::Role;
use leadsmith_proto::{Money, Opportunity, OpportunityStage, UpdateOpportunityRequest};
use tonic::Code;

use super::{create_complete, raw_rows};
use crate::harness::{metadata, reason, sale_update, violations};
use crate::on_both;

const UNKNOWN: &str = "01900000-0000-7000-8000-000000000001";

on_both! {
    async fn everything_wrong_is_reported_at_once(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let before = create_complete(&h, &lead.id).await;
        let sent = Opportunity {
            id: "1".into(),
            name: "x".repeat(201),
            stage: OpportunityStage::Closed.into(),
            amount: Some(Money { currency_code: "EURO".into(), units: -1, nanos: 0 }),
            probability: Some(101),
            expected_close_date: "2027-02-29".into(),
            owner_id: UNKNOWN.into(),
            next_step: "x".repeat(501),
            description: "a\0b".into(),
            ..Opportunity::default()
        };
        let mut request = sale_update(sent, &[]);
        request.request_id = "1".into();
        let refused = h.sales.opportunities().update(request).await.unwrap_err();
        let expected = [
            ("request_id", "must be a UUID of your choice, except the nil and the max UUID, or empty"),
            ("opportunity.id", "must be the record's id, a UUID"),
            ("opportunity.name", "must be at most 200 characters long"),
            ("opportunity.stage", "must not be CLOSED: call Close to close the opportunity"),
            ("opportunity.amount.currency_code", "must be an ISO 4217 code in upper case, such as EUR"),
            ("opportunity.amount.units", "must not be negative"),
            ("opportunity.probability", "must be from 0 to 100, or absent"),
            ("opportunity.expected_close_date", "must be a date as YYYY-MM-DD, from 0001-01-01 to 9999-12-31, or empty"),
            ("opportunity.next_step", "must be at most 500 characters long"),
            ("opportunity.description", "must not contain control characters other than tab and newline"),
            ("opportunity.owner_id", "is not the id of an operator"),
        ];
        assert_eq!(violations(&refused), expected.map(|(field, what)| (field.to_owned(), what.to_owned())));
        let refused = h.sales.opportunities().update(UpdateOpportunityRequest::default()).await.unwrap_err();
        let fields: Vec<String> = violations(&refused).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["opportunity", "opportunity.id"]);
        let stage = Opportunity { id: before.id.clone(), stage: 9, ..Opportunity::default() };
        let refused = h.sales.update_sale(stage, &[]).await.unwrap_err();
        let expected = ("opportunity.stage".to_owned(), "is not one of the enum's values".to_owned());
        assert_eq!(violations(&refused), [expected]);
        assert_eq!(h.viewer.get_sale(&before.id).await, before);
    }

    async fn the_first_thing_wrong_is_the_one_reported(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        h.sales.lose(&sale.id, "").await.unwrap();
        let change = |id: &str, etag: &str, name: &str| Opportunity {
            id: id.into(),
            etag: etag.into(),
            name: name.into(),
            ..Opportunity::default()
        };
        let mut seen = Vec::new();
        for (caller, change) in [
            (&h.with_token(""), change("1", "\"1\"", "")),
            (&h.viewer, change("1", "\"1\"", "")),
            (&h.sales, change(UNKNOWN, "\"1\"", "")),
            (&h.sales, change(UNKNOWN, "\"1\"", "Backup")),
            (&h.sales, change(&sale.id, "\"1\"", "Backup")),
            (&h.sales, change(&sale.id, "\"2\"", "Backup")),
        ] {
            let refused = caller.update_sale(change, &["name"]).await.unwrap_err();
            seen.push(reason(&refused));
        }
        let expected = [
            "TOKEN_INVALID",
            "ROLE_INSUFFICIENT",
            "FIELD_INVALID",
            "OPPORTUNITY_NOT_FOUND",
            "ETAG_MISMATCH",
            "OPPORTUNITY_CLOSED",
        ];
        assert_eq!(seen, expected);
    }

    async fn a_stale_etag_is_refused_and_the_current_one_told(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        let named = |etag: &str, name: &str| Opportunity {
            id: sale.id.clone(),
            etag: etag.into(),
            name: name.into(),
            ..Opportunity::default()
        };
        let second = h.sales.update_sale(named(&sale.etag, "Second"), &["name"]).await.unwrap();
        let refused = h.sales.update_sale(named(&sale.etag, "Third"), &["name"]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted);
        assert_eq!(metadata(&refused, "etag"), second.etag);
        // The response has the etag for the next change. Its quotes may be left out.
        let bare = second.etag.trim_matches('"');
        let third = h.sales.update_sale(named(bare, "Third"), &["name"]).await.unwrap();
        assert_eq!((third.name.as_str(), third.etag.as_str()), ("Third", "\"3\""));
    }

    async fn an_update_that_changes_nothing_leaves_no_trace(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        let rows = raw_rows(&h).await;
        for paths in [&[][..], &["*"], &["name", "amount"]] {
            assert_eq!(h.sales.update_sale(sale.clone(), paths).await.unwrap(), sale);
        }
        assert_eq!(raw_rows(&h).await, rows);
        assert_eq!(h.viewer.sale_history(&sale.id).await.len(), 1);
    }

    async fn a_disabled_operator_becomes_no_owner_and_stays_one(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let (ada, bob) = (h.operator("ada", Role::Sales).await, h.operator("bob", Role::Sales).await);
        let sale = h.sales.create_sale(&lead.id, "Hosting").await;
        let owned = |owner: &str| Opportunity {
            id: sale.id.clone(),
            owner_id: owner.into(),
            name: "Backup".into(),
            ..Opportunity::default()
        };
        let ada = ada.id.to_string();
        h.sales.update_sale(owned(&ada), &["owner_id"]).await.unwrap();
        h.console().disable_operator("ada").await.unwrap();
        h.console().disable_operator("bob").await.unwrap();
        let refused = h.sales.update_sale(owned(&bob.id.to_string()), &["owner_id"]).await.unwrap_err();
        let problem = "is the id of a disabled operator: choose an enabled operator";
        assert_eq!(violations(&refused), [("opportunity.owner_id".to_owned(), problem.to_owned())]);
        // The owner that it has is no change.
        let after = h.sales.update_sale(owned(&ada.to_uppercase()), &["owner_id", "name"]).await.unwrap();
        assert_eq!((after.owner_id, after.name.as_str()), (ada, "Backup"));
    }

    async fn texts_are_stored_as_create_stores_them(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        let sent = Opportunity {
            id: sale.id.clone(),
            name: " Backup\u{3000}".into(),
            next_step: "\u{200b}".into(),
            description: "one\r\ntwo\rthree\r\n".into(),
            ..Opportunity::default()
        };
        let after = h.sales.update_sale(sent, &["name", "next_step", "description"]).await.unwrap();
        let texts = (after.name.as_str(), after.next_step.as_str(), after.description.as_str());
        assert_eq!(texts, ("Backup", "", "one\ntwo\nthree"));
        for (field, limit) in [("name", 200), ("next_step", 500), ("description", 4_096)] {
            let of = |length: usize| {
                let text = "é".repeat(length);
                let mut sent = Opportunity { id: sale.id.clone(), ..Opportunity::default() };
                match field {
                    "name" => sent.name = text,
                    "next_step" => sent.next_step = text,
                    _ => sent.description = text,
                }
                sent
            };
            h.sales.update_sale(of(limit), &[field]).await.unwrap();
            let refused = h.sales.update_sale(of(limit + 1), &[field]).await.unwrap_err();
            assert_eq!(violations(&refused)[0].0, format!("opportunity.{field}"));
        }
    }
}

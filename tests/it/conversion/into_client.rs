//! A lead that is joined to a client: what the client gets from it, and what is refused.

use leadsmith_proto::{Client, Lead, LeadState};
use tonic::Code;

use super::{city, create, new_client, outcomes, person};
use crate::harness::{Caller, convert_into, metadata, reason, violations};
use crate::on_both;

/// An id that no record has.
const NOBODY: &str = "01900000-0000-7000-8000-000000000009";

/// The fields and the rows of history, events and stored responses.
async fn stored(h: &crate::harness::Harness) -> Vec<i64> {
    let mut rows = Vec::new();
    for table in ["leads", "history", "events", "idempotency_records"] {
        rows.push(h.count(&format!("SELECT count(*) FROM {table}")).await);
    }
    rows
}

async fn both(caller: &Caller, lead: &Lead, client: &Client) -> (Lead, Client) {
    (
        caller.get(&lead.id).await,
        caller.client(&client.id).await.unwrap(),
    )
}

on_both! {
    async fn the_clients_empty_fields_are_filled_and_its_others_stay(h: Harness) {
        let client = new_client(&h.sales, Lead {
            phone: "1".into(),
            source: "fair".into(),
            custom_fields: [("tier".into(), "gold".into())].into(),
            ..person("Lovelace")
        }).await;
        let lead = create(&h.sales, Lead {
            first_name: "Ada".into(),
            email: "ada@example.com".into(),
            phone: "2".into(),
            address: city("London"),
            source: "fair".into(),
            custom_fields: [("tier".into(), "silver".into()), ("size".into(), "9".into())].into(),
            ..person("Byron")
        }).await;
        let sale = h.sales.create_sale(&lead.id, "Engine").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let before = stored(&h).await;

        // First only checked: the same answer, without effect.
        let request = leadsmith_proto::ConvertLeadRequest {
            validate_only: true,
            ..convert_into(&lead.id, &client.id, &[])
        };
        let checked = h.sales.leads().convert(request).await.unwrap().into_inner();
        assert_eq!(stored(&h).await, before);
        assert_eq!(both(&h.viewer, &lead, &client).await, (lead.clone(), client.clone()));

        let answer = h.sales.convert_into(&lead.id, &client.id, &[]).await.unwrap();
        let (after, joined) = both(&h.viewer, &lead, &client).await;
        assert_eq!((answer.lead.as_ref(), answer.client.as_ref()), (Some(&after), Some(&joined)));
        let conversion = after.conversion.clone().unwrap();
        assert_eq!(conversion.client_id, client.id);
        assert_eq!(conversion.trigger().as_str_name(), "CONVERSION_TRIGGER_MANUAL");
        let expected = Lead {
            state: LeadState::Converted.into(),
            etag: "\"2\"".into(),
            update_time: conversion.time,
            conversion: after.conversion.clone(),
            ..lead.clone()
        };
        assert_eq!(after, expected, "the lead keeps its record");
        let expected = Client {
            first_name: "Ada".into(),
            email: "ada@example.com".into(),
            address: city("London"),
            custom_fields: [("tier".into(), "gold".into()), ("size".into(), "9".into())].into(),
            lead_ids: vec![lead.id.clone()],
            etag: "\"3\"".into(),
            update_time: joined.update_time,
            ..client.clone()
        };
        assert_eq!(joined, expected);

        let report = answer.report.clone().unwrap();
        assert_eq!(outcomes(&report), [
            "C first_name", "K last_name", "C email", "K phone", "C address.city", "K source",
            "C custom_fields.size", "K custom_fields.tier",
        ]);
        assert_eq!((report.opportunity_ids.as_slice(), report.opportunity_count), (&[sale.id][..], 1));
        assert_eq!((report.order_ids.as_slice(), report.order_count), (&[order.id][..], 1));
        assert_eq!(checked.report, answer.report);
        let would_be = checked.client.unwrap();
        assert_eq!(would_be, Client { etag: client.etag, update_time: client.update_time, ..joined });

        // One history row and one event of each.
        let after_it = stored(&h).await;
        assert_eq!(after_it, [before[0], before[1] + 2, before[2] + 2, before[3]]);
        let changes = |history: Vec<leadsmith_proto::HistoryEntry>| {
            let changes = history[0].changes.iter();
            changes.map(|c| format!("{} {}>{}", c.field, c.old_value, c.new_value)).collect::<Vec<_>>()
        };
        assert_eq!(changes(h.viewer.history(&lead.id).await), [
            "state OPEN>CONVERTED".to_owned(), format!("conversion.client_id >{}", client.id),
        ]);
        assert_eq!(changes(h.viewer.history(&client.id).await), [
            "first_name >Ada".to_owned(),
            "email >ada@example.com".into(),
            "address.city >London".into(),
            "custom_fields.size >9".into(),
            format!("lead_ids >{}", lead.id),
        ]);
        for (event, times) in [("lead.converted", 2), ("client.lead_joined", 1)] {
            let sql = format!("SELECT count(*) FROM events WHERE type = '{event}'");
            assert_eq!(h.count(&sql).await, times, "{event}");
        }
    }

    async fn a_conversion_to_a_client_of_its_own_carries_every_field(h: Harness) {
        let lead = create(&h.sales, Lead {
            phone: "2".into(),
            custom_fields: [("tier".into(), "silver".into())].into(),
            ..person("Byron")
        }).await;
        let sales = [h.sales.create_sale(&lead.id, "1").await.id, h.sales.create_sale(&lead.id, "2").await.id];
        let answer = h.sales.convert(&lead.id).await.unwrap();
        let report = answer.report.unwrap();
        assert_eq!(outcomes(&report), ["C last_name", "C phone", "C custom_fields.tier"]);
        assert_eq!(report.opportunity_ids, [sales[1].clone(), sales[0].clone()], "newest first");
        assert_eq!((report.opportunity_count, report.order_count), (2, 0));
        assert_eq!(answer.client.unwrap().lead_ids, Vec::<String>::new());
    }

    async fn fields_that_are_named_are_overwritten_and_none_is_emptied(h: Harness) {
        let client = new_client(&h.sales, Lead {
            phone: "1".into(),
            fax: "1".into(),
            address: city("Paris"),
            custom_fields: [("a".into(), "1".into()), ("b".into(), "1".into()), ("c".into(), "1".into())].into(),
            ..person("Lovelace")
        }).await;
        let lead = create(&h.sales, Lead {
            phone: "2".into(),
            fax: "2".into(),
            custom_fields: [("a".into(), "2".into()), ("b".into(), "2".into())].into(),
            ..person("Byron")
        }).await;
        let paths = ["phone", "address", "vat_id", "custom_fields.a", "custom_fields.c"];
        let answer = h.sales.convert_into(&lead.id, &client.id, &paths).await.unwrap();
        let joined = answer.client.unwrap();
        assert_eq!((joined.phone.as_str(), joined.fax.as_str(), joined.last_name.as_str()), ("2", "1", "Lovelace"));
        assert_eq!(joined.address, city("Paris"), "the lead has none");
        assert_eq!(joined.custom_fields, [("a".into(), "2".into()), ("b".into(), "1".into()), ("c".into(), "1".into())].into());
        assert_eq!(outcomes(&answer.report.unwrap()), [
            "K last_name", "C phone", "K fax", "C custom_fields.a", "K custom_fields.b",
        ]);

        let other = create(&h.sales, Lead {
            fax: "3".into(),
            custom_fields: [("b".into(), "3".into())].into(),
            ..person("King")
        }).await;
        let answer = h.sales.convert_into(&other.id, &client.id, &["*"]).await.unwrap();
        let joined = answer.client.unwrap();
        assert_eq!((joined.phone.as_str(), joined.fax.as_str(), joined.last_name.as_str()), ("2", "3", "King"));
        assert_eq!(joined.custom_fields, [("a".into(), "2".into()), ("b".into(), "3".into()), ("c".into(), "1".into())].into());
        assert_eq!(joined.lead_ids, [lead.id, other.id], "in the order in which they were joined");
    }

    async fn custom_fields_beyond_the_limit_are_dropped(h: Harness) {
        let full = (0..99).map(|n| (format!("k{n}"), "1".to_owned())).collect();
        let client = new_client(&h.sales, Lead { custom_fields: full, ..person("Lovelace") }).await;
        let more = [("a".into(), "2".into()), ("b".into(), "2".into()), ("k7".into(), "2".into())].into();
        let lead = create(&h.sales, Lead { custom_fields: more, ..person("Lovelace") }).await;
        let answer = h.sales.convert_into(&lead.id, &client.id, &["custom_fields.k7"]).await.unwrap();
        assert_eq!(outcomes(&answer.report.unwrap()), [
            "K last_name", "C custom_fields.a", "D custom_fields.b", "C custom_fields.k7",
        ]);
        let joined = answer.client.unwrap().custom_fields;
        assert_eq!((joined.len(), joined["a"].as_str(), joined["k7"].as_str()), (100, "2", "2"));
    }

    async fn who_cannot_be_joined_to_or_not_any_more(h: Harness) {
        let client = new_client(&h.sales, person("Client")).await;
        let open = create(&h.sales, person("Open")).await;
        let joined = create(&h.sales, person("Joined")).await;
        h.sales.convert_into(&joined.id, &client.id, &[]).await.unwrap();
        let gone = new_client(&h.sales, person("Gone")).await;
        h.admin.erase(&gone.id).await.unwrap();
        let lead = create(&h.sales, person("Lead")).await;
        let convert = async |id: &str, client_id: &str| h.sales.convert_into(id, client_id, &["phone"]).await.unwrap_err();
        for (client_id, expected, code) in [
            (NOBODY, "CLIENT_NOT_FOUND", Code::NotFound),
            (&open.id, "CLIENT_NOT_FOUND", Code::NotFound),
            (&joined.id, "CLIENT_NOT_FOUND", Code::NotFound),
            (&gone.id, "LEAD_ERASED", Code::FailedPrecondition),
        ] {
            for paths in [&[][..], &["email"][..]] {
                let refused = h.sales.convert_into(&lead.id, client_id, paths).await.unwrap_err();
                assert_eq!((reason(&refused).as_str(), refused.code()), (expected, code), "{refused:?}");
                if client_id == joined.id {
                    assert_eq!(metadata(&refused, "client_id"), client.id);
                    assert_eq!(metadata(&refused, "lead_id"), joined.id);
                }
            }
        }
        // The lead's own state comes first.
        let refused = convert(&joined.id, NOBODY).await;
        assert_eq!((reason(&refused), metadata(&refused, "client_id")), ("LEAD_CONVERTED".into(), client.id.clone()));
        assert_eq!(reason(&convert(NOBODY, &client.id).await), "LEAD_NOT_FOUND");
        h.sales.deactivate(&open.id).await.unwrap();
        assert_eq!(reason(&convert(&open.id, &client.id).await), "LEAD_DEACTIVATED");
        let mut stale = convert_into(&lead.id, &client.id, &["email"]);
        stale.etag = "\"9\"".into();
        assert_eq!(reason(&h.sales.leads().convert(stale).await.unwrap_err()), "ETAG_MISMATCH");

        // What is wrong with the request, all at once.
        let mut wrong = convert_into("x", "y", &["email", "state", "nickname"]);
        wrong.request_id = "z".into();
        let refused = h.sales.leads().convert(wrong).await.unwrap_err();
        let fields: Vec<String> = violations(&refused).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["request_id", "id", "client_id", "overwrite.paths[1]", "overwrite.paths[2]"]);
        let refused = convert(&lead.id, "").await;
        assert_eq!(violations(&refused)[0].0, "overwrite");
        let refused = convert(&lead.id, &lead.id).await;
        assert_eq!(violations(&refused)[0].0, "client_id");
        assert_eq!(h.viewer.get(&lead.id).await, lead, "nothing happened to it");
    }

    async fn nothing_is_done_to_a_joined_lead(h: Harness) {
        let client = new_client(&h.sales, person("Client")).await;
        let lead = create(&h.sales, person("Lead")).await;
        let lead = h.sales.convert_into(&lead.id, &client.id, &[]).await.unwrap().lead.unwrap();
        let phone = Lead { id: lead.id.clone(), phone: "1".into(), ..Lead::default() };
        for refused in [
            h.sales.update(phone, &["phone"]).await.unwrap_err(),
            h.sales.deactivate(&lead.id).await.unwrap_err(),
            h.sales.reactivate(&lead.id).await.unwrap_err(),
            h.sales.convert(&lead.id).await.unwrap_err(),
        ] {
            assert_eq!(reason(&refused), "LEAD_CONVERTED");
            assert_eq!(metadata(&refused, "client_id"), client.id);
        }
        // Its opportunities and orders go on, and say which client it is.
        let sale = h.sales.create_sale(&lead.id, "Engine").await;
        h.sales.win(&sale.id).await.unwrap();
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let ran = h.sales.run(&order.id, "provision-client").await.unwrap();
        assert!(ran.run.unwrap().no_change);
        assert_eq!(ran.client.unwrap(), h.viewer.client(&client.id).await.unwrap());
        assert_eq!((ran.lead.unwrap(), ran.report), (lead, None));
    }
}

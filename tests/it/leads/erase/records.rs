//! What remains after an erasure: history, orders, opportunities, runs and events without personal data.
//! The lead is still listed and cannot be found by search.

use leadsmith_proto as proto;
use sea_orm::{ConnectionTrait, Statement};

use super::{Known, known, person};
use crate::on_both;

on_both! {
    async fn what_happened_stays(h: Harness) {
        let Known { lead, order, opportunity, .. } = known(&h).await;
        let before = h.viewer.history(&lead.id).await;
        let erased = h.admin.erase(&lead.id).await.unwrap();
        let after = h.viewer.history(&lead.id).await;
        assert_eq!(after.len(), before.len() + 1);
        assert_eq!(after[0].rpc, "leadsmith.v1.LeadService/Erase");
        assert_eq!(after[0].actor.as_ref().unwrap().id, h.admin.id.to_string());
        let fields: Vec<&str> = after[0].changes.iter().map(|c| c.field.as_str()).collect();
        assert!(fields.contains(&"email") && fields.contains(&"custom_fields.tier"), "{fields:?}");
        for (then, now) in before.iter().zip(&after[1..]) {
            assert_eq!((&then.id, &then.time, &then.actor, &then.rpc),
                       (&now.id, &now.time, &now.actor, &now.rpc));
            for (then, now) in then.changes.iter().zip(&now.changes) {
                assert_eq!(then.field, now.field);
                if ["state", "owner_id"].contains(&then.field.as_str()) {
                    assert_eq!(then, now);
                } else {
                    assert_eq!((now.old_value.as_str(), now.new_value.as_str()), ("", ""));
                }
            }
        }
        let request = proto::GetOrderRequest { id: order.id.clone() };
        let left = h.viewer.orders().get(request).await.unwrap().into_inner().order.unwrap();
        assert_eq!(left.items[0].description, "");
        assert_eq!(left.items[0].quantity, 3);
        assert_eq!(left.actions[0].name, "");
        assert_eq!(left.actions[0].key, "provision");
        let request = proto::GetOpportunityRequest { id: opportunity.id };
        let view = h.viewer.opportunities().get(request).await.unwrap().into_inner();
        let left = view.opportunity.unwrap();
        assert_eq!((left.name.as_str(), left.description.as_str()), ("", ""));
        assert_eq!((left.probability, left.lead_display_name.as_str()), (Some(40), ""));
        assert_ne!(left.etag, opportunity.etag);
        let close = left.close.unwrap();
        assert_eq!((close.reason.as_str(), close.actor.unwrap().id), ("", h.sales.id.to_string()));
        let order_id = order.id.clone();
        let request = proto::ListRunsRequest { order_id: order.id, ..Default::default() };
        let runs = h.viewer.orders().list_runs(request).await.unwrap().into_inner().runs;
        assert_eq!((runs[0].error_reason.as_str(), runs[0].error_message.as_str()),
                   ("LEAD_DEACTIVATED", ""));

        // Every record with a new version has a history row and an event for it.
        for (table, subject) in [("orders", "ORDER"), ("opportunities", "OPPORTUNITY")] {
            let rows = format!(
                "SELECT count(*) FROM {table} t JOIN history h ON h.subject_id = t.id AND \
                 h.version = t.version JOIN events e ON e.subject_id = t.id AND \
                 e.version = t.version WHERE h.subject = '{subject}' AND h.lead_id = t.lead_id \
                 AND h.rpc = 'leadsmith.v1.LeadService/Erase' AND e.type LIKE '%.erased'"
            );
            assert_eq!(h.count(&rows).await, 1, "{table}");
        }

        // The erasure has one event, and the earlier events have no content left.
        let events = "SELECT count(*) FROM events WHERE type = 'lead.erased'";
        assert_eq!(h.count(events).await, 1);
        let db = h.database.connect().await;
        let sql = "SELECT CAST(record AS text) FROM events \
                   WHERE lead_id IN (SELECT id FROM leads) ORDER BY seq";
        let statement = Statement::from_string(db.get_database_backend(), sql);
        let rows = db.query_all_raw(statement).await.unwrap();
        let records: Vec<serde_json::Value> = rows
            .iter()
            .map(|row| serde_json::from_str(&row.try_get_by_index::<String>(0).unwrap()).unwrap())
            .collect();
        let (others, last) = records.split_at(records.len() - 3);
        assert_eq!(last[0]["lead"]["id"], erased.id.as_str());
        assert_eq!(last[0]["lead"]["erasure"]["actor"]["id"], h.admin.id.to_string());
        assert_eq!(last[1]["opportunity"]["name"], "");
        assert_eq!(last[2]["order"]["id"], order_id.as_str());
        assert!(others.iter().all(|record| *record == serde_json::json!({ "erased": true })));
    }

    async fn who_was_found_before_is_found_no_more_and_still_listed(h: Harness) {
        let Known { lead, .. } = known(&h).await;
        h.admin.erase(&lead.id).await.unwrap();
        for query in ["Lovelaceford", "second-mail", "ngine", "ov", "555"] {
            let request = proto::SearchLeadsRequest { query: query.into(), ..Default::default() };
            let found = h.viewer.leads().search(request).await.unwrap().into_inner().leads;
            assert_eq!(found, Vec::new(), "{query}");
        }
        let request = proto::ListLeadsRequest {
            states: vec![proto::LeadState::Converted.into()],
            ..Default::default()
        };
        let listed = h.viewer.leads().list(request).await.unwrap().into_inner().leads;
        assert!(listed[0].erasure.is_some());
        // The email is free again.
        h.sales.create(person("")).await.unwrap();
    }
}

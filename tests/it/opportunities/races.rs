//! Concurrent changes of opportunities: none is lost.

use leadsmith_proto::{Opportunity, OpportunityOutcome};
use tokio::task::JoinSet;

use super::create_complete;
use crate::harness::{close, reason};
use crate::on_both;

/// How many callers change the same things.
const CALLERS: usize = 64;

/// A field with a value of its own for each of the opportunities.
fn change(id: &str, field: usize, number: usize) -> (Opportunity, &'static str) {
    let mut change = Opportunity {
        id: id.into(),
        ..Opportunity::default()
    };
    let text = format!("text {number}");
    let path = match field {
        0 => {
            change.name = text;
            "name"
        }
        1 => {
            change.next_step = text;
            "next_step"
        }
        2 => {
            change.description = text;
            "description"
        }
        3 => {
            change.probability = i32::try_from(number % 100).ok();
            "probability"
        }
        4 => {
            change.expected_close_date = format!("2027-01-{:02}", 1 + number % 28);
            "expected_close_date"
        }
        _ => {
            change.stage = 4;
            "stage"
        }
    };
    (change, path)
}

on_both! {
    async fn of_updates_of_different_fields_none_is_lost(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let other = h.sales.create_lead("Hopper").await;
        let mut sales = Vec::new();
        for number in 0..8 {
            let lead = if number % 2 == 0 { &lead } else { &other };
            sales.push(create_complete(&h, &lead.id).await);
        }
        let mut calls = JoinSet::new();
        for (number, sale) in sales.iter().enumerate() {
            for field in 0..6 {
                let (caller, (change, path)) = (h.sales.clone(), change(&sale.id, field, number));
                calls.spawn(async move { caller.update_sale(change, &[path]).await.map(|_| ()) });
            }
            // Changes of their leads, in the same batches.
            let (caller, id) = (h.sales.clone(), sale.lead_id.clone());
            calls.spawn(async move {
                let key = format!("custom_fields.k{number}");
                let mut change = leadsmith_proto::Lead { id, ..Default::default() };
                change.custom_fields.insert(format!("k{number}"), "set".into());
                caller.update(change, &[&key]).await.map(|_| ())
            });
        }
        for outcome in calls.join_all().await {
            outcome.unwrap();
        }
        for (number, before) in sales.iter().enumerate() {
            let after = h.viewer.get_sale(&before.id).await;
            let mut expected = before.clone();
            expected.name = format!("text {number}");
            expected.next_step = format!("text {number}");
            expected.description = format!("text {number}");
            expected.probability = i32::try_from(number).ok();
            expected.expected_close_date = format!("2027-01-{:02}", 1 + number);
            expected.stage = 4;
            expected.etag = "\"7\"".into();
            expected.update_time = after.update_time;
            assert_eq!(after, expected);
            assert_eq!(h.viewer.sale_history(&before.id).await.len(), 7);
        }
        for id in [&lead.id, &other.id] {
            assert_eq!(h.viewer.get(id).await.custom_fields.len(), 4);
        }
    }

    async fn of_many_who_close_one_succeeds(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        let mut calls = JoinSet::new();
        for number in 0..CALLERS {
            let (caller, id) = (h.sales.clone(), sale.id.clone());
            calls.spawn(async move {
                let outcome = [OpportunityOutcome::Won, OpportunityOutcome::Lost][number % 2];
                caller.opportunities().close(close(&id, outcome)).await
            });
        }
        let outcomes = calls.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(reason(refused), "OPPORTUNITY_CLOSED");
        }
        assert_eq!(h.viewer.get_sale(&sale.id).await.etag, "\"2\"");
        assert_eq!(h.viewer.sale_history(&sale.id).await.len(), 2);
    }

    async fn a_mix_of_everything_ends_in_a_state_that_the_history_explains(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        let mut calls = JoinSet::new();
        for number in 0..CALLERS {
            let (caller, id, lead_id) = (h.sales.clone(), sale.id.clone(), lead.id.clone());
            calls.spawn(async move {
                match number % 5 {
                    0 => caller.win(&id).await.map(|_| ()),
                    1 => caller.lose(&id, "No budget").await.map(|_| ()),
                    2 => caller.reopen(&id).await.map(|_| ()),
                    3 if number % 2 == 0 => caller.deactivate(&lead_id).await.map(|_| ()),
                    3 => caller.reactivate(&lead_id).await.map(|_| ()),
                    _ => {
                        let (change, path) = change(&id, 1, number);
                        caller.update_sale(change, &[path]).await.map(|_| ())
                    }
                }
            });
        }
        for outcome in calls.join_all().await {
            let documented =
                ["OPPORTUNITY_CLOSED", "OPPORTUNITY_OPEN", "LEAD_DEACTIVATED", "LEAD_NOT_DEACTIVATED"];
            if let Err(status) = outcome {
                assert!(documented.contains(&reason(&status).as_str()), "{status:?}");
            }
        }
        // Replaying the history, oldest first, must never lead to a contradiction.
        let mut entries = h.viewer.sale_history(&sale.id).await;
        entries.reverse();
        let mut values = std::collections::BTreeMap::new();
        for change in entries.iter().flat_map(|entry| &entry.changes) {
            let before = values.insert(change.field.as_str(), change.new_value.as_str());
            assert_eq!(before.unwrap_or_default(), change.old_value, "{}", change.field);
        }
        let after = h.viewer.get_sale(&sale.id).await;
        assert_eq!(after.state().as_str_name(), format!("OPPORTUNITY_STATE_{}", values["state"]));
        assert_eq!(after.stage().as_str_name(), format!("OPPORTUNITY_STAGE_{}", values["stage"]));
        assert_eq!(after.next_step, values["next_step"]);
        assert_eq!(after.etag, format!("\"{}\"", entries.len()));
        let events = h.count("SELECT count(*) FROM events WHERE type LIKE 'opportunity.%'").await;
        assert_eq!(usize::try_from(events).unwrap(), entries.len());
    }
}

//! The stored data of a change are proportional to the change, not to the record. A retry still gets the same
//! response, byte for byte.

use leadsmith_proto as proto;
use leadsmith_proto::{
    self, ActionType, ConvertLeadRequest, DeactivateLeadRequest, Lead, Order, OrderAction,
    OrderItem, RunActionRequest, UpdateLeadRequest,
};
use prost::Message;
use tonic::Response;
use uuid::Uuid;

use crate::harness::{Caller, Harness, close, reason, sale_update, update};
use crate::on_both;

/// A lead of about 400 KB: 100 different custom fields of 4,000 bytes.
async fn large(caller: &Caller) -> Lead {
    let mut lead = caller.create_lead("Large").await;
    for first in (0..100).step_by(10) {
        let mut change = Lead {
            id: lead.id.clone(),
            ..Lead::default()
        };
        let mut paths = Vec::new();
        for n in first..first + 10 {
            change.custom_fields.insert(format!("key{n:02}"), value(n));
            paths.push(format!("custom_fields.key{n:02}"));
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        lead = caller.update(change, &paths).await.unwrap();
    }
    assert!(lead.encoded_len() > 400_000);
    lead
}

/// 4,000 bytes that compress badly.
fn value(n: usize) -> String {
    let mut value = String::new();
    while value.len() < 4_000 {
        for byte in leadsmith::core::clock::random_256_bits() {
            value.push_str(&format!("{byte:02x}"));
        }
    }
    value.truncate(3_996);
    format!("{n:04}{value}")
}

fn request_id() -> String {
    Uuid::now_v7().to_string()
}

/// The stored size of history, events and kept responses, in bytes.
async fn kept(h: &Harness) -> i64 {
    h.count(
        "SELECT CAST((SELECT coalesce(sum(length(CAST(changes AS text))), 0) FROM history) \
         + (SELECT coalesce(sum(length(CAST(record AS text))), 0) FROM events) \
         + (SELECT coalesce(sum(length(response)), 0) FROM idempotency_records) AS bigint)",
    )
    .await
}

/// How many bytes a change added.
async fn cost<T>(h: &Harness, change: impl Future<Output = T>) -> (i64, T) {
    let before = kept(h).await;
    let answer = change.await;
    (kept(h).await - before, answer)
}

fn bytes(answer: Result<Response<impl Message>, tonic::Status>) -> Vec<u8> {
    answer.unwrap().into_inner().encode_to_vec()
}

fn small_update(lead: &Lead) -> UpdateLeadRequest {
    let mut request = update(
        Lead {
            id: lead.id.clone(),
            source: "s".repeat(75),
            ..Lead::default()
        },
        &["source"],
    );
    request.request_id = request_id();
    request
}

on_both! {
    async fn a_small_update_of_a_large_lead_keeps_little(h: Harness) {
        let lead = large(&h.sales).await;
        let request = small_update(&lead);
        let (added, _) = cost(&h, async { h.sales.leads().update(request).await.unwrap() }).await;
        println!("an update of 75 bytes of a lead of 400 KB adds {added} bytes");
        assert!(added < 6_000, "{added} bytes");

        let request = DeactivateLeadRequest {
            id: lead.id.clone(),
            request_id: request_id(),
            ..Default::default()
        };
        let (added, _) = cost(&h, async { h.sales.leads().deactivate(request).await.unwrap() }).await;
        assert!(added < 6_000, "{added} bytes");
        h.sales.reactivate(&lead.id).await.unwrap();

        // One custom field: its new value, and the old and new value in the history and in the event.
        let mut change = Lead { id: lead.id.clone(), ..Lead::default() };
        change.custom_fields.insert("key07".into(), value(7));
        let mut request = update(change, &["custom_fields.key07"]);
        request.request_id = request_id();
        let (added, _) = cost(&h, async { h.sales.leads().update(request).await.unwrap() }).await;
        assert!((16_000..24_000).contains(&added), "{added} bytes");
    }

    async fn a_repeat_is_answered_byte_for_byte_whatever_changed_since(h: Harness) {
        let another = h.another_server(|_| {}).await;
        let callers = [h.sales.clone(), h.sales.at(&another)];
        let lead = large(&h.sales).await;
        let first = small_update(&lead);
        let answer = bytes(h.sales.leads().update(first.clone()).await);
        for n in 0..3 {
            for caller in &callers {
                assert_eq!(bytes(caller.leads().update(first.clone()).await), answer, "{n}");
            }
            // Fields of the response are changed, removed and set again, and other fields are added in between.
            let mut change = Lead { id: lead.id.clone(), ..Lead::default() };
            change.custom_fields.insert("key00".into(), value(n));
            change.custom_fields.insert(format!("between{n}"), value(n));
            let gone = format!("custom_fields.key{:02}", 50 + n);
            let between = format!("custom_fields.between{n}");
            let paths = ["custom_fields.key00", &between, &gone, "custom_fields.key99"];
            if n == 1 {
                change.custom_fields.insert("key99".into(), "short".into());
            }
            // At most 100 in one call.
            h.sales.update(change, &paths).await.unwrap();
        }
        // More changes than are read in one query.
        for n in 0..120 {
            let mut change = Lead { id: lead.id.clone(), ..Lead::default() };
            change.custom_fields.insert("key01".into(), format!("{n} and again, and again {n}"));
            h.sales.update(change, &["custom_fields.key01"]).await.unwrap();
        }
        for caller in &callers {
            assert_eq!(bytes(caller.leads().update(first.clone()).await), answer);
        }
        // With another body it is another call.
        let other = UpdateLeadRequest { validate_only: true, ..first.clone() };
        let status = h.sales.leads().update(other).await.unwrap_err();
        assert_eq!(reason(&status), "REQUEST_ID_REUSED");

        let convert = ConvertLeadRequest {
            id: lead.id.clone(),
            request_id: request_id(),
            ..Default::default()
        };
        let (added, converted) = cost(&h, async {
            bytes(h.sales.leads().convert(convert.clone()).await)
        }).await;
        assert!(converted.len() > 700_000, "the lead and its client");
        assert!(added < 12_000, "{added} bytes");
        for caller in &callers {
            assert_eq!(bytes(caller.leads().convert(convert.clone()).await), converted);
            assert_eq!(bytes(caller.leads().update(first.clone()).await), answer);
        }
        h.admin.erase(&lead.id).await.unwrap();
        for caller in &callers {
            let status = caller.leads().update(first.clone()).await.unwrap_err();
            assert_eq!(reason(&status), "LEAD_ERASED");
            let status = caller.leads().convert(convert.clone()).await.unwrap_err();
            assert_eq!(reason(&status), "LEAD_ERASED");
        }
    }

    async fn closing_a_large_opportunity_keeps_little(h: Harness) {
        let lead = large(&h.sales).await;
        let sale = h.sales.create_sale(&lead.id, "Large").await;
        let text = |path: &str, text: String| {
            let mut change = proto::Opportunity { id: sale.id.clone(), ..Default::default() };
            match path {
                "description" => change.description = text,
                _ => change.next_step = text,
            }
            let mut request = sale_update(change, &[path]);
            request.request_id = request_id();
            request
        };
        let long = "é".repeat(4_096);
        let describe = text("description", long.clone());
        let described = bytes(h.sales.opportunities().update(describe.clone()).await);
        assert!(described.len() > 8_192);
        let close = proto::CloseOpportunityRequest {
            request_id: request_id(),
            reason: "No budget".into(),
            ..close(&sale.id, proto::OpportunityOutcome::Lost)
        };
        let (added, closed) = cost(&h, async {
            bytes(h.sales.opportunities().close(close.clone()).await)
        }).await;
        assert!(closed.len() > 8_192);
        assert!(added < 3_000, "{added} bytes");
        h.sales.reopen(&sale.id).await.unwrap();
        let next = text("next_step", "x".repeat(500));
        let (added, stepped) = cost(&h, async {
            bytes(h.sales.opportunities().update(next.clone()).await)
        }).await;
        // The old and the new value, in the history and in the event.
        assert!(added < 4_000, "{added} bytes");
        for described_as in ["", "another description, which is not short", &long] {
            let change = text("description", described_as.into());
            h.sales.opportunities().update(change).await.unwrap();
            let change = text("next_step", "a step that is not short, and then another one".into());
            h.sales.opportunities().update(change).await.unwrap();
            let change = text("next_step", String::new());
            h.sales.opportunities().update(change).await.unwrap();
            let mut calls = h.sales.opportunities();
            assert_eq!(bytes(calls.update(describe.clone()).await), described);
            assert_eq!(bytes(calls.close(close.clone()).await), closed);
            assert_eq!(bytes(calls.update(next.clone()).await), stepped);
        }
        h.admin.erase(&lead.id).await.unwrap();
        let status = h.sales.opportunities().close(close).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED");
    }

    async fn running_an_action_of_a_large_order_keeps_little(h: Harness) {
        let lead = large(&h.sales).await;
        let action = |key: &str, r#type: ActionType| OrderAction {
            key: key.into(),
            name: format!("an action with a name that is not short: {key}"),
            r#type: r#type.into(),
            ..Default::default()
        };
        let items = (0..100).map(|n| OrderItem {
            description: value(n)[..450].to_owned(),
            quantity: 1,
            unit_price: None,
        });
        let request = proto::CreateOrderRequest {
            order: Some(Order {
                lead_id: lead.id.clone(),
                items: items.collect(),
                actions: vec![
                    action("by-hand", ActionType::Manual),
                    action("provision", ActionType::ProvisionClient),
                ],
                ..Default::default()
            }),
            ..Default::default()
        };
        let order = h.sales.orders().create(request).await.unwrap().into_inner().order.unwrap();
        for key in ["by-hand", "provision"] {
            let request = RunActionRequest {
                order_id: order.id.clone(),
                action: key.into(),
                request_id: request_id(),
                ..Default::default()
            };
            let (added, answer) = cost(&h, async {
                bytes(h.sales.orders().run_action(request.clone()).await)
            }).await;
            assert!(answer.len() > 440_000, "the order and its lead");
            assert!(added < 16_000, "{key}: {added} bytes");
            assert_eq!(bytes(h.sales.orders().run_action(request).await), answer);
        }
    }
}

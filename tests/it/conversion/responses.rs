//! Retries of conversions: the stored response contains the data of two leads, and is the same byte for byte.

use leadsmith_proto::{self as proto, Lead};
use prost::Message;

use super::orders::order_into;
use super::{create, new_client, person};
use crate::harness::{Harness, convert_into, reason};
use crate::on_both;

const REQUEST_ID: &str = "5d6f52a5-8a3f-4b0c-9c61-6a0f0a4c2f11";

/// Custom fields of this many kilobytes.
fn much(word: &str, kilobytes: usize) -> std::collections::BTreeMap<String, String> {
    let texts = (0..kilobytes).map(|n| (format!("{word}{n}"), word.repeat(1024 / word.len())));
    texts.collect()
}

/// A client and a lead, each with much text.
async fn large(h: &Harness) -> (String, String) {
    let client = Lead {
        custom_fields: much("client", 40),
        ..person("Client")
    };
    let lead = Lead {
        custom_fields: much("leadtext", 30),
        ..person("Lead")
    };
    let client = new_client(&h.sales, client).await;
    (create(&h.sales, lead).await.id, client.id)
}

on_both! {
    async fn a_retry_gets_the_same_bytes_whatever_became_of_both(h: Harness) {
        let (lead, client) = large(&h).await;
        let request = proto::ConvertLeadRequest { request_id: REQUEST_ID.into(), ..convert_into(&lead, &client, &[]) };
        let convert = async || {
            let answer = h.sales.leads().convert(request.clone()).await;
            answer.map(|answer| answer.into_inner().encode_to_vec())
        };
        let first = convert().await.unwrap();
        assert!(first.len() > 100_000, "{}", first.len());
        assert_eq!(convert().await.unwrap(), first);
        // Stored without the texts that the records have.
        let length = h.count("SELECT CAST(max(length(response)) AS bigint) FROM idempotency_records").await;
        assert!(length < 20_000, "{length}");
        h.sales.revert(&lead).await.unwrap();
        assert_eq!(convert().await.unwrap(), first);
        let other = create(&h.sales, Lead { custom_fields: much("client", 40), ..person("Other") }).await;
        h.sales.convert_into(&other.id, &client, &["*"]).await.unwrap();
        assert_eq!(convert().await.unwrap(), first);
    }

    async fn a_run_of_an_order_is_retried_like_that_too(h: Harness) {
        let (lead, client) = large(&h).await;
        let order = order_into(&h.sales, &lead, &client, Vec::new()).await.unwrap().order.unwrap();
        let request = proto::RunActionRequest {
            order_id: order.id,
            action: "provision-client".into(),
            request_id: REQUEST_ID.into(),
            ..Default::default()
        };
        let run = async || {
            let answer = h.sales.orders().run_action(request.clone()).await;
            answer.map(|answer| answer.into_inner().encode_to_vec())
        };
        let first = run().await.unwrap();
        let length = h.count("SELECT CAST(max(length(response)) AS bigint) FROM idempotency_records").await;
        assert!(length < 20_000, "{length} of {}", first.len());
        assert_eq!(run().await.unwrap(), first);
        h.admin.erase(&client).await.unwrap();
        let refused = run().await.unwrap_err();
        assert_eq!(reason(&refused), "LEAD_ERASED", "the response contained the client");
    }

    async fn a_response_is_erased_with_either_of_its_leads(h: Harness) {
        for erased in 0..2 {
            let (lead, client) = (create(&h.sales, person("Lead")).await.id, new_client(&h.sales, person("Client")).await.id);
            let request = proto::ConvertLeadRequest {
                request_id: uuid::Uuid::now_v7().to_string(),
                ..convert_into(&lead, &client, &[])
            };
            h.sales.leads().convert(request.clone()).await.unwrap();
            // Even if they belong together no longer.
            h.sales.revert(&lead).await.unwrap();
            h.admin.erase([&lead, &client][erased]).await.unwrap();
            let refused = h.sales.leads().convert(request).await.unwrap_err();
            assert_eq!(reason(&refused), "LEAD_ERASED");
            let state = h.viewer.get(&lead).await.state();
            assert_eq!(state, proto::LeadState::Open, "it is not made again");
        }
    }
}

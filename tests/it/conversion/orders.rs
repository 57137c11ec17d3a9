//! Orders that name a client: their Provision Client action joins the lead to it.

use leadsmith_proto::{self as proto, Lead, Order, OrderAction};
use tonic::Status;

use super::{create, new_client, outcomes, person};
use crate::harness::{Caller, metadata, reason, violations};
use crate::on_both;

fn action(key: &str, r#type: proto::ActionType, automatic: bool, after: &[&str]) -> OrderAction {
    OrderAction {
        key: key.into(),
        r#type: r#type.into(),
        automatic,
        prerequisites: after.iter().map(|key| (*key).to_owned()).collect(),
        ..OrderAction::default()
    }
}

fn provision(automatic: bool, after: &[&str]) -> OrderAction {
    action(
        "provision-client",
        proto::ActionType::ProvisionClient,
        automatic,
        after,
    )
}

pub async fn order_into(
    caller: &Caller,
    lead_id: &str,
    client_id: &str,
    actions: Vec<OrderAction>,
) -> Result<proto::CreateOrderResponse, Status> {
    let request = proto::CreateOrderRequest {
        order: Some(Order {
            lead_id: lead_id.into(),
            client_id: client_id.into(),
            actions,
            ..Order::default()
        }),
        ..Default::default()
    };
    let answer = caller.orders().create(request).await?;
    Ok(answer.into_inner())
}

on_both! {
    async fn the_action_of_an_order_joins_the_lead_to_its_client(h: Harness) {
        let client = new_client(&h.sales, person("Client")).await;
        let lead = create(&h.sales, Lead { phone: "1".into(), ..person("Lead") }).await;
        let created = order_into(&h.sales, &lead.id, &client.id, Vec::new()).await.unwrap();
        let order = created.order.unwrap();
        assert_eq!((order.client_id.as_str(), created.client, created.report), (client.id.as_str(), None, None));
        assert_eq!(h.viewer.client(&client.id).await.unwrap(), client, "not yet");
        let before = [h.count("SELECT count(*) FROM history").await, h.count("SELECT count(*) FROM events").await];

        let request = proto::RunActionRequest {
            order_id: order.id.clone(),
            action: "provision-client".into(),
            validate_only: true,
            ..Default::default()
        };
        let checked = h.sales.orders().run_action(request).await.unwrap().into_inner();
        let ran = h.sales.run(&order.id, "provision-client").await.unwrap();
        let (after, joined) = (ran.lead.unwrap(), ran.client.unwrap());
        let conversion = after.conversion.clone().unwrap();
        assert_eq!((conversion.client_id.as_str(), conversion.order_id.as_str()), (client.id.as_str(), order.id.as_str()));
        assert_eq!((joined.id.as_str(), joined.phone.as_str(), joined.lead_ids.as_slice()), (client.id.as_str(), "1", &[lead.id.clone()][..]));
        assert_eq!(h.viewer.get(&lead.id).await, after);
        assert_eq!(h.viewer.client(&client.id).await.unwrap(), joined);
        let report = ran.report.unwrap();
        assert_eq!(outcomes(&report), ["K last_name", "C phone"]);
        assert_eq!((report.order_ids.as_slice(), report.order_count), (&[order.id.clone()][..], 1));
        assert_eq!(checked.report.unwrap(), report);
        let rows = [h.count("SELECT count(*) FROM history").await, h.count("SELECT count(*) FROM events").await];
        assert_eq!(rows, [before[0] + 2, before[1] + 2], "one of the lead, and one of the client");
    }

    async fn an_automatic_action_joins_it_at_once(h: Harness) {
        let client = new_client(&h.sales, person("Client")).await;
        let lead = create(&h.sales, Lead { phone: "1".into(), ..person("Lead") }).await;
        let created = order_into(&h.sales, &lead.id, &client.id, vec![provision(true, &[])]).await.unwrap();
        let joined = created.client.unwrap();
        assert_eq!((joined.id.as_str(), joined.phone.as_str()), (client.id.as_str(), "1"));
        assert_eq!(created.lead.unwrap().conversion.unwrap().client_id, client.id);
        let report = created.report.unwrap();
        let order_id = created.order.unwrap().id;
        assert_eq!((report.order_ids.as_slice(), report.order_count), (&[order_id][..], 1), "this one too");

        // Also when another action, a skip or a move makes it ready.
        let manual = || action("check", proto::ActionType::Manual, false, &[]);
        for way in 0..2 {
            let lead = create(&h.sales, person("Later")).await;
            let actions = vec![manual(), provision(true, &["check"])];
            let order = order_into(&h.sales, &lead.id, &client.id, actions).await.unwrap().order.unwrap();
            if way == 0 {
                let ran = h.sales.run(&order.id, "check").await.unwrap();
                assert!(ran.report.is_some());
                assert_eq!(ran.client.unwrap().id, client.id);
            } else {
                let request = proto::SkipActionRequest {
                    order_id: order.id,
                    action: "check".into(),
                    ..Default::default()
                };
                let skipped = h.sales.orders().skip_action(request).await.unwrap().into_inner();
                assert_eq!(skipped.client.unwrap().id, client.id);
            }
            assert_eq!(h.viewer.get(&lead.id).await.conversion.unwrap().client_id, client.id);
        }
        assert_eq!(h.viewer.client(&client.id).await.unwrap().lead_ids.len(), 3);
    }

    async fn an_order_names_only_a_client_that_takes_leads(h: Harness) {
        let client = new_client(&h.sales, person("Client")).await;
        let open = create(&h.sales, person("Open")).await;
        let joined = create(&h.sales, person("Joined")).await;
        h.sales.convert_into(&joined.id, &client.id, &[]).await.unwrap();
        let gone = new_client(&h.sales, person("Gone")).await;
        h.admin.erase(&gone.id).await.unwrap();
        let lead = create(&h.sales, person("Lead")).await;
        for (client_id, expected) in [
            (open.id.as_str(), "CLIENT_NOT_FOUND"),
            ("01900000-0000-7000-8000-000000000009", "CLIENT_NOT_FOUND"),
            (&joined.id, "CLIENT_NOT_FOUND"),
            (&gone.id, "LEAD_ERASED"),
        ] {
            let refused = order_into(&h.sales, &lead.id, client_id, Vec::new()).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        for (client_id, field) in [(lead.id.as_str(), "order.client_id"), ("x", "order.client_id")] {
            let refused = order_into(&h.sales, &lead.id, client_id, Vec::new()).await.unwrap_err();
            assert_eq!(violations(&refused)[0].0, field);
        }
        assert_eq!(h.count("SELECT count(*) FROM orders").await, 0);
    }

    async fn a_client_that_takes_no_lead_any_more_makes_the_run_fail(h: Harness) {
        for way in 0..2 {
            let client = new_client(&h.sales, person("Client")).await;
            let lead = create(&h.sales, person("Lead")).await;
            let order = order_into(&h.sales, &lead.id, &client.id, Vec::new()).await.unwrap().order.unwrap();
            let expected = if way == 0 {
                h.admin.erase(&client.id).await.unwrap();
                "LEAD_ERASED"
            } else {
                h.sales.revert(&client.id).await.unwrap();
                "CLIENT_NOT_FOUND"
            };
            let refused = h.sales.run(&order.id, "provision-client").await.unwrap_err();
            assert_eq!(reason(&refused), expected);
            assert_eq!(metadata(&refused, "order_etag"), "\"2\"");
            let request = proto::ListRunsRequest { order_id: order.id.clone(), ..Default::default() };
            let runs = h.viewer.orders().list_runs(request).await.unwrap().into_inner().runs;
            assert_eq!((runs.len(), runs[0].outcome(), runs[0].error_reason.as_str()),
                       (1, proto::RunOutcome::Failed, expected));
            assert_eq!(h.viewer.get(&lead.id).await, lead, "the lead is as it was");
        }
    }
}

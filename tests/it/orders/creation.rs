//! OrderService.Create: default values, and rejected ones.

use leadsmith_proto as proto;
use leadsmith_proto::{
    self, ActionState, CreateOrderRequest, LeadState, Money, Opportunity, Order, OrderAction,
    OrderItem, OrderState, RunOutcome,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    DEFAULT_QUEUE, MANUAL, NOBODY, PROVISION, action, automatic, create, get, processing, runs,
    states, written,
};
use crate::harness::{Caller, reason};
use crate::on_both;

async fn opportunity(caller: &Caller, lead_id: &str) -> Opportunity {
    let request = proto::CreateOpportunityRequest {
        opportunity: Some(Opportunity {
            lead_id: lead_id.into(),
            name: "Hosting".into(),
            ..Opportunity::default()
        }),
        ..Default::default()
    };
    let answer = caller.opportunities().create(request).await.unwrap();
    answer.into_inner().opportunity.unwrap()
}

fn item(description: &str, quantity: i64, price: Option<Money>) -> OrderItem {
    OrderItem {
        description: description.into(),
        quantity,
        unit_price: price,
    }
}

fn euros(units: i64, nanos: i32) -> Option<Money> {
    Some(Money {
        currency_code: "EUR".into(),
        units,
        nanos,
    })
}

/// The fields with violations in an error, each once, in alphabetical order.
fn fields(outcome: Result<Order, Status>) -> Vec<String> {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status), "FIELD_INVALID");
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    let mut fields: Vec<String> = violations
        .iter()
        .map(|violation| violation.field.clone())
        .collect();
    fields.sort_unstable();
    fields.dedup();
    fields
}

on_both! {
    async fn an_order_without_actions_provisions_the_client(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let expected = Order {
            id: order.id.clone(),
            lead_id: lead.id.clone(),
            state: OrderState::Processing.into(),
            actions: vec![OrderAction {
                name: "Provision Client".into(),
                ..action("provision-client", PROVISION, &[])
            }],
            etag: "\"1\"".into(),
            create_time: order.create_time,
            update_time: order.create_time,
            queue_id: DEFAULT_QUEUE.into(),
            step: "processing".into(),
            steps: vec![processing()],
            ..Order::default()
        };
        assert_eq!(order, expected);
        assert_eq!(get(&h.viewer, &order.id).await, order);
        assert_eq!(runs(&h.viewer, &order.id).await, []);
        assert_eq!(written(&h, &lead.id).await.events, ["lead.created", "order.created"]);
        assert_eq!(h.viewer.get(&lead.id).await, lead, "the lead is as it was");
    }

    async fn an_order_keeps_what_it_was_created_with(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = opportunity(&h.sales, &lead.id).await;
        let given = Order {
            // Values of output-only fields are ignored.
            id: NOBODY.into(),
            state: OrderState::Complete.into(),
            etag: "\"7\"".into(),
            lead_id: lead.id.clone(),
            opportunity_id: sale.id.clone(),
            items: vec![
                item("  Server ", 3, euros(49, 990_000_000)),
                item("Discount", 1_000_000_000, euros(-5, -500_000_000)),
                item(&"x".repeat(500), 1, None),
            ],
            actions: vec![
                OrderAction { state: ActionState::Done.into(), ..action("invoice", MANUAL, &[]) },
                action("provision-client", PROVISION, &["invoice", "invoice"]),
            ],
            ..Order::default()
        };
        let order = create(&h.sales, given.clone()).await.unwrap();
        let mut expected = Order {
            id: order.id.clone(),
            state: OrderState::Processing.into(),
            etag: "\"1\"".into(),
            create_time: order.create_time,
            update_time: order.create_time,
            queue_id: DEFAULT_QUEUE.into(),
            step: "processing".into(),
            steps: vec![processing()],
            ..given
        };
        expected.items[0].description = "Server".into();
        expected.actions[0].state = ActionState::Pending.into();
        expected.actions[1].prerequisites = vec!["invoice".into()];
        assert_ne!(order.id, NOBODY);
        assert_eq!(order, expected);
        assert_eq!(get(&h.viewer, &order.id).await, order);
    }

    async fn an_order_that_is_only_checked_is_not_there(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let request = CreateOrderRequest {
            order: Some(Order {
                lead_id: lead.id.clone(),
                actions: vec![automatic("provision-client", PROVISION, &[])],
                ..Order::default()
            }),
            validate_only: true,
            ..Default::default()
        };
        let before = written(&h, &lead.id).await;
        let order = h.sales.orders().create(request).await.unwrap().into_inner().order.unwrap();
        assert_eq!((order.id.as_str(), order.etag.as_str(), order.create_time), ("", "", None));
        assert_eq!(states(&order), [ActionState::Pending], "nothing ran");
        assert_eq!(written(&h, &lead.id).await, before);
        assert_eq!(h.viewer.get(&lead.id).await, lead);
    }

    async fn everything_wrong_with_an_order_is_told_at_once(h: Harness) {
        let bad = Order {
            lead_id: "lead".into(),
            opportunity_id: "sale".into(),
            items: vec![
                item(" ", 0, euros(1, -1)),
                item(&"x".repeat(501), 1_000_000_001, Some(Money { currency_code: "eur".into(), units: 0, nanos: 0 })),
                item("a\u{0}b", -1, None),
            ],
            actions: vec![
                action("Invoice", MANUAL, &[]),
                action("", MANUAL, &[]),
                action(&"x".repeat(65), MANUAL, &[]),
                action("ship", MANUAL, &[]),
                action("ship", MANUAL, &[]),
                action("bill", MANUAL, &["post"]),
                OrderAction { r#type: 0, ..action("kind", MANUAL, &[]) },
                OrderAction { r#type: 4, ..action("kinds", MANUAL, &[]) },
                OrderAction { name: "x".repeat(201), ..action("name", MANUAL, &[]) },
            ],
            ..Order::default()
        };
        assert_eq!(
            fields(create(&h.sales, bad).await),
            [
                "order.actions[0].key",
                "order.actions[1].key",
                "order.actions[2].key",
                "order.actions[4].key",
                "order.actions[5].prerequisites[0]",
                "order.actions[6].type",
                "order.actions[7].type",
                "order.actions[8].name",
                "order.items[0].description",
                "order.items[0].quantity",
                "order.items[0].unit_price.nanos",
                "order.items[1].description",
                "order.items[1].quantity",
                "order.items[1].unit_price.currency_code",
                "order.items[2].description",
                "order.items[2].quantity",
                "order.lead_id",
                "order.opportunity_id",
            ]
        );
        let nothing = h.sales.orders().create(CreateOrderRequest::default()).await;
        assert_eq!(
            fields(nothing.map(|_| Order::default())),
            ["order", "order.lead_id"]
        );
    }

    async fn keys_are_slugs_of_1_to_64_characters(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = |key: &str| Order {
            lead_id: lead.id.clone(),
            actions: vec![action(key, MANUAL, &[])],
            ..Order::default()
        };
        for key in ["a", "0", "-", "send-invoice-2", &"x".repeat(64)] {
            let created = create(&h.sales, order(key)).await.unwrap();
            assert_eq!(created.actions[0].key, key);
        }
        for key in ["", "A", "a_b", "a b", " a", "é", "a.b", "a\n", &"x".repeat(65)] {
            assert_eq!(fields(create(&h.sales, order(key)).await), ["order.actions[0].key"], "{key:?}");
        }
    }

    async fn actions_that_wait_for_each_other_are_refused(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = |actions: &[(&str, &[&str])]| Order {
            lead_id: lead.id.clone(),
            actions: actions.iter().map(|(key, after)| action(key, MANUAL, after)).collect(),
            ..Order::default()
        };
        let circles: [&[(&str, &[&str])]; 4] = [
            &[("a", &["a"])],
            &[("a", &["b"]), ("b", &["a"])],
            &[("a", &["c"]), ("b", &["a"]), ("c", &["b"])],
            &[("free", &[]), ("a", &["free", "b"]), ("b", &["a"]), ("end", &["b"])],
        ];
        for circle in circles {
            assert_eq!(fields(create(&h.sales, order(circle)).await), ["order.actions"], "{circle:?}");
        }
        // A diamond is not a cycle.
        let diamond: &[(&str, &[&str])] =
            &[("d", &["b", "c"]), ("c", &["a"]), ("b", &["a"]), ("a", &[])];
        create(&h.sales, order(diamond)).await.unwrap();
        assert_eq!(written(&h, &lead.id).await.events, ["lead.created", "order.created"]);
    }

    async fn an_order_has_at_most_100_items_and_50_actions(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = |items: usize, actions: usize| Order {
            lead_id: lead.id.clone(),
            items: vec![item("Server", 1, None); items],
            actions: (0..actions).map(|index| action(&format!("a{index}"), MANUAL, &[])).collect(),
            ..Order::default()
        };
        let largest = create(&h.sales, order(100, 50)).await.unwrap();
        assert_eq!((largest.items.len(), largest.actions.len()), (100, 50));
        assert_eq!(fields(create(&h.sales, order(101, 51)).await), ["order.actions", "order.items"]);
    }

    async fn an_order_is_of_a_lead_that_exists_and_its_own_opportunity(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let other = h.sales.create_lead("Hopper").await;
        let others = opportunity(&h.sales, &other.id).await;
        for opportunity_id in [others.id.as_str(), NOBODY] {
            let order = Order {
                lead_id: lead.id.clone(),
                opportunity_id: opportunity_id.into(),
                ..Order::default()
            };
            assert_eq!(fields(create(&h.sales, order).await), ["order.opportunity_id"]);
        }
        let order = Order { lead_id: NOBODY.into(), ..Order::default() };
        let status = create(&h.sales, order).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
        let order = Order { lead_id: lead.id.clone(), ..Order::default() };
        let status = create(&h.viewer, order).await.unwrap_err();
        assert_eq!(reason(&status), "ROLE_INSUFFICIENT");
        assert_eq!(written(&h, &lead.id).await.events, ["lead.created"]);
    }

    async fn automatic_actions_run_at_the_creation(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("call", MANUAL, &[]),
            automatic("invoice", MANUAL, &["provision"]),
            automatic("provision", PROVISION, &[]),
            automatic("thank", MANUAL, &["call"]),
        ]).await;
        use ActionState::{Done, Pending};
        assert_eq!(states(&order), [Pending, Done, Done, Pending]);
        assert_eq!(order.state(), OrderState::Processing);
        assert_eq!(order.etag, "\"1\"");
        assert_eq!(get(&h.viewer, &order.id).await, order);

        let client = h.viewer.get(&lead.id).await;
        assert_eq!(client.state(), LeadState::Converted);
        let conversion = client.conversion.unwrap();
        assert_eq!(conversion.order_id, order.id);
        assert_eq!(conversion.actor.unwrap().id, h.sales.id.to_string());

        let ledger = runs(&h.viewer, &order.id).await;
        let summary: Vec<_> = ledger
            .iter()
            .map(|run| (run.action.as_str(), run.outcome(), run.automatic, run.no_change))
            .collect();
        let done = RunOutcome::Succeeded;
        assert_eq!(summary, [("invoice", done, true, false), ("provision", done, true, false)]);
        assert!(ledger.iter().all(|run| run.actor.as_ref().unwrap().id == h.sales.id.to_string()));

        let after = written(&h, &lead.id).await;
        assert_eq!(after.events, ["lead.created", "order.created", "lead.converted"]);
        assert_eq!((after.runs, after.lead_history, after.order_history), (2, 2, 1));
    }

    async fn an_order_with_nothing_left_to_do_is_complete_at_once(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let actions = vec![automatic("a", MANUAL, &[]), automatic("b", MANUAL, &["a"])];
        let order = h.sales.create_order(&lead.id, actions).await;
        assert_eq!(order.state(), OrderState::Complete);
        assert_eq!(states(&order), [ActionState::Done; 2]);
        assert_eq!(h.viewer.get(&lead.id).await, lead);
    }

    async fn an_automatic_action_on_a_deactivated_lead_fails_and_waits(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let lead = h.sales.deactivate(&lead.id).await.unwrap();
        let order = h.sales.create_order(&lead.id, vec![
            automatic("provision", PROVISION, &[]),
            automatic("invoice", MANUAL, &["provision"]),
        ]).await;
        assert_eq!(states(&order), [ActionState::Failed, ActionState::Pending]);
        assert_eq!(order.state(), OrderState::Processing);
        assert_eq!(h.viewer.get(&lead.id).await, lead, "the lead is untouched");
        let ledger = runs(&h.viewer, &order.id).await;
        assert_eq!(ledger.len(), 1);
        assert_eq!(ledger[0].outcome(), RunOutcome::Failed);
        assert_eq!(ledger[0].error_reason, "LEAD_DEACTIVATED");
        assert!(ledger[0].automatic);

        // Reactivating runs no action. After a person runs one, the actions that depend on it run automatically.
        h.sales.reactivate(&lead.id).await.unwrap();
        assert_eq!(get(&h.viewer, &order.id).await, order);
        let ran = h.sales.run(&order.id, "provision").await.unwrap();
        let run = ran.run.unwrap();
        assert_eq!((run.outcome(), run.automatic), (RunOutcome::Succeeded, false));
        let order = ran.order.unwrap();
        assert_eq!(states(&order), [ActionState::Done; 2]);
        assert_eq!(order.state(), OrderState::Complete);
        assert_eq!(ran.lead.unwrap().state(), LeadState::Converted);
    }

    async fn creating_an_order_answers_with_what_ran_and_with_the_lead(h: Harness) {
        let create = async |lead_id: &str, actions: Vec<OrderAction>, validate_only: bool| {
            let order = Some(Order { lead_id: lead_id.into(), actions, ..Order::default() });
            let request = CreateOrderRequest { order, validate_only, ..Default::default() };
            h.sales.orders().create(request).await.unwrap().into_inner()
        };
        let nothing = h.sales.create_lead("Hopper").await;
        let answer = create(&nothing.id, Vec::new(), false).await;
        assert_eq!((answer.runs, answer.lead, answer.client), (vec![], Some(nothing), None));

        let lead = h.sales.create_lead("Lovelace").await;
        let actions = || vec![
            automatic("provision", PROVISION, &[]),
            automatic("invoice", MANUAL, &["provision"]),
        ];
        let checked = create(&lead.id, actions(), true).await;
        assert_eq!((checked.runs, checked.lead, checked.client), (vec![], Some(lead.clone()), None));

        let answer = create(&lead.id, actions(), false).await;
        let order = answer.order.unwrap();
        let mut ledger = runs(&h.viewer, &order.id).await;
        ledger.reverse();
        assert_eq!(answer.runs, ledger);
        assert_eq!(ledger.len(), 2);
        let converted = answer.lead.unwrap();
        assert_eq!(converted.state(), LeadState::Converted);
        assert_eq!(h.viewer.get(&lead.id).await, converted);
        assert_eq!(answer.client.unwrap().conversion, converted.conversion);

        let away = h.sales.create_lead("Turing").await;
        let away = h.sales.deactivate(&away.id).await.unwrap();
        let answer = create(&away.id, actions(), false).await;
        let [failed] = answer.runs.as_slice() else { panic!("{:?}", answer.runs) };
        assert_eq!((failed.action.as_str(), failed.outcome()), ("provision", RunOutcome::Failed));
        assert_eq!(failed.error_reason, "LEAD_DEACTIVATED");
        assert!(failed.error_message.contains("Reactivate it first"), "{failed:?}");
        assert_eq!(runs(&h.viewer, &failed.order_id).await, answer.runs);
        assert_eq!((answer.lead, answer.client), (Some(away), None));
    }
}

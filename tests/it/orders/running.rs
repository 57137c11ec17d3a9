//! OrderService.RunAction: what a run that succeeds changes, automatic actions, and `validate_only`.

use leadsmith_proto::{
    self as proto, ActionState, LeadState, ListOpportunitiesRequest, Opportunity, Order,
    OrderState, PrincipalKind, RunOutcome,
};

use super::{MANUAL, NOBODY, PROVISION, action, automatic, get, runs, states, written};
use crate::harness::reason;
use crate::on_both;

on_both! {
    async fn provisioning_an_open_lead_converts_it_all_at_once(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let before = written(&h, &lead.id).await;
        let ran = h.sales.run(&order.id, "provision-client").await.unwrap();

        let (after, run) = (ran.order.unwrap(), ran.run.unwrap());
        assert_eq!(after.state(), OrderState::Complete);
        assert_eq!(states(&after), [ActionState::Done]);
        assert_eq!(after.etag, "\"2\"");
        let moment = |order: &Order| order.update_time.map(|time| (time.seconds, time.nanos));
        assert!(moment(&after) > moment(&order));
        assert_eq!(get(&h.viewer, &order.id).await, after);
        assert_eq!(run.outcome(), RunOutcome::Succeeded);
        assert_eq!((run.no_change, run.automatic), (false, false));
        assert_eq!((run.error_reason.as_str(), run.error_message.as_str()), ("", ""));
        assert_eq!(run.actor.as_ref().unwrap().id, h.sales.id.to_string());
        assert_eq!(runs(&h.viewer, &order.id).await, [run]);

        let converted = ran.lead.unwrap();
        assert_eq!(converted.state(), LeadState::Converted);
        assert_eq!(h.viewer.get(&lead.id).await, converted);
        assert_eq!(ran.client.unwrap().conversion, converted.conversion);

        // There is one run, one history row of the lead and one event.
        let written = written(&h, &lead.id).await;
        assert_eq!(written.runs, before.runs + 1);
        assert_eq!(written.lead_history, before.lead_history + 1);
        assert_eq!(written.order_history, before.order_history);
        assert_eq!(written.events, ["lead.created", "order.created", "lead.converted"]);
        let history = h.viewer.history(&lead.id).await;
        assert_eq!(history.len(), 2);
        assert_eq!(history[0].rpc, "leadsmith.v1.OrderService/RunAction");
        let change = proto::FieldChange {
            field: "state".into(),
            old_value: "OPEN".into(),
            new_value: "CONVERTED".into(),
        };
        assert_eq!(history[0].changes, [change]);
    }

    async fn provisioning_a_client_again_succeeds_and_changes_nothing(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let converted = h.sales.convert(&lead.id).await.unwrap().lead.unwrap();
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let before = written(&h, &lead.id).await;
        let ran = h.sales.run(&order.id, "provision-client").await.unwrap();
        let run = ran.run.unwrap();
        assert_eq!((run.outcome(), run.no_change), (RunOutcome::Succeeded, true));
        let after = ran.order.unwrap();
        assert_eq!((after.state(), states(&after)), (OrderState::Complete, vec![ActionState::Done]));
        assert_eq!(ran.lead.unwrap(), converted);
        assert_eq!(ran.client.unwrap().id, lead.id);
        assert_eq!(h.viewer.get(&lead.id).await, converted);
        let written = written(&h, &lead.id).await;
        assert_eq!(written.runs, before.runs + 1);
        assert_eq!(written.lead_history, before.lead_history, "nothing about the lead");
        assert_eq!(written.order_history, before.order_history + 1);
        assert_eq!(written.events.last().unwrap(), "order.action_run");
        assert_eq!(written.events.len(), before.events.len() + 1);
    }

    async fn automatic_actions_follow_their_last_prerequisite(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("a", MANUAL, &[]),
            action("b", MANUAL, &[]),
            automatic("invoice", MANUAL, &["provision"]),
            automatic("provision", PROVISION, &["a", "b"]),
            action("thank", MANUAL, &["invoice"]),
        ]).await;
        use ActionState::{Done, Pending};
        let first = h.sales.run(&order.id, "a").await.unwrap();
        assert_eq!(states(&first.order.unwrap()), [Done, Pending, Pending, Pending, Pending]);
        assert_eq!(first.lead.unwrap(), lead, "a MANUAL action leaves the lead alone");
        assert_eq!(first.client, None);

        let ran = h.admin.run(&order.id, "b").await.unwrap();
        let after = ran.order.unwrap();
        assert_eq!(states(&after), [Done, Done, Done, Done, Pending]);
        assert_eq!((after.etag.as_str(), after.state()), ("\"3\"", OrderState::Processing));
        assert_eq!(ran.run.unwrap().action, "b", "the run is the one that was asked for");
        let converted = ran.lead.unwrap();
        assert_eq!(converted.state(), LeadState::Converted);
        assert_eq!(ran.client.unwrap().id, lead.id);
        assert_eq!(converted.conversion.unwrap().actor.unwrap().id, h.admin.id.to_string());

        let ledger = runs(&h.viewer, &order.id).await;
        let summary: Vec<_> = ledger
            .iter()
            .map(|run| (run.action.as_str(), run.automatic, run.actor.as_ref().unwrap().name.as_str()))
            .collect();
        assert_eq!(
            summary,
            [
                ("invoice", true, "admin"),
                ("provision", true, "admin"),
                ("b", false, "admin"),
                ("a", false, "sales"),
            ]
        );
        let after = written(&h, &lead.id).await;
        assert_eq!(
            after.events,
            ["lead.created", "order.created", "order.action_run", "lead.converted"]
        );
        let done = h.sales.run(&order.id, "thank").await.unwrap().order.unwrap();
        assert_eq!(done.state(), OrderState::Complete);
    }

    async fn an_automatic_action_that_fails_does_not_undo_the_run_before_it(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("call", MANUAL, &[]),
            automatic("provision", PROVISION, &["call"]),
        ]).await;
        let lead = h.sales.deactivate(&lead.id).await.unwrap();
        let ran = h.sales.run(&order.id, "call").await.unwrap();
        let after = ran.order.unwrap();
        assert_eq!(states(&after), [ActionState::Done, ActionState::Failed]);
        assert_eq!(after.state(), OrderState::Processing);
        assert_eq!(ran.run.unwrap().outcome(), RunOutcome::Succeeded);
        assert_eq!(ran.lead.unwrap(), lead);
        let ledger = runs(&h.viewer, &order.id).await;
        let summary: Vec<_> = ledger
            .iter()
            .map(|run| (run.action.as_str(), run.outcome(), run.error_reason.as_str()))
            .collect();
        let failed = ("provision", RunOutcome::Failed, "LEAD_DEACTIVATED");
        assert_eq!(summary, [failed, ("call", RunOutcome::Succeeded, "")]);

        h.sales.reactivate(&lead.id).await.unwrap();
        let done = h.sales.run(&order.id, "provision").await.unwrap();
        assert_eq!(done.order.unwrap().state(), OrderState::Complete);
    }

    async fn a_service_account_runs_actions_in_its_own_name(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let billing = h.service_account("billing", leadsmith::core::role::Role::Sales).await;
        let run = billing.run(&order.id, "provision-client").await.unwrap().run.unwrap();
        let expected = proto::Principal {
            kind: PrincipalKind::ServiceAccount.into(),
            id: billing.id.to_string(),
            name: "billing".into(),
        };
        assert_eq!(run.actor, Some(expected));
    }

    async fn two_provisioning_actions_convert_a_lead_once(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("one", PROVISION, &[]),
            action("two", PROVISION, &[]),
        ]).await;
        let first = h.sales.run(&order.id, "two").await.unwrap();
        let second = h.sales.run(&order.id, "one").await.unwrap();
        assert_eq!((first.run.unwrap().no_change, second.run.unwrap().no_change), (false, true));
        assert_eq!(second.order.unwrap().state(), OrderState::Complete);
        assert_eq!(second.lead, first.lead);
        assert_eq!(written(&h, &lead.id).await.lead_history, 2);
    }

    async fn deactivating_and_reactivating_write_nothing_to_orders_or_opportunities(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("call", MANUAL, &[]),
            automatic("provision", PROVISION, &["call"]),
        ]).await;
        let request = proto::CreateOpportunityRequest {
            opportunity: Some(Opportunity {
                lead_id: lead.id.clone(),
                name: "Hosting".into(),
                ..Opportunity::default()
            }),
            ..Default::default()
        };
        let answer = h.sales.opportunities().create(request).await.unwrap();
        let sale = answer.into_inner().opportunity.unwrap();
        assert_eq!(sale.lead_display_name, "Lovelace");
        assert_eq!(sale.lead_state(), LeadState::Open);

        h.sales.deactivate(&lead.id).await.unwrap();
        for (state, next) in [(LeadState::Deactivated, true), (LeadState::Open, false)] {
            let expected = Opportunity { lead_state: state.into(), ..sale.clone() };
            let request = proto::GetOpportunityRequest { id: sale.id.clone() };
            let answer = h.viewer.opportunities().get(request).await.unwrap();
            assert_eq!(answer.into_inner().opportunity.unwrap(), expected);
            let request = ListOpportunitiesRequest::default();
            let answer = h.viewer.opportunities().list(request).await.unwrap();
            assert_eq!(answer.into_inner().opportunities, [expected]);
            assert_eq!(get(&h.viewer, &order.id).await, order);
            assert_eq!(runs(&h.viewer, &order.id).await, []);
            if next {
                h.sales.reactivate(&lead.id).await.unwrap();
            }
        }
        // The display name is the current name of the lead.
        let change = proto::Lead { first_name: "Ada".into(), ..h.viewer.get(&lead.id).await };
        h.sales.update(change, &["first_name"]).await.unwrap();
        let request = proto::GetOpportunityRequest { id: sale.id.clone() };
        let shown = h.viewer.opportunities().get(request).await.unwrap();
        let shown = shown.into_inner().opportunity.unwrap();
        assert_eq!(shown.lead_display_name, "Ada Lovelace");
        assert_eq!(shown.etag, sale.etag);
        let written = written(&h, &lead.id).await;
        assert_eq!(written.order_history, 1);
        assert_eq!(
            written.events,
            [
                "lead.created",
                "order.created",
                "opportunity.created",
                "lead.deactivated",
                "lead.reactivated",
                "lead.updated",
            ]
        );
    }

    async fn a_run_that_is_only_checked_changes_nothing(h: Harness) {
        let check = async |caller: &crate::harness::Caller, order_id: &str, action: &str, etag: &str| {
            let request = proto::RunActionRequest {
                order_id: order_id.into(),
                action: action.into(),
                etag: etag.into(),
                request_id: NOBODY.into(),
                validate_only: true,
                ..Default::default()
            };
            caller.orders().run_action(request).await.map(tonic::Response::into_inner)
        };
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("provision", PROVISION, &[]),
            action("post", MANUAL, &["provision"]),
            automatic("thank", MANUAL, &["provision"]),
        ]).await;
        let before = written(&h, &lead.id).await;
        let ran = check(&h.sales, &order.id, "provision", &order.etag).await.unwrap();
        use ActionState::{Done, Pending};
        let would_be = ran.order.unwrap();
        assert_eq!(states(&would_be), [Done, Pending, Done]);
        let as_it_is = Order { actions: order.actions.clone(), ..would_be };
        assert_eq!(as_it_is, order, "nothing else would change, and the etag has not");
        let run = ran.run.unwrap();
        assert_eq!((run.outcome(), run.id.as_str(), run.time), (RunOutcome::Succeeded, "", None));
        assert_eq!(run.action, "provision");
        let converted = ran.lead.unwrap();
        assert_eq!(converted.state(), LeadState::Converted);
        assert_eq!((&converted.etag, converted.update_time), (&lead.etag, lead.update_time));
        assert_eq!(ran.client.unwrap().conversion.unwrap().order_id, order.id);

        let away = h.sales.create_lead("Turing").await;
        let away = h.sales.deactivate(&away.id).await.unwrap();
        let waits = h.sales.create_order(&away.id, Vec::new()).await;
        for (order_id, action, etag, expected) in [
            ("x", "provision", "", "FIELD_INVALID"),
            (NOBODY, "provision", "", "ORDER_NOT_FOUND"),
            (order.id.as_str(), "nonsense", "", "ACTION_NOT_FOUND"),
            (&order.id, "provision", "\"9\"", "ETAG_MISMATCH"),
            (&order.id, "post", "", "ACTION_PREREQUISITE"),
            (&waits.id, "provision-client", "", "LEAD_DEACTIVATED"),
        ] {
            let refused = check(&h.sales, order_id, action, etag).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        let refused = check(&h.viewer, &order.id, "provision", "").await.unwrap_err();
        assert_eq!(reason(&refused), "ROLE_INSUFFICIENT");
        assert_eq!(written(&h, &lead.id).await, before);
        assert_eq!(runs(&h.viewer, &order.id).await, []);
        assert_eq!(runs(&h.viewer, &waits.id).await, [], "a refused run is not kept either");
        assert_eq!(get(&h.viewer, &order.id).await, order);
        assert_eq!(get(&h.viewer, &waits.id).await, waits);
        assert_eq!(h.viewer.get(&lead.id).await, lead);

        h.sales.cancel_order(&waits.id).await;
        let refused = check(&h.sales, &waits.id, "provision-client", "").await.unwrap_err();
        assert_eq!(reason(&refused), "ORDER_CANCELED");
        h.sales.run(&order.id, "provision").await.unwrap();
        let refused = check(&h.sales, &order.id, "provision", "").await.unwrap_err();
        assert_eq!(reason(&refused), "ACTION_DONE");
    }
}

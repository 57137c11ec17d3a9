//! OrderService.RunAction: every row of its table, the order of its checks, and its ledger.

use leadsmith::wire::proto::{
    self, ActionRun, ActionState, LeadState, ListOpportunitiesRequest, Opportunity, Order,
    OrderState, PrincipalKind, RunOutcome,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::{MANUAL, PROVISION, action, automatic, get, run_at, runs, states, store, written};
use crate::harness::{Harness, metadata, reason};
use crate::on_both;

const NOBODY: &str = "0190a5f2-0000-7000-8000-000000000000";

/// Refuses to be run for this reason; the attempt is in the ledger and nothing else has changed.
async fn assert_refused(h: &Harness, order: &Order, key: &str, expected: &str) -> tonic::Status {
    let lead = h.viewer.get(&order.lead_id).await;
    let before = (
        runs(&h.viewer, &order.id).await,
        written(h, &order.lead_id).await,
    );
    let status = h.sales.run(&order.id, key).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), expected);
    let details = status.get_error_details();
    let precondition = details.precondition_failure().unwrap();
    assert_eq!(precondition.violations[0].r#type, expected);

    let ledger = runs(&h.viewer, &order.id).await;
    assert_eq!(ledger.len(), before.0.len() + 1);
    assert_eq!(ledger[1..], before.0, "the ledger is only added to");
    let run = ActionRun {
        id: ledger[0].id.clone(),
        order_id: order.id.clone(),
        action: key.into(),
        time: ledger[0].time,
        actor: Some(proto::Principal {
            kind: PrincipalKind::Operator.into(),
            id: h.sales.id.to_string(),
            name: "sales".into(),
        }),
        outcome: RunOutcome::Failed.into(),
        no_change: false,
        automatic: false,
        error_reason: expected.into(),
        error_message: status.message().into(),
    };
    assert_eq!(ledger[0], run);
    assert!(ledger[0].time.is_some());

    let mut after = written(h, &order.lead_id).await;
    after.runs -= 1;
    assert_eq!(after, before.1, "neither history nor event");
    assert_eq!(
        h.viewer.get(&order.lead_id).await,
        lead,
        "the lead is untouched"
    );
    status
}

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

        // The run, the lead's history row and its event are one each.
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

    async fn provisioning_a_deactivated_lead_fails_and_can_be_repeated(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        h.sales.deactivate(&lead.id).await.unwrap();
        let status = assert_refused(&h, &order, "provision-client", "LEAD_DEACTIVATED").await;
        assert_eq!(metadata(&status, "current_state"), "DEACTIVATED");
        assert_eq!(metadata(&status, "allowed"), "Reactivate");
        assert_eq!(metadata(&status, "lead_id"), lead.id);
        let failed = get(&h.viewer, &order.id).await;
        assert_eq!(states(&failed), [ActionState::Failed]);
        assert_eq!(failed.state(), OrderState::Processing);
        assert_eq!(metadata(&status, "order_etag"), failed.etag);
        assert_ne!(failed.etag, order.etag);

        // Failing again changes nothing of an order whose action is FAILED already.
        let status = assert_refused(&h, &order, "provision-client", "LEAD_DEACTIVATED").await;
        assert_eq!(metadata(&status, "order_etag"), failed.etag);
        assert_eq!(get(&h.viewer, &order.id).await, failed);

        h.sales.reactivate(&lead.id).await.unwrap();
        let done = run_at(&h.sales, &order, "provision-client", &failed.etag).await.unwrap();
        assert_eq!((done.state(), states(&done)), (OrderState::Complete, vec![ActionState::Done]));
        assert_eq!(h.viewer.get(&lead.id).await.state(), LeadState::Converted);
        let outcomes: Vec<RunOutcome> =
            runs(&h.viewer, &order.id).await.iter().map(ActionRun::outcome).collect();
        let (failed, succeeded) = (RunOutcome::Failed, RunOutcome::Succeeded);
        assert_eq!(outcomes, [succeeded, failed, failed]);
    }

    async fn an_action_waits_for_its_prerequisites(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("a", MANUAL, &[]),
            action("b", MANUAL, &[]),
            action("provision", PROVISION, &["b", "a"]),
        ]).await;
        let status = assert_refused(&h, &order, "provision", "ACTION_PREREQUISITE").await;
        assert_eq!(metadata(&status, "prerequisites"), "a,b");
        assert_eq!(get(&h.viewer, &order.id).await, order, "the action is still PENDING");
        h.sales.run(&order.id, "a").await.unwrap();
        let status = assert_refused(&h, &order, "provision", "ACTION_PREREQUISITE").await;
        assert_eq!(metadata(&status, "prerequisites"), "b");
        h.sales.run(&order.id, "b").await.unwrap();
        let ran = h.sales.run(&order.id, "provision").await.unwrap();
        assert_eq!(ran.order.unwrap().state(), OrderState::Complete);
        assert_eq!(ran.lead.unwrap().state(), LeadState::Converted);
    }

    async fn a_failed_prerequisite_is_open_and_a_skipped_one_is_not(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("a", MANUAL, &[]),
            action("b", MANUAL, &["a"]),
        ]).await;
        for (state, refused) in [("FAILED", true), ("SKIPPED", false)] {
            let actions = format!(
                r#"[{{"key":"a","type":"MANUAL","name":"","automatic":false,"prerequisites":[],"state":"{state}"}},
                    {{"key":"b","type":"MANUAL","name":"","automatic":false,"prerequisites":["a"],"state":"PENDING"}}]"#
            );
            store(&h, &format!("actions = '{actions}'")).await;
            if refused {
                assert_refused(&h, &order, "b", "ACTION_PREREQUISITE").await;
            } else {
                let after = h.sales.run(&order.id, "b").await.unwrap().order.unwrap();
                assert_eq!(states(&after), [ActionState::Skipped, ActionState::Done]);
                assert_eq!(after.state(), OrderState::Complete, "nothing is PENDING or FAILED");
                let status = assert_refused(&h, &order, "a", "ACTION_DONE").await;
                assert_eq!(metadata(&status, "action_state"), "SKIPPED");
            }
        }
    }

    async fn an_action_is_done_once(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let done = h.sales.run(&order.id, "provision-client").await.unwrap().order.unwrap();
        let status = assert_refused(&h, &order, "provision-client", "ACTION_DONE").await;
        assert_eq!(metadata(&status, "action_state"), "DONE");
        assert_eq!(get(&h.viewer, &order.id).await, done);
    }

    async fn nothing_runs_in_a_canceled_order(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("a", MANUAL, &[]),
            action("b", MANUAL, &["a"]),
        ]).await;
        h.sales.run(&order.id, "a").await.unwrap();
        store(&h, "state = 'CANCELED'").await;
        let canceled = get(&h.viewer, &order.id).await;
        assert_eq!(canceled.state(), OrderState::Canceled);
        // Whatever the action's own state.
        for key in ["a", "b"] {
            assert_refused(&h, &order, key, "ORDER_CANCELED").await;
        }
        assert_eq!(get(&h.viewer, &order.id).await, canceled);
    }

    async fn what_is_not_there_is_not_found_and_not_in_the_ledger(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("b", MANUAL, &[]),
            action("a", MANUAL, &[]),
        ]).await;
        let status = h.sales.run(&order.id, "provision-client").await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "ACTION_NOT_FOUND"));
        assert_eq!(metadata(&status, "actions"), "b,a");
        let status = h.sales.run(NOBODY, "a").await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "ORDER_NOT_FOUND"));
        let request = proto::ListRunsRequest { order_id: NOBODY.into(), ..Default::default() };
        let status = h.viewer.orders().list_runs(request).await.unwrap_err();
        assert_eq!(reason(&status), "ORDER_NOT_FOUND");
        let request = proto::GetOrderRequest { id: NOBODY.into() };
        let status = h.viewer.orders().get(request).await.unwrap_err();
        assert_eq!(reason(&status), "ORDER_NOT_FOUND");
        assert_eq!(get(&h.viewer, &order.id).await, order);
    }

    async fn the_checks_come_in_their_order(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("first", MANUAL, &[]),
            action("provision", PROVISION, &["first"]),
        ]).await;
        h.sales.deactivate(&lead.id).await.unwrap();
        let request = |order_id: &str, action: &str, etag: &str| proto::RunActionRequest {
            order_id: order_id.into(),
            action: action.into(),
            etag: etag.into(),
            ..Default::default()
        };
        let refusal = async |caller: &crate::harness::Caller, request| {
            reason(&caller.orders().run_action(request).await.unwrap_err())
        };
        let stale = "\"7\"";
        let stranger = h.with_token("");
        assert_eq!(refusal(&stranger, request("x", "", stale)).await, "TOKEN_INVALID");
        assert_eq!(refusal(&h.viewer, request("x", "", stale)).await, "ROLE_INSUFFICIENT");
        assert_eq!(refusal(&h.viewer, request(NOBODY, "first", "")).await, "ROLE_INSUFFICIENT");
        assert_eq!(refusal(&h.sales, request("x", "", stale)).await, "FIELD_INVALID");
        assert_eq!(refusal(&h.sales, request(NOBODY, "first", stale)).await, "ORDER_NOT_FOUND");
        assert_eq!(refusal(&h.sales, request(&order.id, "last", stale)).await, "ACTION_NOT_FOUND");
        assert_eq!(refusal(&h.sales, request(&order.id, "provision", stale)).await, "ETAG_MISMATCH");
        assert_eq!(runs(&h.viewer, &order.id).await, [], "none of these was an attempt");
        // The prerequisite before the lead's state.
        let etag = &order.etag;
        assert_eq!(refusal(&h.sales, request(&order.id, "provision", etag)).await, "ACTION_PREREQUISITE");
        h.sales.run(&order.id, "first").await.unwrap();
        assert_eq!(refusal(&h.sales, request(&order.id, "provision", "")).await, "LEAD_DEACTIVATED");
        // What is done before what is open, and the cancellation before both.
        assert_eq!(refusal(&h.sales, request(&order.id, "first", "")).await, "ACTION_DONE");
        store(&h, "state = 'CANCELED'").await;
        assert_eq!(refusal(&h.sales, request(&order.id, "first", "")).await, "ORDER_CANCELED");
        assert_eq!(refusal(&h.sales, request(&order.id, "provision", stale)).await, "ETAG_MISMATCH");
    }

    async fn only_the_current_etag_runs_an_action(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("a", MANUAL, &[]),
            action("b", MANUAL, &[]),
        ]).await;
        let first = run_at(&h.sales, &order, "a", &order.etag).await.unwrap();
        assert_ne!(first.etag, order.etag);
        let status = run_at(&h.sales, &order, "b", &order.etag).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(metadata(&status, "etag"), first.etag);
        assert_eq!(get(&h.viewer, &order.id).await, first);
        let second = run_at(&h.sales, &order, "b", &first.etag).await.unwrap();
        assert_eq!(second.state(), OrderState::Complete);
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
        let billing = h.service_account("billing", leadsmith::auth::roles::Role::Sales).await;
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
        // The name is the lead's as it is now.
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

        store(&h, "state = 'CANCELED' WHERE lead_id IN (SELECT id FROM leads WHERE last_name = 'Turing')").await;
        let refused = check(&h.sales, &waits.id, "provision-client", "").await.unwrap_err();
        assert_eq!(reason(&refused), "ORDER_CANCELED");
        h.sales.run(&order.id, "provision").await.unwrap();
        let refused = check(&h.sales, &order.id, "provision", "").await.unwrap_err();
        assert_eq!(reason(&refused), "ACTION_DONE");
    }
}

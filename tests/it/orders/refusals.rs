//! OrderService.RunAction: the runs that are refused, the order of the checks, and what a refused run
//! leaves in the ledger.

use leadsmith_proto::{
    self as proto, ActionRun, ActionState, LeadState, Order, OrderState, PrincipalKind, RunOutcome,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::{MANUAL, NOBODY, PROVISION, action, get, run_at, runs, states, written};
use crate::harness::{Harness, metadata, reason};
use crate::on_both;

/// Running the action fails with this reason. The attempt is in the ledger and nothing else has changed.
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
        kind: proto::RunKind::Run.into(),
        ..ActionRun::default()
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

        // A second failure does not change an order whose action is FAILED already.
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
        let failed = proto::RunActionRequest {
            order_id: order.id.clone(),
            action: "a".into(),
            outcome: RunOutcome::Failed.into(),
            ..Default::default()
        };
        h.sales.orders().run_action(failed).await.unwrap();
        assert_refused(&h, &order, "b", "ACTION_PREREQUISITE").await;
        h.sales.skip(&order.id, "a").await.unwrap();
        let after = h.sales.run(&order.id, "b").await.unwrap().order.unwrap();
        assert_eq!(states(&after), [ActionState::Skipped, ActionState::Done]);
        assert_eq!(after.state(), OrderState::Complete, "nothing is PENDING or FAILED");
        let status = assert_refused(&h, &order, "a", "ACTION_DONE").await;
        assert_eq!(metadata(&status, "action_state"), "SKIPPED");
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
        let canceled = h.sales.cancel_order(&order.id).await;
        assert_eq!(canceled.state(), OrderState::Canceled);
        // In every state of the action.
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
        // The prerequisites are checked before the lead's state.
        let etag = &order.etag;
        assert_eq!(refusal(&h.sales, request(&order.id, "provision", etag)).await, "ACTION_PREREQUISITE");
        h.sales.run(&order.id, "first").await.unwrap();
        assert_eq!(refusal(&h.sales, request(&order.id, "provision", "")).await, "LEAD_DEACTIVATED");
        // The action's own state is checked before its prerequisites, and the order's state before both.
        assert_eq!(refusal(&h.sales, request(&order.id, "first", "")).await, "ACTION_DONE");
        h.sales.cancel_order(&order.id).await;
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
}

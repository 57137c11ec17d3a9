//! What people do to orders besides running actions: outcomes, notes, skips, cancellations and comments.

use leadsmith_proto as proto;
use leadsmith_proto::{
    ActionRun, ActionState, ActionType, LeadState, Order, OrderAction, OrderState, RunKind,
    RunOutcome,
};
use tonic::{Code, Status};

use super::steps::{from_queue, history, hosting};
use super::{MANUAL, NOBODY, PROVISION, action, automatic, get, runs, states, written};
use crate::harness::{Caller, metadata, reason, violations};
use crate::on_both;

fn skipping(order: &Order, action: &str) -> proto::SkipActionRequest {
    proto::SkipActionRequest {
        order_id: order.id.clone(),
        action: action.into(),
        reason: "not needed".into(),
        ..Default::default()
    }
}

async fn skip(
    caller: &Caller,
    order: &Order,
    action: &str,
) -> Result<proto::SkipActionResponse, Status> {
    Ok(caller
        .orders()
        .skip_action(skipping(order, action))
        .await?
        .into_inner())
}

async fn undo_skip(
    caller: &Caller,
    order: &Order,
    action: &str,
) -> Result<proto::UndoSkipResponse, Status> {
    let request = proto::UndoSkipRequest {
        order_id: order.id.clone(),
        action: action.into(),
        reason: "needed after all".into(),
        ..Default::default()
    };
    Ok(caller.orders().undo_skip(request).await?.into_inner())
}

async fn cancel(caller: &Caller, order: &Order) -> Result<proto::CancelOrderResponse, Status> {
    let request = proto::CancelOrderRequest {
        id: order.id.clone(),
        reason: "went elsewhere".into(),
        ..Default::default()
    };
    Ok(caller.orders().cancel(request).await?.into_inner())
}

async fn comment(
    caller: &Caller,
    order: &Order,
    text: &str,
) -> Result<proto::CommentOrderResponse, Status> {
    let request = proto::CommentOrderRequest {
        order_id: order.id.clone(),
        text: text.into(),
        ..Default::default()
    };
    Ok(caller.orders().comment(request).await?.into_inner())
}

/// A run with what the caller says of it.
fn report(order: &Order, action: &str, outcome: RunOutcome) -> proto::RunActionRequest {
    proto::RunActionRequest {
        order_id: order.id.clone(),
        action: action.into(),
        outcome: outcome.into(),
        note: "  the rack\r\nis full ".into(),
        reference: "TICKET-7".into(),
        ..Default::default()
    }
}

async fn run(
    caller: &Caller,
    request: proto::RunActionRequest,
) -> Result<proto::RunActionResponse, Status> {
    Ok(caller.orders().run_action(request).await?.into_inner())
}

/// The changed states of the newest change in the order's history.
async fn last_change(caller: &Caller, order: &Order) -> (String, Vec<String>) {
    history(caller, &order.id).await.pop().unwrap()
}

on_both! {
    async fn what_was_done_outside_is_recorded_with_its_outcome(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let external = OrderAction { r#type: ActionType::External.into(), ..action("bill", MANUAL, &["install"]) };
        let order = h.sales.create_order(&lead.id, vec![action("install", MANUAL, &[]), external]).await;
        let failed = run(&h.sales, report(&order, "install", RunOutcome::Failed)).await.unwrap();
        let entry = failed.run.unwrap();
        let expected = ActionRun {
            id: entry.id.clone(),
            order_id: order.id.clone(),
            action: "install".into(),
            time: entry.time,
            actor: entry.actor.clone(),
            outcome: RunOutcome::Failed.into(),
            kind: RunKind::Run.into(),
            note: "the rack\nis full".into(),
            reference: "TICKET-7".into(),
            ..ActionRun::default()
        };
        assert_eq!(entry, expected);
        assert_eq!(entry.actor.as_ref().unwrap().name, "sales");
        let after = failed.order.unwrap();
        assert_eq!((states(&after), after.etag.as_str()), (vec![ActionState::Failed, ActionState::Pending], "\"2\""));
        assert_eq!(last_change(&h.viewer, &order).await, (
            "RunAction".to_owned(), vec!["actions.install.state PENDING>FAILED".to_owned()],
        ));
        // A failed prerequisite is open.
        assert_eq!(reason(&h.sales.run(&order.id, "bill").await.unwrap_err()), "ACTION_PREREQUISITE");
        run(&h.sales, report(&order, "install", RunOutcome::Succeeded)).await.unwrap();
        let done = run(&h.sales, report(&order, "bill", RunOutcome::Unspecified)).await.unwrap();
        assert_eq!(done.order.unwrap().state(), OrderState::Complete);
        let ledger = runs(&h.viewer, &order.id).await;
        assert_eq!(ledger[0], done.run.unwrap());
        assert_eq!((ledger.len(), ledger[0].reference.as_str()), (4, "TICKET-7"));
    }

    async fn what_is_said_of_a_run_has_limits(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![action("a", MANUAL, &[]), action("sell", PROVISION, &[])]).await;
        let longest = proto::RunActionRequest {
            note: "é".repeat(1_000),
            reference: "é".repeat(200),
            ..report(&order, "a", RunOutcome::Failed)
        };
        run(&h.sales, longest.clone()).await.unwrap();
        let wrong = proto::RunActionRequest {
            outcome: 9,
            note: "é".repeat(1_001),
            reference: "a\u{1}".into(),
            ..longest
        };
        let refused = run(&h.sales, wrong).await.unwrap_err();
        let fields: Vec<String> = violations(&refused).into_iter().map(|found| found.0).collect();
        assert_eq!(fields, ["outcome", "note", "reference"]);
        // Whether a conversion fails is not for the caller to say.
        let refused = run(&h.sales, report(&order, "sell", RunOutcome::Failed)).await.unwrap_err();
        assert_eq!(violations(&refused)[0].0, "outcome");
        let sold = run(&h.sales, report(&order, "sell", RunOutcome::Succeeded)).await.unwrap();
        assert_eq!(sold.run.unwrap().note, "the rack\nis full");
        assert_eq!(sold.lead.unwrap().state(), LeadState::Converted);
    }

    async fn a_repeatable_action_runs_again_and_stays_done(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            OrderAction { repeatable: true, ..action("bill", MANUAL, &[]) },
            action("end", MANUAL, &["bill"]),
        ]).await;
        for outcome in [RunOutcome::Succeeded, RunOutcome::Succeeded, RunOutcome::Failed] {
            let ran = run(&h.sales, report(&order, "bill", outcome)).await.unwrap();
            assert_eq!(ran.run.unwrap().outcome(), outcome);
            assert_eq!(states(&ran.order.unwrap()), [ActionState::Done, ActionState::Pending]);
        }
        let done = h.sales.run(&order.id, "end").await.unwrap().order.unwrap();
        assert_eq!(done.state(), OrderState::Complete);
        // Also after the order is COMPLETE.
        let again = run(&h.sales, report(&order, "bill", RunOutcome::Succeeded)).await.unwrap();
        assert_eq!(again.order.unwrap().state(), OrderState::Complete);
        assert_eq!(runs(&h.viewer, &order.id).await.len(), 5);
        assert_eq!(reason(&h.sales.run(&order.id, "end").await.unwrap_err()), "ACTION_DONE");
    }

    async fn a_skipped_action_is_finished_and_the_order_goes_on(h: Harness) {
        use ActionState::{Done, Pending, Skipped};
        let queue = hosting(&h).await;
        let lead = h.sales.create_lead("Lovelace").await;
        let (order, _) = from_queue(&h.sales, &lead.id, &queue.id).await;
        // One of a later step, then the two that keep the order in the first.
        let early = skip(&h.sales, &order, "thank").await.unwrap();
        assert_eq!(states(&early.order.unwrap()), [Pending, Pending, Pending, Skipped]);
        let expected = ActionRun {
            id: early.runs[0].id.clone(),
            order_id: order.id.clone(),
            action: "thank".into(),
            time: early.runs[0].time,
            actor: early.runs[0].actor.clone(),
            outcome: RunOutcome::Succeeded.into(),
            kind: RunKind::Skip.into(),
            note: "not needed".into(),
            ..ActionRun::default()
        };
        assert_eq!(early.runs, [expected]);
        assert_eq!(early.lead.unwrap(), lead);
        skip(&h.sales, &order, "test").await.unwrap();
        let last = skip(&h.sales, &order, "install").await.unwrap();
        let after = last.order.unwrap();
        assert_eq!(states(&after), [Skipped, Skipped, Done, Skipped]);
        assert_eq!((after.step.as_str(), after.state()), ("end", OrderState::Complete));
        assert_eq!(get(&h.viewer, &order.id).await, after);
        let keys: Vec<_> = last.runs.iter().map(|run| (run.action.as_str(), run.kind(), run.automatic)).collect();
        assert_eq!(keys, [("install", RunKind::Skip, false), ("provision", RunKind::Run, true)]);
        assert_eq!(last.lead.unwrap().state(), LeadState::Converted);
        assert_eq!(written(&h, &lead.id).await.events[4..], ["order.action_skipped", "lead.converted"]);
        assert_eq!(last_change(&h.viewer, &order).await, ("SkipAction".to_owned(), vec![
            "actions.install.state PENDING>SKIPPED".to_owned(),
            "actions.provision.state PENDING>DONE".to_owned(),
            "step setup>end".to_owned(),
            "state PROCESSING>COMPLETE".to_owned(),
        ]));
        for (key, state) in [("install", "SKIPPED"), ("provision", "DONE")] {
            let refused = skip(&h.sales, &order, key).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ACTION_DONE"));
            assert_eq!(metadata(&refused, "action_state"), state);
        }
        assert_eq!(runs(&h.viewer, &order.id).await.len(), 4, "a refused skip is not in the ledger");
    }

    async fn a_skip_can_be_undone(h: Harness) {
        use ActionState::{Done, Failed, Pending, Skipped};
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("call", MANUAL, &[]),
            automatic("sell", PROVISION, &["call"]),
        ]).await;
        h.sales.deactivate(&lead.id).await.unwrap();
        let skipped = skip(&h.sales, &order, "sell").await.unwrap().order.unwrap();
        assert_eq!(states(&skipped), [Pending, Skipped]);
        let refused = undo_skip(&h.sales, &order, "call").await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ACTION_NOT_SKIPPED"));
        assert_eq!(metadata(&refused, "action_state"), "PENDING");
        let done = h.sales.run(&order.id, "call").await.unwrap().order.unwrap();
        assert_eq!(done.state(), OrderState::Complete);

        // It is ready, so it runs, and fails as its lead is away.
        let undone = undo_skip(&h.sales, &order, "sell").await.unwrap();
        let after = undone.order.unwrap();
        assert_eq!((after.state(), states(&after)), (OrderState::Processing, vec![Done, Failed]));
        let entries: Vec<_> = undone.runs.iter().map(|run| (run.kind(), run.outcome(), run.note.as_str())).collect();
        assert_eq!(entries, [
            (RunKind::UndoSkip, RunOutcome::Succeeded, "needed after all"),
            (RunKind::Run, RunOutcome::Failed, ""),
        ]);
        let (_, changed) = last_change(&h.viewer, &order).await;
        assert_eq!(changed, ["actions.sell.state SKIPPED>FAILED", "state COMPLETE>PROCESSING"]);
        skip(&h.sales, &order, "sell").await.unwrap();
        h.sales.reactivate(&lead.id).await.unwrap();
        let undone = undo_skip(&h.sales, &order, "sell").await.unwrap();
        assert_eq!((undone.order.unwrap().state(), undone.lead.unwrap().state()), (OrderState::Complete, LeadState::Converted));
    }

    async fn a_canceled_order_is_final(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![action("a", MANUAL, &[]), action("b", MANUAL, &[])]).await;
        h.sales.run(&order.id, "a").await.unwrap();
        let canceled = cancel(&h.sales, &order).await.unwrap();
        let after = canceled.order.unwrap();
        assert_eq!((after.state(), after.etag.as_str()), (OrderState::Canceled, "\"3\""));
        assert_eq!(get(&h.viewer, &order.id).await, after);
        let entry = canceled.run.unwrap();
        assert_eq!((entry.kind(), entry.note.as_str(), entry.action.as_str()), (RunKind::Cancel, "went elsewhere", ""));
        assert_eq!(runs(&h.viewer, &order.id).await[0], entry);
        assert_eq!(last_change(&h.viewer, &order).await, (
            "Cancel".to_owned(), vec!["state PROCESSING>CANCELED".to_owned()],
        ));
        assert_eq!(written(&h, &lead.id).await.events.last().unwrap(), "order.canceled");
        let move_to = proto::MoveOrderRequest { order_id: order.id.clone(), step: "x".into(), ..Default::default() };
        for refused in [
            cancel(&h.sales, &order).await.unwrap_err(),
            skip(&h.sales, &order, "b").await.unwrap_err(),
            undo_skip(&h.sales, &order, "b").await.unwrap_err(),
            h.sales.orders().r#move(move_to).await.unwrap_err(),
            h.sales.run(&order.id, "b").await.unwrap_err(),
        ] {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ORDER_CANCELED"));
        }
        comment(&h.sales, &order, "They may come back.").await.unwrap();
        let complete = h.sales.create_order(&lead.id, vec![action("a", MANUAL, &[])]).await;
        h.sales.run(&complete.id, "a").await.unwrap();
        assert_eq!(reason(&cancel(&h.sales, &complete).await.unwrap_err()), "ORDER_COMPLETE");
    }

    async fn a_comment_stands_in_the_ledger(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let commented = comment(&h.sales, &order, " Waits for the\r\nsignature. ").await.unwrap();
        let after = commented.order.unwrap();
        let expected = Order { etag: "\"2\"".into(), update_time: after.update_time, ..order.clone() };
        assert_eq!(after, expected);
        let entry = commented.run.unwrap();
        assert_eq!((entry.kind(), entry.note.as_str()), (RunKind::Comment, "Waits for the\nsignature."));
        assert_eq!(runs(&h.viewer, &order.id).await, [entry]);
        assert_eq!(last_change(&h.viewer, &order).await, (
            "Comment".to_owned(), vec!["comment >Waits for the\nsignature.".to_owned()],
        ));
        comment(&h.sales, &order, &"é".repeat(4_096)).await.unwrap();
        for wrong in ["", " \u{200b}", &"é".repeat(4_097)] {
            let refused = comment(&h.sales, &order, wrong).await.unwrap_err();
            assert_eq!(violations(&refused)[0].0, "text");
        }
        assert_eq!(runs(&h.viewer, &order.id).await.len(), 2);
    }

    async fn what_is_only_checked_changes_nothing(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, vec![
            action("call", MANUAL, &[]),
            automatic("sell", PROVISION, &["call"]),
        ]).await;
        let before = written(&h, &lead.id).await;
        let request = proto::SkipActionRequest { validate_only: true, ..skipping(&order, "call") };
        let checked = h.sales.orders().skip_action(request).await.unwrap().into_inner();
        let would_be = checked.order.unwrap();
        assert_eq!((would_be.state(), &would_be.etag), (OrderState::Complete, &order.etag));
        assert_eq!(would_be.update_time, order.update_time);
        assert!(checked.runs.iter().all(|run| run.id.is_empty() && run.time.is_none()));
        let converted = checked.lead.unwrap();
        assert_eq!((converted.state(), &converted.etag), (LeadState::Converted, &lead.etag));
        let request = proto::CancelOrderRequest { id: order.id.clone(), validate_only: true, ..Default::default() };
        let checked = h.sales.orders().cancel(request).await.unwrap().into_inner();
        assert_eq!(checked.order.unwrap().state(), OrderState::Canceled);
        let request = proto::CommentOrderRequest {
            order_id: order.id.clone(), text: "x".into(), validate_only: true, ..Default::default()
        };
        assert_eq!(h.sales.orders().comment(request).await.unwrap().into_inner().order.unwrap(), order);
        assert_eq!(written(&h, &lead.id).await, before);
        assert_eq!(get(&h.viewer, &order.id).await, order);
        assert_eq!(runs(&h.viewer, &order.id).await, []);
    }

    async fn the_checks_of_a_change_by_hand_come_in_their_order(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let refusal = async |caller: &Caller, order_id: &str, action: &str, etag: &str| {
            let request = proto::SkipActionRequest {
                order_id: order_id.into(), action: action.into(), etag: etag.into(), ..Default::default()
            };
            reason(&caller.orders().skip_action(request).await.unwrap_err())
        };
        let (stale, key) = ("\"7\"", "provision-client");
        assert_eq!(refusal(&h.with_token(""), "x", "", stale).await, "TOKEN_INVALID");
        assert_eq!(refusal(&h.viewer, "x", "", stale).await, "ROLE_INSUFFICIENT");
        assert_eq!(refusal(&h.sales, NOBODY, "", stale).await, "FIELD_INVALID");
        assert_eq!(refusal(&h.sales, NOBODY, key, stale).await, "ORDER_NOT_FOUND");
        assert_eq!(refusal(&h.sales, &order.id, "x", stale).await, "ACTION_NOT_FOUND");
        assert_eq!(refusal(&h.sales, &order.id, key, stale).await, "ETAG_MISMATCH");
        h.admin.erase(&lead.id).await.unwrap();
        cancel(&h.sales, &order).await.unwrap_err();
        assert_eq!(refusal(&h.sales, &order.id, key, "").await, "LEAD_ERASED");
        let refused = run(&h.sales, report(&order, key, RunOutcome::Unspecified)).await.unwrap_err();
        assert_eq!(reason(&refused), "LEAD_ERASED");
        assert_eq!(runs(&h.viewer, &order.id).await[0].note, "");
        assert_eq!(reason(&comment(&h.sales, &order, "said").await.unwrap_err()), "LEAD_ERASED");
    }

    async fn a_run_and_a_skip_that_race_finish_an_action_once(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        for _ in 0..4 {
            let order = h.sales.create_order(&lead.id, vec![action("a", MANUAL, &[])]).await;
            let (ran, skipped) = tokio::join!(h.sales.run(&order.id, "a"), skip(&h.admin, &order, "a"));
            assert!(ran.is_ok() != skipped.is_ok(), "{ran:?} {skipped:?}");
            let refused = ran.err().or(skipped.err()).unwrap();
            assert_eq!(reason(&refused), "ACTION_DONE");
        }
    }
}

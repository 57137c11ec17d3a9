//! Claims of EXTERNAL actions by workers: who gets an action, how a claim ends, and what is recorded of it.

mod workers;

use chrono::{DateTime, Duration, Utc};
use leadsmith_proto as proto;
use leadsmith_proto::{
    ActionRun, ActionState, ActionType, ClaimedRun, LeadState, Order, OrderAction, OrderState,
    RunKind, RunOutcome,
};
use tonic::{Code, Status};

use super::steps::{from_queue, history};
use super::{MANUAL, NOBODY, PROVISION, action, get, runs, states, written};
use crate::harness::{Caller, Harness, metadata, reason, violations};
use crate::on_both;
use crate::order_queues::{self, new, template};

/// Claims up to `max` of these actions in the queue `default`, for a minute.
fn claiming(actions: &[&str], max: i32) -> proto::ClaimActionsRequest {
    proto::ClaimActionsRequest {
        actions: actions.iter().map(|key| (*key).to_owned()).collect(),
        max,
        lease: Some(seconds(60)),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

async fn send(
    caller: &Caller,
    request: proto::ClaimActionsRequest,
) -> Result<Vec<ClaimedRun>, Status> {
    Ok(caller
        .orders()
        .claim_actions(request)
        .await?
        .into_inner()
        .runs)
}

async fn claim(caller: &Caller, actions: &[&str], max: i32) -> Vec<ClaimedRun> {
    send(caller, claiming(actions, max)).await.unwrap()
}

fn reporting(run_id: &str, outcome: RunOutcome) -> proto::ReportActionRequest {
    proto::ReportActionRequest {
        run_id: run_id.into(),
        outcome: outcome.into(),
        ..Default::default()
    }
}

async fn report(
    caller: &Caller,
    run_id: &str,
    outcome: RunOutcome,
) -> Result<proto::ReportActionResponse, Status> {
    let request = reporting(run_id, outcome);
    Ok(caller.orders().report_action(request).await?.into_inner())
}

fn releasing(run_id: &str) -> proto::ReleaseActionRequest {
    proto::ReleaseActionRequest {
        run_id: run_id.into(),
        reason: "no rack is free".into(),
        ..Default::default()
    }
}

async fn release(caller: &Caller, run_id: &str) -> Result<proto::ReleaseActionResponse, Status> {
    let request = releasing(run_id);
    Ok(caller.orders().release_action(request).await?.into_inner())
}

fn external(key: &str, prerequisites: &[&str]) -> OrderAction {
    action(key, ActionType::External, prerequisites)
}

/// An order of a new lead with these actions.
async fn order(h: &Harness, actions: Vec<OrderAction>) -> Order {
    let lead = h.sales.create_lead("Lovelace").await;
    h.sales.create_order(&lead.id, actions).await
}

fn lost(outcome: Result<impl std::fmt::Debug, Status>) -> Status {
    let status = outcome.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "CLAIM_LOST"),
        "{status:?}"
    );
    status
}

fn time(time: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    let time = time.unwrap();
    DateTime::from_timestamp(time.seconds, time.nanos.try_into().unwrap()).unwrap()
}

on_both! {
    async fn a_worker_claims_an_action_and_reports_it(h: Harness) {
        let before = order(&h, vec![external("install", &[]), action("thank", MANUAL, &["install"])]).await;
        let lead = h.viewer.get(&before.lead_id).await;
        let claimed = claim(&h.sales, &["install", "bill"], 0).await;
        let run = claimed[0].clone();
        let stored = get(&h.viewer, &before.id).await;
        let expected = ClaimedRun {
            id: run.id.clone(),
            order_id: before.id.clone(),
            action: "install".into(),
            expire_time: run.expire_time,
            order: Some(stored.clone()),
            lead: Some(lead.clone()),
        };
        assert_eq!(claimed, [expected]);
        assert_eq!(states(&stored), [ActionState::Claimed, ActionState::Pending]);
        assert_eq!((stored.state(), stored.etag.as_str()), (OrderState::Processing, "\"2\""));
        let held = stored.actions[0].claim.clone().unwrap();
        assert_eq!((held.run_id, held.expire_time), (run.id.clone(), run.expire_time));
        assert_eq!(held.actor.clone().unwrap().name, "sales");
        let entry = runs(&h.viewer, &before.id).await.remove(0);
        let expected = ActionRun {
            id: run.id.clone(),
            order_id: before.id.clone(),
            action: "install".into(),
            time: entry.time,
            actor: held.actor,
            outcome: RunOutcome::Succeeded.into(),
            kind: RunKind::Claim.into(),
            expire_time: run.expire_time,
            ..ActionRun::default()
        };
        assert_eq!(entry, expected);
        assert_eq!(time(entry.expire_time) - time(entry.time), Duration::seconds(60));
        // Nobody else gets it, whatever they ask for.
        assert_eq!(claim(&h.admin, &["install"], 100).await, []);
        let retry = proto::ClaimActionsRequest { retry_failed: true, ..claiming(&["install"], 1) };
        assert_eq!(send(&h.admin, retry).await.unwrap(), []);

        let request = proto::ReportActionRequest {
            note: " in rack 7 ".into(),
            reference: "T-100".into(),
            ..reporting(&run.id, RunOutcome::Succeeded)
        };
        let reported = h.sales.orders().report_action(request).await.unwrap().into_inner();
        let after = get(&h.viewer, &before.id).await;
        assert_eq!(states(&after), [ActionState::Done, ActionState::Pending]);
        assert_eq!((&after.actions[0].claim, after.etag.as_str()), (&None, "\"3\""));
        let ledger = runs(&h.viewer, &before.id).await;
        let expected = ActionRun {
            id: ledger[0].id.clone(),
            time: ledger[0].time,
            kind: RunKind::Run.into(),
            note: "in rack 7".into(),
            reference: "T-100".into(),
            claim_run_id: run.id.clone(),
            expire_time: None,
            ..entry.clone()
        };
        assert_eq!(ledger, [expected.clone(), entry]);
        let expected = proto::ReportActionResponse {
            order: Some(after),
            runs: vec![expected],
            lead: Some(lead.clone()),
            client: None,
            report: None,
        };
        assert_eq!(reported, expected);
        assert_eq!(history(&h.viewer, &before.id).await[1..], [
            ("ClaimActions".to_owned(), vec!["actions.install.state PENDING>CLAIMED".to_owned()]),
            ("ReportAction".to_owned(), vec!["actions.install.state CLAIMED>DONE".to_owned()]),
        ]);
        let written = written(&h, &lead.id).await;
        assert_eq!((written.runs, written.lead_history, written.order_history), (2, 1, 3));
        assert_eq!(written.events[2..], ["order.action_claimed", "order.action_reported"]);
    }

    async fn a_report_runs_what_becomes_ready_by_it(h: Harness) {
        let provision = OrderAction { automatic: true, ..action("sell", PROVISION, &["install"]) };
        let order = order(&h, vec![external("install", &[]), provision]).await;
        let run = claim(&h.sales, &["install"], 1).await.remove(0);
        let reported = report(&h.sales, &run.id, RunOutcome::Succeeded).await.unwrap();
        let keys: Vec<&str> = reported.runs.iter().map(|run| run.action.as_str()).collect();
        assert_eq!(keys, ["install", "sell"]);
        assert_eq!(reported.order.unwrap().state(), OrderState::Complete);
        assert_eq!(reported.lead.clone().unwrap().state(), LeadState::Converted);
        assert_eq!(reported.client.unwrap().id, order.lead_id);
        assert_eq!(written(&h, &order.lead_id).await.events[2..], [
            "order.action_claimed", "order.action_reported", "lead.converted",
        ]);
    }

    async fn only_what_is_ready_is_claimed(h: Harness) {
        let all = ["bill", "install", "thank"];
        let order = order(&h, vec![
            external("install", &[]),
            external("bill", &["install"]),
            action("thank", MANUAL, &[]),
        ]).await;
        assert_eq!(claim(&h.sales, &["bill", "thank"], 10).await, []);
        let run = claim(&h.sales, &all, 10).await.remove(0);
        assert_eq!(run.action, "install");
        assert_eq!(claim(&h.sales, &all, 10).await, [], "a claimed prerequisite is open");
        report(&h.sales, &run.id, RunOutcome::Failed).await.unwrap();
        assert_eq!(states(&get(&h.viewer, &order.id).await)[0], ActionState::Failed);
        assert_eq!(claim(&h.sales, &all, 10).await, [], "one that failed is left alone");
        let retry = proto::ClaimActionsRequest { retry_failed: true, ..claiming(&all, 10) };
        let again = send(&h.sales, retry).await.unwrap().remove(0);
        assert_eq!(again.action, "install");
        report(&h.sales, &again.id, RunOutcome::Succeeded).await.unwrap();
        assert_eq!(claim(&h.sales, &all, 10).await[0].action, "bill");

        // A step that is not reached, another queue, and an order that is canceled.
        let after = OrderAction { r#type: ActionType::External.into(), ..template("bill", "end", &[]) };
        let queue = new("Hosting", &["setup", "end"], vec![template("install", "setup", &[]), after]);
        let queue = order_queues::create(&h.admin, queue).await.unwrap();
        let lead = h.sales.create_lead("Hopper").await;
        let (order, _) = from_queue(&h.sales, &lead.id, &queue.id).await;
        let of_queue = proto::ClaimActionsRequest { queue_id: queue.id.clone(), ..claiming(&all, 10) };
        assert_eq!(send(&h.sales, of_queue.clone()).await.unwrap(), []);
        h.sales.run(&order.id, "install").await.unwrap();
        assert_eq!(claim(&h.sales, &all, 10).await, []);
        let found = send(&h.sales, of_queue.clone()).await.unwrap();
        assert_eq!((found.len(), found[0].order_id.as_str()), (1, order.id.as_str()));
        release(&h.sales, &found[0].id).await.unwrap();
        h.sales.cancel_order(&order.id).await;
        assert_eq!(send(&h.sales, of_queue).await.unwrap(), []);
    }

    async fn a_claim_that_expires_is_free_again(h: Harness) {
        let order = order(&h, vec![external("install", &[])]).await;
        let first = claim(&h.sales, &["install"], 1).await.remove(0);
        let refused = h.sales.run(&order.id, "install").await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ACTION_CLAIMED"));
        assert_eq!(metadata(&refused, "actor_name"), "sales");
        let until = time(first.expire_time).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        assert_eq!(metadata(&refused, "expire_time"), until);
        assert_eq!(runs(&h.viewer, &order.id).await[0].error_reason, "ACTION_CLAIMED");
        assert_eq!(reason(&h.sales.skip(&order.id, "install").await.unwrap_err()), "ACTION_CLAIMED");

        h.clock.advance(Duration::seconds(59));
        assert_eq!(claim(&h.sales, &["install"], 1).await, []);
        h.clock.advance(Duration::seconds(1));
        // Nothing has written that it expired.
        assert_eq!(states(&get(&h.viewer, &order.id).await), [ActionState::Claimed]);
        lost(report(&h.sales, &first.id, RunOutcome::Succeeded).await);
        lost(release(&h.sales, &first.id).await);
        let second = claim(&h.sales, &["install"], 1).await.remove(0);
        assert_ne!(second.id, first.id);
        lost(report(&h.sales, &first.id, RunOutcome::Succeeded).await);
        assert_eq!(history(&h.viewer, &order.id).await.pop().unwrap().1, [
            format!("actions.install.claim {}>{}", first.id, second.id),
        ]);

        h.clock.advance(Duration::seconds(60));
        let done = h.sales.run(&order.id, "install").await.unwrap().order.unwrap();
        assert_eq!((done.state(), &done.actions[0].claim), (OrderState::Complete, &None));
        let status = lost(report(&h.sales, &second.id, RunOutcome::Succeeded).await);
        assert_eq!(metadata(&status, "action_state"), "DONE");

        let third = self::order(&h, vec![external("install", &[])]).await;
        claim(&h.sales, &["install"], 1).await;
        h.clock.advance(Duration::seconds(60));
        assert_eq!(states(&h.sales.skip(&third.id, "install").await.unwrap()), [ActionState::Skipped]);
    }

    async fn only_the_holder_ends_a_claim_and_only_once(h: Harness) {
        let order = order(&h, vec![external("install", &[])]).await;
        let run = claim(&h.sales, &["install"], 1).await.remove(0);
        let status = lost(report(&h.admin, &run.id, RunOutcome::Succeeded).await);
        assert_eq!(metadata(&status, "run_id"), run.id);
        assert_eq!(metadata(&status, "order_id"), order.id);
        assert_eq!(metadata(&status, "action_state"), "CLAIMED");
        lost(release(&h.admin, &run.id).await);
        let reported = report(&h.sales, &run.id, RunOutcome::Succeeded).await.unwrap();
        lost(report(&h.sales, &run.id, RunOutcome::Succeeded).await);
        lost(release(&h.sales, &run.id).await);
        // An id of nothing, and one of an entry that is no claim.
        for id in [NOBODY, &reported.runs[0].id] {
            let status = report(&h.sales, id, RunOutcome::Failed).await.unwrap_err();
            assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "CLAIM_NOT_FOUND"));
            assert_eq!(reason(&release(&h.sales, id).await.unwrap_err()), "CLAIM_NOT_FOUND");
        }
    }

    async fn what_is_released_is_free_at_once(h: Harness) {
        let order = order(&h, vec![external("install", &[])]).await;
        let run = claim(&h.sales, &["install"], 1).await.remove(0);
        let released = release(&h.sales, &run.id).await.unwrap();
        assert_eq!(released.order.unwrap(), get(&h.viewer, &order.id).await);
        let ledger = runs(&h.viewer, &order.id).await;
        assert_eq!(released.run.unwrap(), ledger[0]);
        assert_eq!((ledger[0].kind(), ledger[0].note.as_str()), (RunKind::Release, "no rack is free"));
        assert_eq!(ledger[0].claim_run_id, run.id);
        assert_eq!(history(&h.viewer, &order.id).await.pop().unwrap(), (
            "ReleaseAction".to_owned(), vec!["actions.install.state CLAIMED>PENDING".to_owned()],
        ));
        assert_eq!(written(&h, &order.lead_id).await.events.pop().unwrap(), "order.action_released");
        assert_eq!(claim(&h.admin, &["install"], 1).await.len(), 1);
    }

    async fn a_canceled_order_is_not_reported(h: Harness) {
        let order = order(&h, vec![external("install", &[])]).await;
        let run = claim(&h.sales, &["install"], 1).await.remove(0);
        h.sales.cancel_order(&order.id).await;
        for status in [
            report(&h.sales, &run.id, RunOutcome::Succeeded).await.unwrap_err(),
            release(&h.sales, &run.id).await.unwrap_err(),
        ] {
            assert_eq!(reason(&status), "ORDER_CANCELED");
        }
    }

    async fn trying_a_claim_changes_nothing(h: Harness) {
        let order = order(&h, vec![external("install", &[])]).await;
        let tried = proto::ClaimActionsRequest { validate_only: true, ..claiming(&["install"], 1) };
        let seen = send(&h.sales, tried).await.unwrap().remove(0);
        assert_eq!((seen.id.as_str(), seen.order_id.as_str()), ("", order.id.as_str()));
        let shown = seen.order.unwrap();
        assert_eq!((states(&shown), &shown.etag), (vec![ActionState::Claimed], &order.etag));
        assert_eq!(shown.actions[0].claim.as_ref().unwrap().run_id, "");
        assert_eq!(get(&h.viewer, &order.id).await, order);
        let run = claim(&h.sales, &["install"], 1).await.remove(0);
        let claimed = get(&h.viewer, &order.id).await;
        let tried = proto::ReportActionRequest { validate_only: true, ..reporting(&run.id, RunOutcome::Succeeded) };
        let seen = h.sales.orders().report_action(tried).await.unwrap().into_inner();
        assert_eq!((seen.runs[0].id.as_str(), seen.runs[0].time), ("", None));
        assert_eq!(seen.order.unwrap().state(), OrderState::Complete);
        let tried = proto::ReleaseActionRequest { validate_only: true, ..releasing(&run.id) };
        let seen = h.sales.orders().release_action(tried).await.unwrap().into_inner();
        assert_eq!(states(&seen.order.unwrap()), [ActionState::Pending]);
        assert_eq!(get(&h.viewer, &order.id).await, claimed);
    }

    async fn a_claim_has_limits(h: Harness) {
        let fields = |status: Status| -> Vec<String> {
            violations(&status).into_iter().map(|found| found.0).collect()
        };
        let wrong = proto::ClaimActionsRequest {
            queue_id: "x".into(),
            actions: vec!["a".into(), String::new(), "a".into(), "b\u{1}".into()],
            max: 101,
            lease: Some(seconds(9)),
            ..Default::default()
        };
        let expected = ["queue_id", "actions[1]", "actions[2]", "actions[3]", "max", "lease"];
        assert_eq!(fields(send(&h.sales, wrong).await.unwrap_err()), expected);
        let wrong = proto::ClaimActionsRequest { max: -1, ..Default::default() };
        assert_eq!(fields(send(&h.sales, wrong).await.unwrap_err()), ["actions", "max", "lease"]);
        let keys: Vec<String> = (0..51).map(|number| format!("a{number}")).collect();
        let many = proto::ClaimActionsRequest { actions: keys.clone(), ..claiming(&[], 100) };
        assert_eq!(fields(send(&h.sales, many.clone()).await.unwrap_err()), ["actions"]);
        let most = proto::ClaimActionsRequest { actions: keys[1..].to_vec(), lease: Some(seconds(3_600)), ..many };
        assert_eq!(send(&h.sales, most).await.unwrap(), []);
        let nowhere = proto::ClaimActionsRequest { queue_id: NOBODY.into(), ..claiming(&["a"], 1) };
        assert_eq!(reason(&send(&h.sales, nowhere).await.unwrap_err()), "ORDER_QUEUE_NOT_FOUND");
        let status = report(&h.sales, "x", RunOutcome::Unspecified).await.unwrap_err();
        assert_eq!(fields(status), ["run_id", "outcome"]);
    }
}

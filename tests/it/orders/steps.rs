//! Orders that pass several steps: how they are made from a queue, how they go on by themselves, and how they are
//! moved.

use leadsmith_proto as proto;
use leadsmith_proto::{
    ActionState, ActionType, LeadState, Order, OrderAction, OrderQueue, OrderState, RunKind,
    RunOutcome,
};
use tonic::Code;

use super::{DEFAULT_QUEUE, NOBODY, get, run_at, runs, states, written};
use crate::harness::{Caller, Harness, metadata, reason, violations};
use crate::on_both;
use crate::order_queues::{self, new, step, template};

/// An order of a queue, without actions of its own, with the runs that happened in its creation.
pub async fn from_queue(
    caller: &Caller,
    lead_id: &str,
    queue_id: &str,
) -> (Order, Vec<proto::ActionRun>) {
    let request = proto::CreateOrderRequest {
        order: Some(Order {
            lead_id: lead_id.into(),
            ..Order::default()
        }),
        queue_id: queue_id.into(),
        ..Default::default()
    };
    let created = caller.orders().create(request).await.unwrap().into_inner();
    (created.order.unwrap(), created.runs)
}

fn automatic(action: OrderAction) -> OrderAction {
    OrderAction {
        automatic: true,
        ..action
    }
}

fn provision(key: &str, step: &str) -> OrderAction {
    OrderAction {
        r#type: ActionType::ProvisionClient.into(),
        ..template(key, step, &[])
    }
}

/// A queue of three steps: two actions to do by hand, then an automatic conversion, then one more by hand.
pub async fn hosting(h: &Harness) -> OrderQueue {
    let actions = vec![
        template("install", "setup", &[]),
        template("test", "setup", &["install"]),
        automatic(provision("provision", "sale")),
        template("thank", "end", &[]),
    ];
    let queue = new("Hosting", &["setup", "sale", "end"], actions);
    order_queues::create(&h.admin, queue).await.unwrap()
}

async fn move_to(
    caller: &Caller,
    order: &Order,
    step: &str,
) -> Result<proto::MoveOrderResponse, tonic::Status> {
    let request = proto::MoveOrderRequest {
        order_id: order.id.clone(),
        step: step.into(),
        reason: "as agreed".into(),
        ..Default::default()
    };
    Ok(caller.orders().r#move(request).await?.into_inner())
}

/// The fields that changed in each change of an order, oldest first.
pub async fn history(caller: &Caller, id: &str) -> Vec<(String, Vec<String>)> {
    let request = proto::ListOrderHistoryRequest {
        id: id.into(),
        ..Default::default()
    };
    let answer = caller.orders().list_history(request).await.unwrap();
    let entries = answer.into_inner().entries.into_iter().rev();
    let line = |entry: proto::HistoryEntry| {
        let changes = entry
            .changes
            .into_iter()
            .map(|change| format!("{} {}>{}", change.field, change.old_value, change.new_value));
        (
            entry.rpc.rsplit('/').next().unwrap().to_owned(),
            changes.collect(),
        )
    };
    entries.map(line).collect()
}

on_both! {
    async fn an_order_passes_the_steps_of_its_queue_by_itself(h: Harness) {
        use ActionState::{Done, Pending};
        let queue = hosting(&h).await;
        let lead = h.sales.create_lead("Lovelace").await;
        let (order, ran) = from_queue(&h.sales, &lead.id, &queue.id).await;
        assert_eq!(ran, []);
        let expected = Order {
            id: order.id.clone(),
            lead_id: lead.id.clone(),
            state: OrderState::Processing.into(),
            actions: queue.actions.iter().map(|action| OrderAction {
                state: Pending.into(), ..action.clone()
            }).collect(),
            etag: "\"1\"".into(),
            create_time: order.create_time,
            update_time: order.create_time,
            queue_id: queue.id.clone(),
            step: "setup".into(),
            steps: queue.steps.clone(),
            ..Order::default()
        };
        assert_eq!(order, expected);

        let refused = h.sales.run(&order.id, "thank").await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ACTION_STEP"));
        assert_eq!((metadata(&refused, "action_step"), metadata(&refused, "step")), ("end".into(), "setup".into()));
        let first = h.sales.run(&order.id, "install").await.unwrap().order.unwrap();
        assert_eq!(first.step, "setup");

        // The last action of the first step: the order enters the second, whose automatic action converts the lead,
        // and then the third.
        let ran = h.sales.run(&order.id, "test").await.unwrap();
        let after = ran.order.unwrap();
        assert_eq!((after.step.as_str(), after.state()), ("end", OrderState::Processing));
        assert_eq!(states(&after), [Done, Done, Done, Pending]);
        assert_eq!(after.etag, "\"3\"");
        assert_eq!(ran.lead.unwrap().state(), LeadState::Converted);
        assert_eq!(ran.client.unwrap().id, lead.id);
        let done = h.sales.run(&order.id, "thank").await.unwrap().order.unwrap();
        assert_eq!((done.step.as_str(), done.state()), ("end", OrderState::Complete));
        assert_eq!(get(&h.viewer, &order.id).await, done);
        let ledger = runs(&h.viewer, &order.id).await;
        let ledger: Vec<_> = ledger.iter().rev().map(|run| (run.action.as_str(), run.outcome(), run.automatic)).collect();
        let (succeeded, failed) = (RunOutcome::Succeeded, RunOutcome::Failed);
        assert_eq!(ledger, [
            ("thank", failed, false),
            ("install", succeeded, false),
            ("test", succeeded, false),
            ("provision", succeeded, true),
            ("thank", succeeded, false),
        ]);
        assert_eq!(written(&h, &lead.id).await.events, [
            "lead.created", "order.created", "order.action_run", "lead.converted", "order.action_run",
        ]);
    }

    async fn what_is_ready_runs_when_the_order_is_created(h: Harness) {
        let actions = vec![
            automatic(template("greet", "", &[])),
            automatic(provision("provision", "")),
            automatic(template("bill", "after", &["provision"])),
            template("thank", "last", &[]),
        ];
        let queue = new("Quick", &["first", "after", "empty", "last"], actions);
        let queue = order_queues::create(&h.admin, queue).await.unwrap();
        let lead = h.sales.create_lead("Lovelace").await;
        let (order, ran) = from_queue(&h.sales, &lead.id, &queue.id).await;
        let keys: Vec<&str> = ran.iter().map(|run| run.action.as_str()).collect();
        assert_eq!(keys, ["greet", "provision", "bill"], "in the order of the queue");
        assert_eq!((order.step.as_str(), order.state()), ("last", OrderState::Processing));
        assert_eq!(h.viewer.get(&lead.id).await.state(), LeadState::Converted);

        // An action that fails stops the order in its step, and says so.
        let away = h.sales.create_lead("Hopper").await;
        h.sales.deactivate(&away.id).await.unwrap();
        let (order, ran) = from_queue(&h.sales, &away.id, &queue.id).await;
        assert_eq!(order.step, "first");
        assert_eq!((ran[1].outcome(), ran[1].error_reason.as_str()), (RunOutcome::Failed, "LEAD_DEACTIVATED"));
        h.sales.reactivate(&away.id).await.unwrap();
        let after = h.sales.run(&order.id, "provision").await.unwrap().order.unwrap();
        assert_eq!(after.step, "last");

        let nothing = order_queues::create(&h.admin, new("Nothing", &["go"], Vec::new())).await.unwrap();
        let (order, _) = from_queue(&h.sales, &lead.id, &nothing.id).await;
        assert_eq!((order.step.as_str(), order.state()), ("go", OrderState::Complete));
    }

    async fn actions_of_its_own_belong_to_steps_of_the_queue(h: Harness) {
        let queue = hosting(&h).await;
        let lead = h.sales.create_lead("Lovelace").await;
        let create = async |queue_id: &str, actions: Vec<OrderAction>| {
            let request = proto::CreateOrderRequest {
                order: Some(Order { lead_id: lead.id.clone(), actions, ..Order::default() }),
                queue_id: queue_id.into(),
                ..Default::default()
            };
            h.sales.orders().create(request).await.map(|answer| answer.into_inner().order.unwrap())
        };
        let own = vec![template("call", "", &[]), template("visit", "end", &["call"])];
        let order = create(&queue.id, own.clone()).await.unwrap();
        let keys: Vec<_> = order.actions.iter().map(|action| (action.key.as_str(), action.step.as_str())).collect();
        assert_eq!(keys, [("call", "setup"), ("visit", "end")]);
        let refused = create("", own).await.unwrap_err();
        assert_eq!(violations(&refused)[0].0, "order.actions[1].step");
        let refused = create(NOBODY, Vec::new()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "ORDER_QUEUE_NOT_FOUND"));
        let refused = create("hosting", Vec::new()).await.unwrap_err();
        assert_eq!(violations(&refused)[0].0, "queue_id");
    }

    async fn changing_a_queue_leaves_its_orders_as_they_are(h: Harness) {
        let queue = hosting(&h).await;
        let lead = h.sales.create_lead("Lovelace").await;
        let (order, _) = from_queue(&h.sales, &lead.id, &queue.id).await;
        let other = OrderQueue {
            steps: vec![step("only")],
            actions: vec![template("call", "only", &[])],
            ..queue.clone()
        };
        order_queues::update(&h.admin, other, &["steps", "actions"]).await.unwrap();
        assert_eq!(get(&h.viewer, &order.id).await, order);
        h.sales.run(&order.id, "install").await.unwrap();
        h.sales.run(&order.id, "test").await.unwrap();
        let done = h.sales.run(&order.id, "thank").await.unwrap().order.unwrap();
        assert_eq!((done.state(), done.steps), (OrderState::Complete, queue.steps));
        let (next, _) = from_queue(&h.sales, &lead.id, &queue.id).await;
        assert_eq!((next.step.as_str(), next.actions.len()), ("only", 1));
    }

    async fn an_order_is_moved_to_another_of_its_steps_by_hand(h: Harness) {
        let queue = hosting(&h).await;
        let lead = h.sales.create_lead("Lovelace").await;
        let (order, _) = from_queue(&h.sales, &lead.id, &queue.id).await;
        // Forward: what is ready there runs, and what was left open can still be run.
        let moved = move_to(&h.sales, &order, "sale").await.unwrap();
        let after = moved.order.unwrap();
        assert_eq!((after.step.as_str(), after.etag.as_str()), ("end", "\"2\""), "its only action ran");
        assert_eq!(get(&h.viewer, &order.id).await, after);
        assert_eq!(moved.lead.unwrap().state(), LeadState::Converted);
        assert_eq!(moved.client.unwrap().id, lead.id);
        let entry = &moved.runs[0];
        assert_eq!((entry.kind(), entry.step.as_str(), entry.note.as_str()), (RunKind::Move, "sale", "as agreed"));
        assert_eq!((entry.action.as_str(), entry.outcome()), ("", RunOutcome::Succeeded));
        assert_eq!((moved.runs[1].action.as_str(), moved.runs[1].automatic), ("provision", true));
        let mut ledger = runs(&h.viewer, &order.id).await;
        ledger.reverse();
        assert_eq!(ledger, moved.runs);
        assert_eq!(written(&h, &lead.id).await.events, ["lead.created", "order.created", "order.moved", "lead.converted"]);

        // Back: it stays there until an action is finished.
        let back = move_to(&h.sales, &order, "setup").await.unwrap();
        assert_eq!(back.runs.len(), 1);
        assert_eq!(back.order.unwrap().step, "setup");
        h.sales.run(&order.id, "install").await.unwrap();
        let after = h.sales.run(&order.id, "test").await.unwrap().order.unwrap();
        assert_eq!(after.step, "end");
        assert_eq!(history(&h.viewer, &order.id).await, [
            ("Create".to_owned(), vec!["state >PROCESSING".to_owned()]),
            ("Move".to_owned(), vec!["actions.provision.state PENDING>DONE".to_owned(), "step setup>end".to_owned()]),
            ("Move".to_owned(), vec!["step end>setup".to_owned()]),
            ("RunAction".to_owned(), vec!["actions.install.state PENDING>DONE".to_owned()]),
            ("RunAction".to_owned(), vec!["actions.test.state PENDING>DONE".to_owned(), "step setup>end".to_owned()]),
        ]);
        for wrong in ["end", "nowhere", ""] {
            let refused = move_to(&h.sales, &order, wrong).await.unwrap_err();
            assert_eq!(violations(&refused)[0].0, "step", "{wrong}");
        }
        h.sales.run(&order.id, "thank").await.unwrap();
        let refused = move_to(&h.sales, &order, "setup").await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ORDER_COMPLETE"));
    }

    async fn an_order_that_has_passed_its_last_step_is_complete_whatever_it_was_moved_past(h: Harness) {
        let queue = hosting(&h).await;
        let lead = h.sales.create_lead("Lovelace").await;
        let (order, _) = from_queue(&h.sales, &lead.id, &queue.id).await;
        move_to(&h.sales, &order, "end").await.unwrap();
        // The step of the automatic action is reached too, so it ran.
        assert_eq!(h.viewer.get(&lead.id).await.state(), LeadState::Converted);
        let done = h.sales.run(&order.id, "thank").await.unwrap().order.unwrap();
        use ActionState::{Done, Pending};
        assert_eq!((done.state(), states(&done)), (OrderState::Complete, vec![Pending, Pending, Done, Done]));
        let later = h.sales.run(&order.id, "install").await.unwrap().order.unwrap();
        assert_eq!((later.state(), states(&later)), (OrderState::Complete, vec![Done, Pending, Done, Done]));
    }

    async fn a_retry_of_a_move_gets_the_first_response(h: Harness) {
        let queue = hosting(&h).await;
        let lead = h.sales.create_lead("Lovelace").await;
        let (order, _) = from_queue(&h.sales, &lead.id, &queue.id).await;
        let request = proto::MoveOrderRequest {
            order_id: order.id.clone(),
            step: "sale".into(),
            request_id: uuid::Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let first = h.sales.orders().r#move(request.clone()).await.unwrap().into_inner();
        let before = written(&h, &lead.id).await;
        let again = h.sales.orders().r#move(request.clone()).await.unwrap().into_inner();
        assert_eq!(again, first);
        assert_eq!(written(&h, &lead.id).await, before);
        let other = proto::MoveOrderRequest { step: "end".into(), ..request };
        assert_eq!(reason(&h.sales.orders().r#move(other).await.unwrap_err()), "REQUEST_ID_REUSED");
    }

    async fn orders_of_a_version_without_queues_are_in_the_default_queue(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        // As the previous version inserts it: without the columns of this one.
        let db = h.database.connect().await;
        let copy = "INSERT INTO orders (id, lead_id, version, state, items, actions, create_time, update_time) \
                    SELECT lead_id, lead_id, version, state, items, actions, create_time, update_time FROM orders";
        sea_orm::ConnectionTrait::execute_unprepared(&db, copy).await.unwrap();
        let old = get(&h.viewer, &lead.id).await;
        let expected = Order { id: lead.id.clone(), ..order.clone() };
        assert_eq!(old, expected);
        assert_eq!(old.queue_id, DEFAULT_QUEUE);
        let done = run_at(&h.sales, &old, "provision-client", &old.etag).await.unwrap();
        assert_eq!((done.state(), done.step.as_str()), (OrderState::Complete, "processing"));
        assert_eq!(runs(&h.viewer, &old.id).await[0].kind(), RunKind::Run);
        let request = proto::ListOrdersRequest { queue_id: DEFAULT_QUEUE.into(), ..Default::default() };
        let listed = h.viewer.orders().list(request).await.unwrap().into_inner().orders;
        assert_eq!(listed, [done, order]);
    }
}

//! Order queues: what is kept, who has which name, and what a change of a queue leaves as it is.

use leadsmith_proto as proto;
use leadsmith_proto::{ActionType, OrderAction, OrderQueue, OrderStep};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{Caller, metadata, reason, violations};
use crate::on_both;

/// The id of the queue `default`.
pub const DEFAULT: &str = "00000000-0000-7000-8000-000000000001";

pub fn step(key: &str) -> OrderStep {
    OrderStep {
        key: key.into(),
        name: format!("The step {key}"),
    }
}

/// The template of a MANUAL action.
pub fn template(key: &str, step: &str, prerequisites: &[&str]) -> OrderAction {
    OrderAction {
        key: key.into(),
        r#type: ActionType::Manual.into(),
        step: step.into(),
        prerequisites: prerequisites.iter().map(|key| (*key).to_owned()).collect(),
        ..OrderAction::default()
    }
}

pub fn new(name: &str, steps: &[&str], actions: Vec<OrderAction>) -> OrderQueue {
    OrderQueue {
        name: name.into(),
        steps: steps.iter().map(|key| step(key)).collect(),
        actions,
        ..OrderQueue::default()
    }
}

pub async fn create(caller: &Caller, queue: OrderQueue) -> Result<OrderQueue, Status> {
    let request = proto::CreateOrderQueueRequest {
        order_queue: Some(queue),
        ..Default::default()
    };
    let answer = caller.queues().create(request).await?;
    Ok(answer.into_inner().order_queue.unwrap())
}

pub async fn get(caller: &Caller, id: &str) -> Result<OrderQueue, Status> {
    let request = proto::GetOrderQueueRequest { id: id.into() };
    let answer = caller.queues().get(request).await?;
    Ok(answer.into_inner().order_queue.unwrap())
}

async fn list(caller: &Caller, include_archived: bool) -> Vec<OrderQueue> {
    let request = proto::ListOrderQueuesRequest {
        include_archived,
        ..Default::default()
    };
    let answer = caller.queues().list(request).await.unwrap();
    answer.into_inner().order_queues
}

pub async fn update(
    caller: &Caller,
    queue: OrderQueue,
    mask: &[&str],
) -> Result<OrderQueue, Status> {
    let request = proto::UpdateOrderQueueRequest {
        order_queue: Some(queue),
        update_mask: Some(prost_types::FieldMask {
            paths: mask.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    };
    let answer = caller.queues().update(request).await?;
    Ok(answer.into_inner().order_queue.unwrap())
}

async fn archive(caller: &Caller, id: &str, etag: &str) -> Result<OrderQueue, Status> {
    let request = proto::ArchiveOrderQueueRequest {
        id: id.into(),
        etag: etag.into(),
        ..Default::default()
    };
    let answer = caller.queues().archive(request).await?;
    Ok(answer.into_inner().order_queue.unwrap())
}

async fn unarchive(caller: &Caller, id: &str) -> OrderQueue {
    let request = proto::UnarchiveOrderQueueRequest {
        id: id.into(),
        ..Default::default()
    };
    let answer = caller.queues().unarchive(request).await.unwrap();
    answer.into_inner().order_queue.unwrap()
}

/// The accepted changes, oldest first: the RPC, and each field with its old and new value.
pub async fn changes(caller: &Caller, id: &str) -> Vec<(String, Vec<[String; 3]>)> {
    let request = proto::ListOrderQueueHistoryRequest {
        id: id.into(),
        ..Default::default()
    };
    let answer = caller.queues().list_history(request).await.unwrap();
    let entries = answer.into_inner().entries.into_iter().rev();
    let changes = |entry: proto::HistoryEntry| {
        let changes = entry.changes.into_iter();
        let changes = changes.map(|change| [change.field, change.old_value, change.new_value]);
        let rpc = entry.rpc.rsplit('/').next().unwrap().to_owned();
        (rpc, changes.collect())
    };
    entries.map(changes).collect()
}

/// The fields with violations, in their order.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(reason(status), "FIELD_INVALID", "{status:?}");
    violations(status)
        .into_iter()
        .map(|found| found.0)
        .collect()
}

on_both! {
    async fn there_is_always_the_queue_default(h: Harness) {
        let default = get(&h.viewer, DEFAULT).await.unwrap();
        let expected = OrderQueue {
            id: DEFAULT.into(),
            name: "default".into(),
            steps: vec![OrderStep { key: "processing".into(), name: "Processing".into() }],
            actions: vec![OrderAction {
                key: "provision-client".into(),
                r#type: ActionType::ProvisionClient.into(),
                name: "Provision Client".into(),
                step: "processing".into(),
                ..OrderAction::default()
            }],
            etag: "\"1\"".into(),
            create_time: default.create_time,
            update_time: default.create_time,
            ..OrderQueue::default()
        };
        assert_eq!(default, expected);
        assert!(default.create_time.is_some());
        assert_eq!(list(&h.viewer, true).await, *std::slice::from_ref(&default));

        let refused = archive(&h.admin, DEFAULT, "").await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ORDER_QUEUE_DEFAULT"));
        for name in ["Default", "other"] {
            let renamed = OrderQueue { name: name.into(), ..default.clone() };
            let refused = update(&h.admin, renamed, &["name"]).await.unwrap_err();
            assert_eq!(reason(&refused), "ORDER_QUEUE_DEFAULT", "{name}");
        }
        assert_eq!(get(&h.viewer, DEFAULT).await.unwrap(), default);

        // What it consists of can change.
        let longer = OrderQueue { steps: vec![step("processing"), step("review")], ..default.clone() };
        let longer = update(&h.admin, longer, &["name", "steps"]).await.unwrap();
        assert_eq!((longer.steps.len(), longer.etag.as_str()), (2, "\"2\""));
        let lead = h.sales.create_lead("Lovelace").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        assert_eq!((order.steps, order.queue_id.as_str()), (longer.steps, DEFAULT));
    }

    async fn a_queue_keeps_what_it_was_created_with(h: Harness) {
        let given = OrderQueue {
            // Values of output-only fields are ignored.
            id: Uuid::nil().to_string(),
            etag: "\"7\"".into(),
            archived: true,
            ..new(" Managed Hosting ", &["setup", "delivery"], vec![
                template("install", "", &[]),
                OrderAction { repeatable: true, ..template("test", "setup", &["install", "install"]) },
                OrderAction { r#type: ActionType::External.into(), ..template("bill", "delivery", &[]) },
                OrderAction { automatic: true, ..template("thank", "delivery", &["bill"]) },
            ])
        };
        let created = create(&h.admin, given.clone()).await.unwrap();
        let mut expected = OrderQueue {
            id: created.id.clone(),
            name: "Managed Hosting".into(),
            etag: "\"1\"".into(),
            archived: false,
            create_time: created.create_time,
            update_time: created.create_time,
            ..given
        };
        expected.actions[0].step = "setup".into();
        expected.actions[1].prerequisites = vec!["install".into()];
        assert_eq!(created, expected);
        assert_eq!(get(&h.viewer, &created.id).await.unwrap(), created);
        assert_eq!(list(&h.viewer, false).await[1..], *std::slice::from_ref(&created));
        let change = |field: &str, value: &str| [field.to_owned(), String::new(), value.to_owned()];
        let created_by = vec![
            change("name", "Managed Hosting"),
            change("steps", "setup, delivery"),
            change("actions", "install, test, bill, thank"),
        ];
        assert_eq!(changes(&h.viewer, &created.id).await, [("Create".to_owned(), created_by)]);
        let event = "SELECT count(*) FROM events WHERE type = 'order_queue.created'";
        assert_eq!(h.count(event).await, 1);
    }

    async fn everything_wrong_with_a_queue_is_reported_together(h: Harness) {
        let wrong = OrderQueue {
            name: "a\nb".into(),
            steps: vec![step("Setup"), step("go"), step("go"), OrderStep { name: "x".repeat(201), ..step("end") }],
            actions: vec![
                template("a", "nowhere", &[]),
                template("a", "go", &["b"]),
                OrderAction { automatic: true, r#type: ActionType::External.into(), ..template("c", "go", &[]) },
                OrderAction { r#type: 0, ..template("_", "go", &[]) },
            ],
            ..OrderQueue::default()
        };
        let refused = create(&h.admin, wrong).await.unwrap_err();
        assert_eq!(fields(&refused), [
            "order_queue.name",
            "order_queue.steps[0].key",
            "order_queue.steps[2].key",
            "order_queue.steps[3].name",
            "order_queue.actions[1].key",
            "order_queue.actions[1].prerequisites[0]",
            "order_queue.actions[2].automatic",
            "order_queue.actions[3].key",
            "order_queue.actions[3].type",
            "order_queue.actions[0].step",
        ]);
        let refused = create(&h.admin, OrderQueue::default()).await.unwrap_err();
        assert_eq!(fields(&refused), ["order_queue.name", "order_queue.steps"]);
        let name = "x".repeat(101);
        let keys: Vec<String> = (0..51).map(|number| format!("k{number}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let actions = keys.iter().map(|key| template(key, "", &[])).collect();
        let refused = create(&h.admin, new(&name, &keys[..21], actions)).await.unwrap_err();
        assert_eq!(fields(&refused), ["order_queue.name", "order_queue.steps", "order_queue.actions"]);
        let actions = keys[..50].iter().map(|key| template(key, "k19", &[])).collect();
        let largest = create(&h.admin, new(&"é".repeat(100), &keys[..20], actions)).await.unwrap();
        assert_eq!((largest.steps.len(), largest.actions.len()), (20, 50));

        let circle = vec![template("a", "", &["c"]), template("b", "", &["a"]), template("c", "", &["b"])];
        let refused = create(&h.admin, new("Round", &["go"], circle)).await.unwrap_err();
        assert_eq!(fields(&refused), ["order_queue.actions"]);
        assert!(refused.message().contains("in a cycle: a -> c -> b -> a."), "{}", refused.message());
        let request = proto::CreateOrderQueueRequest::default();
        let refused = h.admin.queues().create(request).await.unwrap_err();
        assert_eq!(fields(&refused)[0], "order_queue");
    }

    async fn a_name_belongs_to_one_queue_without_regard_to_case(h: Harness) {
        let first = create(&h.admin, new("Straße", &["go"], Vec::new())).await.unwrap();
        let other = create(&h.admin, new("Other", &["go"], Vec::new())).await.unwrap();
        for name in ["Straße", "STRASSE", "strasse"] {
            let refused = create(&h.admin, new(name, &["go"], Vec::new())).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "DUPLICATE_ORDER_QUEUE"));
            assert_eq!(metadata(&refused, "order_queue_id"), first.id);
            let renamed = OrderQueue { name: name.into(), ..other.clone() };
            let refused = update(&h.admin, renamed, &["name"]).await.unwrap_err();
            assert_eq!(metadata(&refused, "order_queue_id"), first.id);
        }
        // Its own name in another spelling; then the old one is free. An archived queue keeps its name.
        let spelled = OrderQueue { name: "STRASSE".into(), ..first.clone() };
        let spelled = update(&h.admin, spelled, &["name"]).await.unwrap();
        assert_eq!(spelled.name, "STRASSE");
        archive(&h.admin, &first.id, "").await.unwrap();
        assert_eq!(reason(&create(&h.admin, new("straße", &["go"], Vec::new())).await.unwrap_err()), "DUPLICATE_ORDER_QUEUE");
        let renamed = OrderQueue { name: "Road".into(), etag: String::new(), ..first };
        update(&h.admin, renamed, &["name"]).await.unwrap();
        create(&h.admin, new("straße", &["go"], Vec::new())).await.unwrap();
    }

    async fn two_calls_that_race_for_a_name_create_one_queue(h: Harness) {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..8 {
            let admin = h.admin.clone();
            let name = if number % 2 == 0 { "Hosting" } else { "HOSTING" };
            calls.spawn(async move { create(&admin, new(name, &["go"], Vec::new())).await });
        }
        let outcomes = calls.join_all().await;
        let (created, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(created.len(), 1);
        for refused in refused {
            assert_eq!(reason(&refused.unwrap_err()), "DUPLICATE_ORDER_QUEUE");
        }
    }

    async fn an_update_changes_what_its_mask_names(h: Harness) {
        let actions = vec![template("install", "setup", &[])];
        let queue = create(&h.admin, new("Hosting", &["setup", "delivery"], actions)).await.unwrap();
        let other = OrderQueue {
            name: "Colocation".into(),
            steps: vec![step("setup"), step("end")],
            actions: vec![template("rack", "end", &[])],
            ..queue.clone()
        };
        let renamed = update(&h.admin, other.clone(), &["name"]).await.unwrap();
        let expected = OrderQueue {
            name: "Colocation".into(),
            etag: "\"2\"".into(),
            update_time: renamed.update_time,
            ..queue.clone()
        };
        assert_eq!(renamed, expected);
        let stale = update(&h.admin, other.clone(), &["steps"]).await.unwrap_err();
        assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        let other = OrderQueue { etag: String::new(), ..other };
        let unchanged = update(&h.admin, other.clone(), &["name"]).await.unwrap();
        assert_eq!(unchanged, renamed, "nothing changed, so neither did the etag");

        // The action that is there belongs to a step that would be no more.
        let fewer = OrderQueue { steps: vec![step("end")], ..other.clone() };
        let refused = update(&h.admin, fewer, &["steps"]).await.unwrap_err();
        assert_eq!(fields(&refused), ["order_queue.actions[0].step"]);
        let whole = update(&h.admin, other.clone(), &["*"]).await.unwrap();
        assert_eq!((&whole.steps, &whole.actions), (&other.steps, &other.actions));
        let emptied = OrderQueue { id: queue.id.clone(), ..OrderQueue::default() };
        let emptied = update(&h.admin, emptied, &["actions"]).await.unwrap();
        assert_eq!(emptied.actions, []);
        for (path, problem) in [("archived", "which only Archive and Unarchive can change"), ("owner", "which is not a field")] {
            let refused = update(&h.admin, other.clone(), &["name", path]).await.unwrap_err();
            assert_eq!(fields(&refused), ["update_mask.paths[1]"]);
            assert!(refused.message().contains(problem), "{}", refused.message());
        }
        let change = |field: &str, old: &str, new: &str| [field.to_owned(), old.to_owned(), new.to_owned()];
        assert_eq!(changes(&h.viewer, &queue.id).await[1..], [
            ("Update".to_owned(), vec![change("name", "Hosting", "Colocation")]),
            ("Update".to_owned(), vec![
                change("steps", "setup, delivery", "setup, end"),
                change("actions", "install", "rack"),
            ]),
            ("Update".to_owned(), vec![change("actions", "rack", "")]),
        ]);
    }

    async fn an_archived_queue_takes_no_orders_and_its_orders_go_on(h: Harness) {
        let queue = create(&h.admin, new("Hosting", &["go"], vec![template("a", "", &[])])).await.unwrap();
        let lead = h.sales.create_lead("Lovelace").await;
        let order = async || {
            let request = proto::CreateOrderRequest {
                order: Some(proto::Order { lead_id: lead.id.clone(), ..Default::default() }),
                queue_id: queue.id.clone(),
                ..Default::default()
            };
            h.sales.orders().create(request).await.map(|answer| answer.into_inner().order.unwrap())
        };
        let before = order().await.unwrap();
        let stale = archive(&h.admin, &queue.id, "\"7\"").await.unwrap_err();
        assert_eq!(reason(&stale), "ETAG_MISMATCH");
        let archived = archive(&h.admin, &queue.id, &queue.etag).await.unwrap();
        let expected = OrderQueue {
            archived: true,
            archive_time: archived.update_time,
            etag: "\"2\"".into(),
            update_time: archived.update_time,
            ..queue.clone()
        };
        assert_eq!(archived, expected);
        assert_eq!(archive(&h.admin, &queue.id, "").await.unwrap(), archived, "no change");
        assert_eq!(get(&h.viewer, &queue.id).await.unwrap(), archived);
        assert_eq!(list(&h.viewer, false).await.len(), 1);
        assert_eq!(list(&h.viewer, true).await[1..], *std::slice::from_ref(&archived));

        let refused = order().await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ORDER_QUEUE_ARCHIVED"));
        let done = h.sales.run(&before.id, "a").await.unwrap().order.unwrap();
        assert_eq!(done.state(), proto::OrderState::Complete);

        let back = unarchive(&h.admin, &queue.id).await;
        let expected = OrderQueue { etag: "\"3\"".into(), update_time: back.update_time, ..queue.clone() };
        assert_eq!(back, expected);
        assert_eq!(unarchive(&h.admin, &queue.id).await, back, "no change");
        order().await.unwrap();
        let told = changes(&h.viewer, &queue.id).await;
        let rpcs: Vec<&str> = told.iter().map(|(rpc, _)| rpc.as_str()).collect();
        assert_eq!(rpcs, ["Create", "Archive", "Unarchive"]);
        assert_eq!(told[1].1, [["archived", "false", "true"].map(str::to_owned)]);
    }

    async fn a_queue_that_is_only_checked_is_as_it_was(h: Harness) {
        let queue = create(&h.admin, new("Hosting", &["go"], Vec::new())).await.unwrap();
        let given = new("Other", &["go"], vec![template("a", "", &[])]);
        let request = proto::CreateOrderQueueRequest { order_queue: Some(given), validate_only: true, ..Default::default() };
        let checked = h.admin.queues().create(request).await.unwrap().into_inner().order_queue.unwrap();
        assert_eq!((checked.id.as_str(), checked.etag.as_str(), checked.create_time), ("", "", None));
        assert_eq!(checked.actions[0].step, "go");
        let request = proto::UpdateOrderQueueRequest {
            order_queue: Some(OrderQueue { name: "Renamed".into(), ..queue.clone() }),
            validate_only: true,
            ..Default::default()
        };
        let checked = h.admin.queues().update(request).await.unwrap().into_inner().order_queue.unwrap();
        assert_eq!(checked, OrderQueue { name: "Renamed".into(), ..queue.clone() });
        let request = proto::ArchiveOrderQueueRequest { id: queue.id.clone(), validate_only: true, ..Default::default() };
        let checked = h.admin.queues().archive(request).await.unwrap().into_inner().order_queue.unwrap();
        assert!(checked.archived);
        let request = proto::UnarchiveOrderQueueRequest { id: queue.id.clone(), validate_only: true, ..Default::default() };
        h.admin.queues().unarchive(request).await.unwrap();
        assert_eq!(get(&h.viewer, &queue.id).await.unwrap(), queue);
        assert_eq!(list(&h.viewer, true).await.len(), 2);
        assert_eq!(changes(&h.viewer, &queue.id).await.len(), 1);
    }

    async fn queues_are_listed_page_by_page_in_the_order_of_their_creation(h: Harness) {
        let mut all = list(&h.viewer, true).await;
        for name in ["c", "a", "b"] {
            all.push(create(&h.admin, new(name, &["go"], Vec::new())).await.unwrap());
        }
        for page_size in [1, 3, 4] {
            let listed = crate::lists::pages(async |page_token| {
                let request = proto::ListOrderQueuesRequest { page_size, page_token, ..Default::default() };
                let answer = h.viewer.queues().list(request).await.unwrap().into_inner();
                (answer.order_queues, answer.next_page_token)
            })
            .await;
            assert_eq!(listed.concat(), all, "in pages of {page_size}");
        }
        let request = proto::ListOrderQueuesRequest { page_size: 1, ..Default::default() };
        let page_token = h.viewer.queues().list(request).await.unwrap().into_inner().next_page_token;
        let request = proto::ListOrderQueuesRequest { page_token, include_archived: true, ..Default::default() };
        let refused = h.viewer.queues().list(request).await.unwrap_err();
        assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
    }

    async fn a_retry_of_a_change_gets_the_first_response(h: Harness) {
        let request_id = || Uuid::now_v7().to_string();
        let create = proto::CreateOrderQueueRequest {
            order_queue: Some(new("Hosting", &["go"], Vec::new())),
            request_id: request_id(),
            ..Default::default()
        };
        let first = h.admin.queues().create(create.clone()).await.unwrap().into_inner();
        let queue = first.order_queue.clone().unwrap();
        let update = proto::UpdateOrderQueueRequest {
            order_queue: Some(OrderQueue { name: "Renamed".into(), ..queue.clone() }),
            request_id: request_id(),
            ..Default::default()
        };
        let updated = h.admin.queues().update(update.clone()).await.unwrap().into_inner();
        let archive = proto::ArchiveOrderQueueRequest {
            id: queue.id.clone(), request_id: request_id(), ..Default::default()
        };
        let archived = h.admin.queues().archive(archive.clone()).await.unwrap().into_inner();
        let unarchive = proto::UnarchiveOrderQueueRequest {
            id: queue.id.clone(), request_id: request_id(), ..Default::default()
        };
        let unarchived = h.admin.queues().unarchive(unarchive.clone()).await.unwrap().into_inner();

        assert_eq!(h.admin.queues().create(create.clone()).await.unwrap().into_inner(), first);
        assert_eq!(h.admin.queues().update(update).await.unwrap().into_inner(), updated);
        assert_eq!(h.admin.queues().archive(archive).await.unwrap().into_inner(), archived);
        assert_eq!(h.admin.queues().unarchive(unarchive).await.unwrap().into_inner(), unarchived);
        let other = proto::CreateOrderQueueRequest { order_queue: Some(new("Two", &["go"], Vec::new())), ..create };
        assert_eq!(reason(&h.admin.queues().create(other).await.unwrap_err()), "REQUEST_ID_REUSED");
        assert_eq!(changes(&h.viewer, &queue.id).await.len(), 4);
    }
}

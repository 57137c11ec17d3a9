//! Conversions, reversals, runs and erasures of the same records at once, on several servers: whatever wins, the outcome
//! is that of some order of the calls.

use leadsmith_proto::{self as proto, HistoryEntry, Lead, LeadState, OrderState};
use tokio::task::JoinSet;

use super::orders::order_into;
use super::{create, new_client, person};
use crate::harness::{Backend, Caller, reason};
use crate::races::Setup;

const CALLERS: usize = 64;

/// What is erased beside the other calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Erased {
    Nothing,
    Lead,
    Client,
}

/// Converts a lead to a client of its own, into one of two clients, by hand and by an order, reverts all of it, and
/// erases, all at once.
async fn race(setup: &Setup, erased: Erased) {
    let h = &setup.harness;
    let client = new_client(&h.sales, person("Client")).await.id;
    let second = new_client(&h.sales, person("Second")).await.id;
    let lead = Lead {
        phone: "1".into(),
        ..person("Lead")
    };
    let lead = create(&h.sales, lead).await.id;
    let order = order_into(&h.sales, &lead, &client, Vec::new()).await;
    let order = order.unwrap().order.unwrap().id;
    let mut calls = JoinSet::new();
    for index in 0..CALLERS {
        let caller = setup.caller(index);
        let (lead, client, order) = (lead.clone(), client.clone(), order.clone());
        let second = second.clone();
        let admin = h.admin.clone();
        calls.spawn(async move {
            // The kind of call must not depend on the server, which is chosen by the index modulo 1, 2 or 3.
            match index / 2 % 8 {
                0..3 => caller.revert(&lead).await.map(|_| ()),
                3 => caller.convert_into(&lead, &client, &[]).await.map(|_| ()),
                4 => caller.convert_into(&lead, &second, &[]).await.map(|_| ()),
                5 => caller.convert(&lead).await.map(|_| ()),
                6 if index > 40 => caller.run(&order, "provision-client").await.map(|_| ()),
                7 if index > 55 => match erased {
                    Erased::Nothing => Ok(()),
                    Erased::Lead => admin.erase(&lead).await.map(|_| ()),
                    Erased::Client => admin.erase(&client).await.map(|_| ()),
                },
                _ => caller.revert(&client).await.map(|_| ()),
            }
        });
    }
    let documented = [
        "LEAD_CONVERTED",
        "LEAD_NOT_CONVERTED",
        "LEAD_ERASED",
        "CLIENT_NOT_FOUND",
        "CONVERSION_SETTLED",
        "ACTION_DONE",
        "WRITE_CONFLICT",
    ];
    for outcome in calls.join_all().await {
        if let Err(status) = outcome {
            let reason = reason(&status);
            assert!(documented.contains(&reason.as_str()), "{status:?}");
        }
    }
    explained(setup, &lead, &[client, second], &order).await;
}

/// The changes of a field of a record, oldest first. There is one entry of the history for each version.
async fn changes(caller: &Caller, record: &Lead, field: &str) -> Vec<(String, String)> {
    let mut entries: Vec<HistoryEntry> = caller.history(&record.id).await;
    entries.reverse();
    assert_eq!(record.etag, format!("\"{}\"", entries.len()));
    let changes = entries.into_iter().flat_map(|entry| entry.changes);
    let changes = changes.filter(|change| change.field == field);
    changes
        .map(|change| (change.old_value, change.new_value))
        .collect()
}

/// The last value of a field, each of whose changes begins where the one before it ended.
async fn last(caller: &Caller, record: &Lead, field: &str) -> String {
    let mut value = String::new();
    for (from, to) in changes(caller, record, field).await {
        assert_eq!(from, value, "{field}");
        value = to;
    }
    value
}

/// Replays the histories: no step contradicts the one before, and all end in what is stored.
async fn explained(setup: &Setup, lead: &str, clients: &[String], order: &str) {
    let viewer = &setup.harness.viewer;
    let lead = viewer.get(lead).await;
    let state = last(viewer, &lead, "state").await;
    assert_eq!(lead.state().as_str_name(), format!("LEAD_STATE_{state}"));
    let joined_to = last(viewer, &lead, "conversion.client_id").await;
    let conversion = lead.conversion.as_ref();
    let stored = conversion.map(|by| by.client_id.as_str());
    assert_eq!(
        stored.filter(|id| *id != lead.id).unwrap_or_default(),
        joined_to
    );
    for client in clients {
        let client = viewer.get(client).await;
        let state = last(viewer, &client, "state").await;
        assert_eq!(client.state().as_str_name(), format!("LEAD_STATE_{state}"));
        let mut joined = Vec::new();
        for (left, came) in changes(viewer, &client, "lead_ids").await {
            match came.is_empty() {
                true => assert_eq!(joined.pop(), Some(left)),
                false => joined.push(came),
            }
        }
        let is_joined = joined_to == client.id;
        assert_eq!(joined.len(), usize::from(is_joined));
        // A client to which a lead is joined is one.
        if is_joined {
            let view = viewer.client(&client.id).await.unwrap();
            assert_eq!(view.lead_ids, std::slice::from_ref(&lead.id));
            assert_eq!(client.state(), LeadState::Converted);
        }
        // It has the lead's phone as long as the lead is joined to it, and nobody erased it.
        let has_phone = is_joined && client.erasure.is_none();
        assert_eq!(client.phone == "1", has_phone, "{client:?}");
    }
    let request = proto::GetOrderRequest { id: order.into() };
    let order = viewer.orders().get(request).await.unwrap();
    if order.into_inner().order.unwrap().state() == OrderState::Complete {
        assert_eq!(
            lead.state(),
            LeadState::Converted,
            "a complete order settles it"
        );
    }
}

async fn races(setup: Setup) {
    for erased in [Erased::Nothing, Erased::Lead, Erased::Client] {
        race(&setup, erased).await;
        race(&setup, erased).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_of_a_race_is_explained_on_sqlite() {
    races(Setup::open(Backend::Sqlite, 1).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_of_a_race_is_explained_on_postgres_with_three_servers() {
    races(Setup::open(Backend::Postgres, 3).await).await;
}

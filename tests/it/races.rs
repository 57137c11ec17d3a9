//! Concurrent callers: what must happen once happens once, and all errors are documented.

use leadsmith_proto::{self as proto, Lead};
use tokio::task::JoinSet;
use tonic::Status;

use crate::harness::{
    Backend, Caller, Harness, PASSWORD, TestDatabase, channel, reason, sign_in, update,
};
use crate::on_both;
use crate::program::{Serving, leadsmith};

const CALLERS: usize = 64;

/// Callers on several servers with one database.
pub struct Setup {
    _servers: Vec<Serving>,
    callers: Vec<Caller>,
    pub harness: Harness,
}

impl Setup {
    /// `servers` processes of the real program, in addition to the one that created the operators.
    pub async fn open(backend: Backend, servers: usize) -> Self {
        let harness = Harness::start(backend).await;
        let mut processes = Vec::new();
        let mut callers = Vec::new();
        for _ in 0..servers {
            let url = &harness.database.url;
            let process = leadsmith("serve").database(url).serve().await;
            let channel = channel(process.address);
            let token = sign_in(channel.clone(), "sales", PASSWORD).await.unwrap();
            callers.push(Caller {
                id: harness.sales.id,
                token,
                channel,
            });
            processes.push(process);
        }
        Self {
            _servers: processes,
            callers,
            harness,
        }
    }

    pub fn caller(&self, index: usize) -> Caller {
        self.callers[index % self.callers.len()].clone()
    }
}

async fn convert_race(setup: &Setup) {
    let sales = &setup.harness.sales;
    let lead = sales.create_lead("Race").await;
    let order = sales.create_order(&lead.id, Vec::new()).await;

    let mut calls = JoinSet::new();
    for index in 0..CALLERS {
        let (caller, lead, order) = (setup.caller(index), lead.clone(), order.clone());
        calls.spawn(async move {
            // The kind of call must not depend on the server, which is chosen by the parity of the index.
            if index % 4 < 2 {
                caller.convert(&lead.id).await.map(|_| false)
            } else {
                let ran = caller.run(&order.id, "provision-client").await;
                ran.map(|ran| ran.run.unwrap().no_change)
            }
        });
    }
    let outcomes: Vec<Result<bool, Status>> = calls.join_all().await;
    let converted = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(false)))
        .count();
    let unchanged = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(true)))
        .count();
    assert_eq!(converted, 1, "one of {CALLERS} converts: {outcomes:?}");
    assert!(unchanged <= 1, "the action can be run once");
    for status in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let reason = reason(status);
        assert!(
            ["LEAD_CONVERTED", "ACTION_DONE"].contains(&reason.as_str()),
            "{status:?}"
        );
    }

    let id = &lead.id;
    assert_eq!(sales.get(id).await.state(), proto::LeadState::Converted);
    let conversions = |entries: Vec<proto::HistoryEntry>| {
        let to_converted = |entry: &&proto::HistoryEntry| {
            entry
                .changes
                .iter()
                .any(|change| change.field == "state" && change.new_value == "CONVERTED")
        };
        entries.iter().filter(to_converted).count()
    };
    assert_eq!(conversions(sales.history(id).await), 1, "one history row");
    let events = "SELECT count(*) FROM events WHERE type = 'lead.converted'";
    assert_eq!(setup.harness.count(events).await, 1, "one event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_converts_on_sqlite() {
    convert_race(&Setup::open(Backend::Sqlite, 1).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_converts_on_postgres_with_two_servers() {
    convert_race(&Setup::open(Backend::Postgres, 2).await).await;
}

on_both! {
    async fn no_update_is_lost(h: Harness) {
        let lead = h.sales.create_lead("Shared").await;
        let mut calls = JoinSet::new();
        for index in 0..CALLERS {
            let (sales, id) = (h.sales.clone(), lead.id.clone());
            calls.spawn(async move {
                let key = format!("k{index}");
                let mut change = Lead { id, ..Lead::default() };
                change.custom_fields.insert(key.clone(), "set".into());
                sales.update(change, &[&format!("custom_fields.{key}")]).await.unwrap();
            });
        }
        calls.join_all().await;
        let after = h.sales.get(&lead.id).await;
        assert_eq!(after.custom_fields.len(), CALLERS, "each call touched only what it named");
        assert_eq!(after.etag, format!("\"{}\"", CALLERS + 1));
        assert_eq!(h.sales.history(&lead.id).await.len(), CALLERS + 1);
    }

    async fn of_updates_with_one_etag_one_succeeds(h: Harness) {
        let lead = h.sales.create_lead("Etag").await;
        let mut calls = JoinSet::new();
        for index in 0..CALLERS {
            let (sales, lead) = (h.sales.clone(), lead.clone());
            calls.spawn(async move {
                let change = Lead {
                    id: lead.id,
                    etag: lead.etag,
                    phone: index.to_string(),
                    ..Lead::default()
                };
                sales.leads().update(update(change, &["phone"])).await
            });
        }
        let outcomes = calls.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for status in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(reason(status), "ETAG_MISMATCH");
        }
    }

    async fn a_mix_of_everything_ends_in_a_state_its_history_explains(h: Harness) {
        let lead = h.sales.create_lead("Mix").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let mut calls = JoinSet::new();
        for index in 0..CALLERS {
            let (sales, id, order) = (h.sales.clone(), lead.id.clone(), order.id.clone());
            calls.spawn(async move {
                match index % 5 {
                    0 => sales.deactivate(&id).await.map(|_| ()),
                    1 => sales.reactivate(&id).await.map(|_| ()),
                    2 if index > 40 => sales.convert(&id).await.map(|_| ()),
                    3 if index > 40 => sales.run(&order, "provision-client").await.map(|_| ()),
                    _ => {
                        let change = Lead { id, phone: index.to_string(), ..Lead::default() };
                        sales.update(change, &["phone"]).await.map(|_| ())
                    }
                }
            });
        }
        for outcome in calls.join_all().await {
            let documented = ["LEAD_DEACTIVATED", "LEAD_CONVERTED", "LEAD_NOT_DEACTIVATED", "ACTION_DONE"];
            if let Err(status) = outcome {
                assert!(documented.contains(&reason(&status).as_str()), "{status:?}");
            }
        }
        // Replaying the state changes of the history, oldest first, must never lead to a contradiction.
        let mut entries = h.sales.history(&lead.id).await;
        entries.reverse();
        let mut state = String::new();
        for change in entries.iter().flat_map(|entry| &entry.changes) {
            if change.field == "state" {
                assert_eq!(change.old_value, state);
                state.clone_from(&change.new_value);
            }
        }
        let after = h.sales.get(&lead.id).await;
        assert_eq!(after.state().as_str_name(), format!("LEAD_STATE_{state}"));
        assert_eq!(after.etag, format!("\"{}\"", entries.len()));
        let events = h.count("SELECT count(*) FROM events WHERE type LIKE 'lead.%'").await;
        assert_eq!(usize::try_from(events).unwrap(), entries.len());
        let times: Vec<_> = entries.iter().map(|entry| entry.time.unwrap()).collect();
        assert!(times.is_sorted_by_key(|time| (time.seconds, time.nanos)), "time goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_signed_by_one_server_pages_on_another() {
    let setup = Setup::open(Backend::Postgres, 2).await;
    for index in 0..3 {
        setup
            .harness
            .sales
            .create_lead(&format!("Page {index}"))
            .await;
    }
    let request = |page_token| proto::ListLeadsRequest {
        page_size: 2,
        page_token,
        ..Default::default()
    };
    let first = setup.callers[0]
        .leads()
        .list(request(String::new()))
        .await
        .unwrap()
        .into_inner();
    let second = setup.callers[1]
        .leads()
        .list(request(first.next_page_token))
        .await
        .unwrap();
    assert_eq!(second.into_inner().leads.len(), 1);
}

/// A prepared database for [`Process`]es, without a server in this process.
pub async fn prepared(backend: Backend) -> TestDatabase {
    let harness = Harness::start(backend).await;
    harness.server.stop().await.unwrap();
    harness.database
}

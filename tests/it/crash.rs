//! Acknowledged changes survive a server killed under load, and clients that disconnect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leadsmith_proto::{self as proto, Lead};
use sea_orm::{ConnectionTrait, Statement};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::harness::{Backend, Caller, PASSWORD, channel, count, sign_in};
use crate::on_both;
use crate::program::leadsmith;
use crate::races::prepared;

const CLIENTS: usize = 32;
const KILLS: usize = 10;

/// What was acknowledged to the clients: for each lead the highest version that they saw.
type Acknowledged = Arc<Mutex<BTreeMap<String, (u64, String)>>>;

fn version(lead: &Lead) -> u64 {
    lead.etag.trim_matches('"').parse().unwrap()
}

/// Creates leads and changes them until the server is gone, and records only acknowledged changes.
async fn write_until_gone(caller: Caller, acknowledged: Acknowledged, name: String) {
    for round in 0..10_000 {
        let lead = Lead {
            last_name: format!("{name} {round}"),
            ..Lead::default()
        };
        let Ok(lead) = caller.create(lead).await else {
            return;
        };
        acknowledged
            .lock()
            .await
            .insert(lead.id.clone(), (1, String::new()));
        for step in 0..3 {
            let phone = format!("{round}-{step}");
            let change = Lead {
                id: lead.id.clone(),
                phone: phone.clone(),
                ..Lead::default()
            };
            let Ok(updated) = caller.update(change, &["phone"]).await else {
                return;
            };
            acknowledged
                .lock()
                .await
                .insert(lead.id.clone(), (version(&updated), phone));
        }
    }
}

async fn survives_kills(backend: Backend) {
    let database = prepared(backend).await;
    let acknowledged = Acknowledged::default();
    for kill in 0..KILLS {
        let mut server = leadsmith("serve").database(&database.url).serve().await;
        let token = sign_in(channel(server.address), "sales", PASSWORD)
            .await
            .unwrap();
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let caller = Caller {
                id: uuid::Uuid::nil(),
                token: token.clone(),
                channel: channel(server.address),
            };
            clients.spawn(write_until_gone(
                caller,
                acknowledged.clone(),
                format!("{kill}-{client}"),
            ));
        }
        // Some changes must be acknowledged before the kill, which then comes at a random moment.
        let before = acknowledged.lock().await.len();
        for _ in 0..1_000 {
            if acknowledged.lock().await.len() > before + CLIENTS {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(37 * kill as u64 % 150)).await;
        server.kill();
        clients.join_all().await;
    }

    let server = leadsmith("serve").database(&database.url).serve().await;
    let token = sign_in(channel(server.address), "viewer", PASSWORD)
        .await
        .unwrap();
    let viewer = Caller {
        id: uuid::Uuid::nil(),
        token,
        channel: channel(server.address),
    };
    let acknowledged = acknowledged.lock().await;
    assert!(
        acknowledged.len() > KILLS * CLIENTS,
        "only {} leads were written",
        acknowledged.len()
    );
    for (id, (seen, phone)) in acknowledged.iter() {
        let lead = viewer.get(id).await;
        assert!(
            version(&lead) >= *seen,
            "an acknowledged change of {id} is gone"
        );
        if version(&lead) == *seen {
            assert_eq!(lead.phone, *phone);
        }
    }
    let db = database.connect().await;
    for (what, sql) in [
        (
            "versions without a history row",
            "SELECT count(*) FROM leads l WHERE l.version <> (SELECT count(*) FROM history h WHERE h.subject_id = l.id)",
        ),
        (
            "versions without an event",
            "SELECT count(*) FROM leads l WHERE l.version <> (SELECT count(*) FROM events e WHERE e.subject_id = l.id)",
        ),
        (
            "history rows without a lead",
            "SELECT count(*) FROM history h WHERE NOT EXISTS (SELECT 1 FROM leads l WHERE l.id = h.subject_id) \
             AND h.subject NOT IN ('OPERATOR', 'SERVICE_ACCOUNT')",
        ),
        (
            "events without a lead",
            "SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT 1 FROM leads l WHERE l.id = e.subject_id) \
             AND e.type NOT LIKE 'operator.%' AND e.type NOT LIKE 'service_account.%'",
        ),
        (
            "leads that cannot be searched",
            "SELECT (SELECT count(*) FROM leads) - (SELECT count(*) FROM lead_search)",
        ),
    ] {
        assert_eq!(count(&db, sql).await, 0, "{what}");
    }
    if backend == Backend::Sqlite {
        let check = Statement::from_string(db.get_database_backend(), "PRAGMA integrity_check");
        let row = db.query_one_raw(check).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "ok");
        crate::lists::search_index::check(&db).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_sqlite() {
    survives_kills(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_postgres() {
    survives_kills(Backend::Postgres).await;
}

on_both! {
    async fn who_hangs_up_leaves_the_pool_clean_and_the_effect_whole_or_absent(h: Harness) {
        let done = Arc::new(AtomicUsize::new(0));
        let mut calls = JoinSet::new();
        for index in 0..200_u64 {
            let (sales, done) = (h.sales.clone(), done.clone());
            calls.spawn(async move {
                let lead = Lead { last_name: format!("Hang up {index}"), ..Lead::default() };
                // Dropping the call resets its stream at any point of its execution.
                let patience = Duration::from_micros(index * 150);
                if tokio::time::timeout(patience, sales.create(lead)).await.is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        calls.join_all().await;
        assert!(done.load(Ordering::Relaxed) < 200, "no caller disconnected");

        // Every connection is usable: there are more callers than connections, and all get a response.
        let mut calls = JoinSet::new();
        for index in 0..40 {
            let sales = h.sales.clone();
            calls.spawn(async move { sales.create_lead(&format!("After {index}")).await });
        }
        calls.join_all().await;

        let whole = "SELECT count(*) FROM leads l
            WHERE 1 <> (SELECT count(*) FROM history h WHERE h.subject_id = l.id)
               OR 1 <> (SELECT count(*) FROM events e WHERE e.subject_id = l.id)";
        assert_eq!(h.count(whole).await, 0, "no effect without its history row and event");
        let rows = "SELECT (SELECT count(*) FROM history WHERE subject = 'LEAD') - (SELECT count(*) FROM leads)";
        assert_eq!(h.count(rows).await, 0);
        if h.database.backend == Backend::Postgres {
            let stuck = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
            assert_eq!(h.count(stuck).await, 0);
        }
    }

    async fn a_change_whose_caller_hung_up_can_be_repeated(h: Harness) {
        // The client disconnects immediately. The retry with the same id must still have one effect.
        let request = proto::CreateLeadRequest {
            lead: Some(Lead { last_name: "Once".into(), ..Lead::default() }),
            request_id: "7a5c2b8e-52a1-4f2e-9a7e-0d3d8f0c4b11".into(),
            ..Default::default()
        };
        for patience in [0, 200, 500, 1_000, 2_000, 4_000] {
            let mut leads = h.sales.leads();
            let call = leads.create(request.clone());
            let _ = tokio::time::timeout(Duration::from_micros(patience), call).await;
        }
        let mut answer = None;
        for _ in 0..100 {
            if let Ok(response) = h.sales.leads().create(request.clone()).await {
                answer = response.into_inner().lead;
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(answer.expect("an answer").etag, "\"1\"");
        assert_eq!(h.count("SELECT count(*) FROM leads").await, 1);
    }
}

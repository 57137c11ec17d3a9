//! Rows that another client has locked in PostgreSQL: only calls that need them wait.

use std::time::{Duration, Instant};

use leadsmith_proto::{self as proto, Lead};
use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};
use tokio::task::JoinSet;
use tonic::Status;

use crate::harness::{Backend, Caller, Harness, connect, reason};

/// The longest that a change waits here for locks is two seconds.
async fn start() -> Harness {
    Harness::start_with(Backend::Postgres, |settings| {
        settings.limits.connection_wait = Duration::from_secs(4);
    })
    .await
}

/// Locks rows until the end of the transaction.
async fn lock(h: &Harness, table: &str, ids: &[String]) -> DatabaseTransaction {
    let db = connect(&h.database.url).await.unwrap();
    let held = db.begin().await.unwrap();
    let sql = format!(
        "SELECT 1 FROM {table} WHERE id IN ('{}') FOR UPDATE",
        ids.join("', '")
    );
    held.execute_unprepared(&sql).await.unwrap();
    held
}

async fn phone(caller: Caller, id: String) -> Result<Lead, Status> {
    let change = Lead {
        id,
        phone: "1".into(),
        ..Lead::default()
    };
    caller.update(change, &["phone"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_locked_for_long_fail_only_those_who_want_them() {
    let h = start().await;
    let mut ids = Vec::new();
    for n in 0..48 {
        ids.push(h.sales.create_lead(&format!("Lead {n}")).await.id);
    }
    // More calls than the server has connections to wait with.
    let (long, short) = ids.split_at(8);
    let for_long = lock(&h, "leads", long).await;
    let for_short = lock(&h, "leads", short).await;
    let mut calls = JoinSet::new();
    for id in &ids {
        let (caller, id) = (h.sales.clone(), id.clone());
        calls.spawn(async move { (id.clone(), phone(caller, id).await) });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for_short.rollback().await.unwrap();
    // Calls on rows that are not locked do not wait.
    let begun = Instant::now();
    h.sales.create_lead("Unlocked").await;
    let waited = begun.elapsed();
    assert!(waited < Duration::from_millis(1_500), "{waited:?}");
    for (id, outcome) in calls.join_all().await {
        if long.contains(&id) {
            assert_eq!(reason(&outcome.unwrap_err()), "WRITE_CONFLICT");
        } else {
            outcome.unwrap();
        }
    }
    for_long.rollback().await.unwrap();
    for id in long {
        phone(h.sales.clone(), id.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_waits_for_a_lock_is_made_once_it_is_free() {
    let h = start().await;
    let lead = h.sales.create_lead("Locked").await;
    let held = lock(&h, "leads", std::slice::from_ref(&lead.id)).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        calls.spawn(phone(h.sales.clone(), lead.id.clone()));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    held.rollback().await.unwrap();
    for outcome in calls.join_all().await {
        outcome.unwrap();
    }
    // One of them had an effect.
    assert_eq!(h.sales.history(&lead.id).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opportunities_are_locked_like_every_record() {
    let h = start().await;
    let lead = h.sales.create_lead("Opportunity").await;
    let request = proto::CreateOpportunityRequest {
        opportunity: Some(proto::Opportunity {
            lead_id: lead.id.clone(),
            name: "A sale".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let created = h.sales.opportunities().create(request).await.unwrap();
    let opportunity = created.into_inner().opportunity.unwrap();
    let order = proto::CreateOrderRequest {
        order: Some(proto::Order {
            lead_id: lead.id.clone(),
            opportunity_id: opportunity.id.clone(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let held = lock(&h, "opportunities", std::slice::from_ref(&opportunity.id)).await;
    let status = h.sales.orders().create(order.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "WRITE_CONFLICT");
    let status = h.sales.win(&opportunity.id).await.unwrap_err();
    assert_eq!(reason(&status), "WRITE_CONFLICT");
    let status = h.admin.erase(&lead.id).await.unwrap_err();
    assert_eq!(reason(&status), "WRITE_CONFLICT");
    let closing = tokio::spawn({
        let (sales, id) = (h.sales.clone(), opportunity.id.clone());
        async move { sales.win(&id).await }
    });
    let waiting = tokio::spawn({
        let sales = h.sales.clone();
        async move { sales.orders().create(order).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    held.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
    closing.await.unwrap().unwrap();
    h.admin.erase(&lead.id).await.unwrap();
}

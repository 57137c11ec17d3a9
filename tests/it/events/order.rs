//! The order of events: what commits late is not skipped.

use leadsmith::core::role::Role;
use leadsmith_proto::{self as proto, Lead};
use sea_orm::{ConnectionTrait, TransactionTrait};

use super::{from_now, from_token, of_leads, watch};
use crate::harness::{Backend, Harness};
use crate::on_both;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_committed_after_later_ones_is_not_skipped() {
    let h = Harness::start(Backend::Postgres).await;
    let first = h.sales.create_lead("First").await;
    let mut stream = watch(&h.viewer, of_leads(from_now())).await;
    // A transaction that has numbered its event and is held open.
    let db = h.database.connect().await;
    let held = db.begin().await.unwrap();
    held.execute_unprepared(&format!(
        "INSERT INTO events (id, lead_id, type, subject_id, version, time, actor, record) \
         SELECT gen_random_uuid(), lead_id, 'lead.held', subject_id, 99, time, actor, \
         '{{\"erased\": true}}' FROM events WHERE subject_id = '{}'",
        first.id
    ))
    .await
    .unwrap();
    let second = h.sales.create_lead("Second").await;
    assert_eq!(
        stream.event().await.subject_id,
        second.id,
        "it does not wait for the other"
    );
    let token = stream.token.clone();
    let third = h.sales.create_lead("Third").await;
    held.commit().await.unwrap();
    let mut rest = stream.events(2).await;
    rest.sort();
    let mut expected = [
        ("lead.created".to_owned(), third.id.clone()),
        ("lead.held".to_owned(), first.id.clone()),
    ];
    expected.sort();
    assert_eq!(rest, expected);
    // So too for a reader that resumes.
    let mut resumed = watch(&h.viewer, of_leads(from_token(&token))).await;
    let mut rest = resumed.events(2).await;
    rest.sort();
    assert_eq!(rest, expected);
}

on_both! {
    async fn many_writers_and_readers_agree(h: Harness) {
        const LEADS: usize = 8;
        const CHANGES: usize = 12;
        let mut early = watch(&h.viewer, of_leads(from_now())).await;
        let start = early.token.clone();
        let beside = h.another_server(|_| {}).await;
        let writer = h.service_account("writer", Role::Sales).await;
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..LEADS {
            let caller = match number % 2 {
                0 => writer.at(&beside),
                _ => writer.clone(),
            };
            writers.spawn(async move {
                let lead = caller.create_lead("Lovelace").await;
                for change in 1..CHANGES {
                    let changed = Lead {
                        id: lead.id.clone(),
                        phone: change.to_string(),
                        ..Lead::default()
                    };
                    caller.update(changed, &["phone"]).await.unwrap();
                }
            });
        }
        let mut orders = Vec::new();
        let mut late = watch(&h.viewer, of_leads(from_token(&start))).await;
        for stream in [&mut early, &mut late] {
            let mut versions = std::collections::HashMap::new();
            for count in 0..LEADS * CHANGES {
                let event = stream.event().await;
                let version: &mut i64 = versions.entry(event.subject_id.clone()).or_default();
                assert_eq!(event.version, *version + 1, "{event:?}");
                *version = event.version;
                let phone = |version: Option<proto::RecordVersion>| crate::events::lead(version).unwrap().phone;
                if event.version > 1 {
                    assert_eq!(phone(event.after), (event.version - 1).to_string());
                }
                // Readers that stop and resume in between.
                if count % 17 == 0 {
                    let token = stream.token.clone();
                    *stream = watch(&h.viewer, of_leads(from_token(&token))).await;
                }
            }
            assert_eq!(versions.len(), LEADS);
            orders.push(versions);
        }
        assert_eq!(orders[0], orders[1]);
        writers.join_all().await;
        beside.stop().await.unwrap();
    }
}

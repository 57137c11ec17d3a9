//! Tokens: lists that are followed, streams that resume, and tokens that are too old.

use std::time::Duration;

use leadsmith::core::role::Role;
use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::{self as proto, Lead};
use sea_orm::ConnectionTrait;

use super::{from_earliest, from_now, from_token, lead, of_leads, refused, request, watch};
use crate::harness::{Backend, Harness, eventually, metadata, reason};
use crate::on_both;

on_both! {
    async fn a_list_is_followed_without_missing_anything(h: Harness) {
        let first = h.sales.create_lead("First").await;
        let second = h.sales.create_lead("Second").await;
        let list = proto::ListLeadsRequest { page_size: 1, ..Default::default() };
        let page = h.viewer.leads().list(list.clone()).await.unwrap().into_inner();
        let third = h.sales.create_lead("Third").await;
        let list = proto::ListLeadsRequest { page_token: page.next_page_token, ..list };
        let rest = h.viewer.leads().list(list).await.unwrap().into_inner();
        assert_eq!(rest.watch_token, "", "of the first page only");
        let mut stream = watch(&h.viewer, of_leads(from_token(&page.watch_token))).await;
        loop {
            let event = stream.event().await;
            if event.subject_id == third.id {
                break;
            }
            assert!([&first.id, &second.id].contains(&&event.subject_id), "{event:?}");
        }
        for token in [
            h.viewer.clients().list(proto::ListClientsRequest::default()).await.unwrap().into_inner().watch_token,
            h.viewer.opportunities().list(proto::ListOpportunitiesRequest::default()).await.unwrap().into_inner().watch_token,
            h.viewer.orders().list(proto::ListOrdersRequest::default()).await.unwrap().into_inner().watch_token,
            h.viewer.queues().list(proto::ListOrderQueuesRequest::default()).await.unwrap().into_inner().watch_token,
            h.viewer.operators().list(proto::ListOperatorsRequest::default()).await.unwrap().into_inner().watch_token,
            h.admin.service_accounts().list(proto::ListServiceAccountsRequest::default()).await.unwrap().into_inner().watch_token,
        ] {
            watch(&h.viewer, from_token(&token)).await;
        }
    }

    async fn a_stream_resumes_after_its_last_message_with_other_filters_too(h: Harness) {
        let [one, two, three] = [
            h.sales.create_lead("One").await,
            h.sales.create_lead("Two").await,
            h.sales.create_lead("Three").await,
        ];
        let mut stream = watch(&h.viewer, of_leads(from_earliest())).await;
        assert_eq!(stream.event().await.subject_id, one.id);
        let token = stream.token.clone();
        drop(stream);
        h.sales.deactivate(&one.id).await.unwrap();
        let mut all = watch(&h.sales, of_leads(from_token(&token))).await;
        let expected = [
            ("lead.created".to_owned(), two.id),
            ("lead.created".to_owned(), three.id),
            ("lead.deactivated".to_owned(), one.id.clone()),
        ];
        assert_eq!(all.events(3).await, expected);
        let mut narrow = from_token(&token);
        narrow.lead_id = one.id;
        let mut narrow = watch(&h.sales, narrow).await;
        assert_eq!(narrow.event().await.r#type, "lead.deactivated");
    }

    async fn a_stream_gets_what_no_stream_wanted_when_it_happened(h: Harness) {
        let [quiet, busy] = [h.sales.create_lead("Quiet").await, h.sales.create_lead("Busy").await];
        let of_type = |name: &str, begin: proto::WatchEventsRequest| proto::WatchEventsRequest {
            types: vec![name.into()],
            ..begin
        };
        let of_quiet = proto::WatchEventsRequest { lead_id: quiet.id.clone(), ..from_now() };
        let mut narrow = watch(&h.viewer, of_quiet).await;
        let mut of_some = watch(&h.viewer, of_type("lead.reactivated", from_now())).await;
        let before = narrow.token.clone();
        // More than a stream reads of the log at once.
        for round in 0..40 {
            let change = Lead { id: busy.id.clone(), phone: round.to_string(), ..Lead::default() };
            h.sales.update(change, &["phone"]).await.unwrap();
            h.sales.deactivate(&busy.id).await.unwrap();
            h.sales.reactivate(&busy.id).await.unwrap();
        }
        h.sales.deactivate(&quiet.id).await.unwrap();
        assert_eq!(narrow.event().await.r#type, "lead.deactivated");
        let phone = |version: Option<proto::RecordVersion>| lead(version).unwrap().phone;
        for round in 0..40 {
            // The versions between were not wanted by any stream.
            let event = of_some.event().await;
            assert_eq!((phone(event.before), phone(event.after)), (round.to_string(), round.to_string()));
        }
        let mut updates = watch(&h.sales, of_type("lead.updated", from_token(&before))).await;
        let mut all = watch(&h.sales, of_leads(from_token(&before))).await;
        for round in 0..40_i64 {
            assert_eq!(phone(updates.event().await.after), round.to_string());
            for version in 2 + 3 * round..5 + 3 * round {
                let event = all.event().await;
                assert_eq!((&event.subject_id, event.version), (&busy.id, version));
                assert!(event.before.is_some() && event.after.is_some(), "{event:?}");
            }
        }
        assert_eq!(all.event().await.subject_id, quiet.id);
    }

    async fn a_stream_begins_with_a_time(h: Harness) {
        h.sales.create_lead("Before").await;
        h.clock.advance(chrono::Duration::hours(1));
        let lead = h.sales.create_lead("After").await;
        let mut start = lead.create_time.unwrap();
        start.seconds -= 60;
        let mut stream = watch(&h.viewer, of_leads(request(Begin::StartTime(start)))).await;
        let token = stream.token.clone();
        assert_eq!(stream.event().await.subject_id, lead.id);
        // The token remembers the time.
        let mut again = watch(&h.viewer, of_leads(from_token(&token))).await;
        assert_eq!(again.event().await.subject_id, lead.id);
    }

    async fn a_token_that_retention_has_passed_is_refused_with_the_earliest(h: Harness) {
        // Sessions would expire.
        let caller = h.service_account("crm", Role::Sales).await;
        caller.create_lead("Old").await;
        if h.database.backend == Backend::Postgres {
            // Transactions of other databases that are older would make the position cautious.
            eventually("older transactions have ended", async || {
                h.count(
                    "SELECT count(*) FROM events WHERE \
                     transaction_id >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
                )
                .await == 0
            })
            .await;
        }
        let mut stream = watch(&caller, of_leads(from_earliest())).await;
        let start = stream.token.clone();
        stream.event().await;
        let read = stream.token.clone();
        let server = h.another_server(|settings| {
            settings.limits.retention_interval = Duration::from_millis(20);
            settings.limits.keep_events = 2;
        }).await;
        h.clock.advance(chrono::Duration::hours(49));
        let kept = caller.create_lead("New").await;
        eventually("the old ones go", async || {
            h.count("SELECT count(*) FROM events").await == 1
        }).await;
        server.stop().await.unwrap();
        let status = refused(&caller, of_leads(from_token(&start))).await;
        assert_eq!(reason(&status), "RESUME_TOKEN_EXPIRED");
        assert_eq!(metadata(&status, "cause"), "RETENTION");
        let earliest = metadata(&status, "earliest_token");
        for request in [from_token(&earliest), from_token(&read), from_earliest()] {
            let mut stream = watch(&caller, of_leads(request)).await;
            assert_eq!(stream.event().await.subject_id, kept.id);
        }
        assert_eq!(stream.event().await.subject_id, kept.id, "it was open all the time");
    }

    async fn a_token_of_a_lost_future_is_refused(h: Harness) {
        h.sales.create_lead("Kept").await;
        let mut stream = watch(&h.viewer, of_leads(from_earliest())).await;
        stream.event().await;
        let kept = stream.token.clone();
        let lost = h.sales.create_lead("Lost").await;
        stream.event().await;
        let token = stream.token.clone();
        drop(stream);
        // As after a restore of a backup that was made before.
        let db = h.database.connect().await;
        let id = match h.database.backend {
            Backend::Sqlite => format!("x'{}'", lost.id.replace('-', "")),
            Backend::Postgres => format!("'{}'", lost.id),
        };
        db.execute_unprepared(&format!("DELETE FROM events WHERE subject_id = {id}")).await.unwrap();
        let status = refused(&h.viewer, from_token(&token)).await;
        assert_eq!(reason(&status), "RESUME_TOKEN_EXPIRED");
        assert_eq!(metadata(&status, "cause"), "RESTORED");
        watch(&h.viewer, from_token(&kept)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_database_is_refused_after_a_restore() {
    let h = Harness::start(Backend::Postgres).await;
    let lead = h.sales.create_lead("Lovelace").await;
    let mut stream = watch(&h.viewer, of_leads(from_earliest())).await;
    stream.event().await;
    let token = stream.token.clone();
    drop(stream);
    // A restored dump has the identity of the database that it was made of.
    let db = h.database.connect().await;
    db.execute_unprepared("UPDATE event_log SET cluster = 'another/1'")
        .await
        .unwrap();
    let server = h.another_server(|_| {}).await;
    let status = refused(&h.viewer.at(&server), from_token(&token)).await;
    assert_eq!(metadata(&status, "cause"), "RESTORED");
    assert_eq!(
        h.count("SELECT count(*) FROM events WHERE transaction_id <> 0")
            .await,
        0
    );
    h.sales.deactivate(&lead.id).await.unwrap();
    let earliest = metadata(&status, "earliest_token");
    let mut stream = watch(&h.viewer.at(&server), of_leads(from_token(&earliest))).await;
    let expected = [
        ("lead.created".to_owned(), lead.id.clone()),
        ("lead.deactivated".to_owned(), lead.id),
    ];
    assert_eq!(stream.events(2).await, expected);
    server.stop().await.unwrap();
}

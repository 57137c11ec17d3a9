//! `EventService.List`: the audit trail.

use std::collections::BTreeSet;

use chrono::Duration;
use leadsmith::core::role::Role;
use leadsmith_proto::{
    self as proto, ChangeEvent, EventSubject, Lead, ListEventsRequest, ListEventsResponse,
    PrincipalKind, watch_events_response::Item,
};
use prost::Message;
use tonic::{Code, Status};

use super::{from_earliest, from_token, lead, of_leads, watch};
use crate::harness::{Caller, Harness, reason, violations};
use crate::lists::pages;
use crate::on_both;

pub async fn list(
    caller: &Caller,
    request: ListEventsRequest,
) -> Result<ListEventsResponse, Status> {
    Ok(caller.events().list(request).await?.into_inner())
}

/// All events of a list.
async fn all(caller: &Caller, request: &ListEventsRequest) -> Vec<ChangeEvent> {
    pages(async |page_token| {
        let request = ListEventsRequest {
            page_token,
            ..request.clone()
        };
        let page = list(caller, request).await.unwrap();
        (page.events, page.next_page_token)
    })
    .await
    .concat()
}

/// Every event of the log, the newest first, as Watch sends them.
async fn watched(h: &Harness) -> Vec<ChangeEvent> {
    let count = h.count("SELECT count(*) FROM events").await;
    let mut stream = watch(&h.admin, from_earliest()).await;
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(stream.event().await);
    }
    events.reverse();
    events
}

/// Changes of every kind of record by several principals.
async fn some_changes(h: &Harness) -> [Lead; 2] {
    let leads = [
        h.sales.create_lead("Lovelace").await,
        h.admin.create_lead("Hopper").await,
    ];
    for company in ["Analytical", "Difference", ""] {
        let changed = Lead {
            company: company.into(),
            etag: String::new(),
            ..leads[0].clone()
        };
        h.sales.update(changed, &["company"]).await.unwrap();
    }
    let sale = h.sales.create_sale(&leads[0].id, "Engine").await;
    h.admin.win(&sale.id).await.unwrap();
    let worker = h.service_account("worker", Role::Sales).await;
    let order = worker.create_order(&leads[1].id, Vec::new()).await;
    worker.run(&order.id, "provision-client").await.unwrap();
    h.operator("newcomer", Role::Viewer).await;
    let operator = proto::Operator {
        username: "another".into(),
        role: proto::Role::Viewer.into(),
        ..Default::default()
    };
    let create = proto::CreateOperatorRequest {
        operator: Some(operator),
        password: "a long enough password".into(),
        ..Default::default()
    };
    h.admin.operators().create(create).await.unwrap();
    leads
}

type Matches = Box<dyn Fn(&ChangeEvent) -> bool>;

/// Filters, each with what it says about an event.
fn filters(h: &Harness, leads: &[Lead; 2], worker: &str) -> Vec<(ListEventsRequest, Matches)> {
    let none = ListEventsRequest::default();
    let mut filters: Vec<(ListEventsRequest, Matches)> = vec![(none.clone(), Box::new(|_| true))];
    for id in [
        h.sales.id.to_string(),
        h.admin.id.to_string(),
        worker.to_owned(),
    ] {
        let request = ListEventsRequest {
            actor_id: id.clone(),
            ..none.clone()
        };
        let matches = move |event: &ChangeEvent| event.actor.as_ref().unwrap().id == id;
        filters.push((request, Box::new(matches)));
    }
    for kinds in [
        vec![PrincipalKind::CommandLine],
        vec![PrincipalKind::Operator, PrincipalKind::ServiceAccount],
    ] {
        let kinds: Vec<i32> = kinds.into_iter().map(i32::from).collect();
        let request = ListEventsRequest {
            actor_kinds: kinds.clone(),
            ..none.clone()
        };
        let matches =
            move |event: &ChangeEvent| kinds.contains(&event.actor.as_ref().unwrap().kind);
        filters.push((request, Box::new(matches)));
    }
    let types = ["lead.updated", "order.created", "operator.created"].map(str::to_owned);
    let request = ListEventsRequest {
        types: types.to_vec(),
        ..none.clone()
    };
    filters.push((
        request,
        Box::new(move |event| types.contains(&event.r#type)),
    ));
    for subjects in [
        vec![EventSubject::Lead],
        vec![EventSubject::Order, EventSubject::Opportunity],
        vec![EventSubject::Operator],
        vec![EventSubject::OrderQueue],
    ] {
        let subjects: Vec<i32> = subjects.into_iter().map(i32::from).collect();
        let request = ListEventsRequest {
            subjects: subjects.clone(),
            ..none.clone()
        };
        let matches = move |event: &ChangeEvent| subjects.contains(&event.subject);
        filters.push((request, Box::new(matches)));
    }
    for lead in leads {
        let id = lead.id.clone();
        let request = ListEventsRequest {
            lead_id: id.clone(),
            ..none.clone()
        };
        filters.push((request, Box::new(move |event| event.lead_id == id)));
        let id = lead.id.clone();
        let request = ListEventsRequest {
            subject_id: id.clone(),
            ..none.clone()
        };
        filters.push((request, Box::new(move |event| event.subject_id == id)));
    }
    let (id, actor) = (leads[0].id.clone(), h.sales.id.to_string());
    let request = ListEventsRequest {
        lead_id: id.clone(),
        actor_id: actor.clone(),
        types: vec!["lead.updated".into()],
        ..none
    };
    let matches = move |event: &ChangeEvent| {
        event.lead_id == id
            && event.actor.as_ref().unwrap().id == actor
            && event.r#type == "lead.updated"
    };
    filters.push((request, Box::new(matches)));
    filters
}

on_both! {
    async fn who_did_what_is_listed_by_every_filter_the_newest_first(h: Harness) {
        let leads = some_changes(&h).await;
        let watched = watched(&h).await;
        let by_worker = watched.iter().find(|event| event.r#type == "order.created");
        let worker = by_worker.unwrap().actor.clone().unwrap().id;
        for (request, matches) in filters(&h, &leads, &worker) {
            let expected: Vec<ChangeEvent> = watched.iter().filter(|event| matches(event)).cloned().collect();
            let is_rare = request.subjects == [i32::from(EventSubject::OrderQueue)];
            assert!(!expected.is_empty() || is_rare, "{request:?}");
            for page_size in [0, 1, 3] {
                let request = ListEventsRequest { page_size, ..request.clone() };
                assert_eq!(all(&h.admin, &request).await, expected, "{request:?}");
                // Others do not see operators and service accounts.
                let visible: Vec<ChangeEvent> = expected
                    .iter()
                    .filter(|event| ![EventSubject::Operator, EventSubject::ServiceAccount].contains(&event.subject()))
                    .cloned()
                    .collect();
                assert_eq!(all(&h.viewer, &request).await, visible, "{request:?}");
            }
        }
        let versions = watched.iter().filter(|event| event.r#type == "lead.updated");
        for event in versions {
            let (before, after) = (lead(event.before.clone()).unwrap(), lead(event.after.clone()).unwrap());
            assert_ne!(before.company, after.company);
        }
    }

    async fn an_actor_or_record_that_does_not_exist_has_done_nothing(h: Harness) {
        h.sales.create_lead("Lovelace").await;
        let nobody = "01900000-0000-7000-8000-00000000dead".to_owned();
        for request in [
            ListEventsRequest { actor_id: nobody.clone(), ..Default::default() },
            ListEventsRequest { lead_id: nobody.clone(), ..Default::default() },
            ListEventsRequest { subject_id: nobody, ..Default::default() },
            ListEventsRequest { types: vec!["lead.unheard_of".into(), "lead".into()], ..Default::default() },
        ] {
            let page = list(&h.admin, request.clone()).await.unwrap();
            let expected = ListEventsResponse { watch_token: page.watch_token.clone(), ..Default::default() };
            assert_eq!(page, expected, "{request:?}");
            assert!(!page.watch_token.is_empty());
        }
    }

    async fn yesterday_is_a_range_of_time(h: Harness) {
        let mut leads = Vec::new();
        for name in ["One", "Two", "Three", "Four"] {
            h.clock.advance(Duration::hours(1));
            leads.push(h.sales.create_lead(name).await);
        }
        let time = |index: usize| leads[index].create_time;
        for (after, before, expected) in [
            (None, None, vec![3, 2, 1, 0]),
            (time(0), None, vec![3, 2, 1]),
            (None, time(2), vec![1, 0]),
            (time(0), time(3), vec![2, 1]),
            (time(1), time(2), vec![]),
            (time(3), time(0), vec![]),
        ] {
            let request = ListEventsRequest {
                types: vec!["lead.created".into()],
                time_after: after,
                time_before: before,
                page_size: 1,
                ..Default::default()
            };
            let listed: Vec<Lead> = all(&h.viewer, &request)
                .await
                .into_iter()
                .filter_map(|event| lead(event.after))
                .collect();
            let expected: Vec<Lead> = expected.into_iter().map(|index| leads[index].clone()).collect();
            assert_eq!(listed, expected, "{request:?}");
        }
    }

    async fn what_was_erased_is_not_listed(h: Harness) {
        let created = h.sales.create_lead("Lovelace").await;
        let phoned = Lead { phone: "1".into(), ..created.clone() };
        h.sales.update(phoned, &["phone"]).await.unwrap();
        h.admin.erase(&created.id).await.unwrap();
        let request = ListEventsRequest { lead_id: created.id.clone(), ..Default::default() };
        let page = list(&h.viewer, request).await.unwrap();
        let types: Vec<&str> = page.events.iter().map(|event| event.r#type.as_str()).collect();
        assert_eq!(types, ["lead.erased", "lead.updated", "lead.created"]);
        for event in &page.events {
            assert!(event.values_unavailable && event.before.is_none(), "{event:?}");
            assert_eq!(event.after.is_some(), event.r#type == "lead.erased");
        }
        assert!(lead(page.events[0].after.clone()).unwrap().erasure.is_some());
        assert!(!format!("{page:?}").contains("Lovelace"));
    }

    async fn pages_of_large_records_end_by_their_size(h: Harness) {
        let mut created = h.sales.create_lead("Large").await;
        // About 400 KB, which an event has twice.
        for first in (0..100).step_by(10) {
            let mut change = Lead { id: created.id.clone(), ..Lead::default() };
            let mut paths = Vec::new();
            for n in first..first + 10 {
                change.custom_fields.insert(format!("key{n:02}"), "x".repeat(4_000));
                paths.push(format!("custom_fields.key{n:02}"));
            }
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            created = h.sales.update(change, &paths).await.unwrap();
        }
        for phone in 1..=12 {
            let change = Lead { id: created.id.clone(), phone: phone.to_string(), ..Lead::default() };
            h.sales.update(change, &["phone"]).await.unwrap();
        }
        for filter in [
            ListEventsRequest { subject_id: created.id.clone(), ..Default::default() },
            ListEventsRequest { types: vec!["lead.created".into(), "lead.updated".into()], ..Default::default() },
        ] {
            let pages = pages(async |page_token| {
                let page = list(&h.viewer, ListEventsRequest { page_token, ..filter.clone() }).await.unwrap();
                assert!(page.encoded_len() < 4 << 20, "{}", page.encoded_len());
                (page.events, page.next_page_token)
            })
            .await;
            assert!((4..10).contains(&pages.len()), "{}", pages.len());
            let events = pages.concat();
            let versions: Vec<i64> = events.iter().map(|event| event.version).collect();
            assert_eq!(versions, (1..=23).rev().collect::<Vec<_>>());
            for pair in events.windows(2) {
                assert_eq!(pair[0].before, pair[1].after, "version {}", pair[1].version);
            }
            assert_eq!(lead(events[0].after.clone()), Some(h.viewer.get(&created.id).await));
        }
    }

    async fn a_long_page_is_rebuilt_from_what_changed(h: Harness) {
        let leads = [h.sales.create_lead("Lovelace").await, h.sales.create_lead("Hopper").await];
        for phone in 0..50 {
            for lead in &leads {
                let change = Lead { id: lead.id.clone(), phone: phone.to_string(), ..Lead::default() };
                h.sales.update(change, &["phone"]).await.unwrap();
            }
        }
        let mut stream = watch(&h.viewer, of_leads(from_earliest())).await;
        let mut watched = Vec::new();
        for _ in 0..102 {
            watched.push(stream.event().await);
        }
        watched.reverse();
        for page_size in [1_000, 7] {
            let request = ListEventsRequest { page_size, ..Default::default() };
            assert_eq!(all(&h.viewer, &request).await, watched);
        }
    }

    async fn a_list_is_followed_from_its_first_page(h: Harness) {
        let listed = [h.sales.create_lead("One").await, h.sales.create_lead("Two").await];
        let request = ListEventsRequest { page_size: 1, ..Default::default() };
        let first = list(&h.viewer, request.clone()).await.unwrap();
        let later = h.sales.create_lead("Three").await;
        let request = ListEventsRequest { page_token: first.next_page_token, ..request };
        let second = list(&h.viewer, request).await.unwrap();
        assert_eq!(second.watch_token, "", "of the first page only");
        let ids: Vec<&str> = [&first.events, &second.events]
            .into_iter()
            .flatten()
            .map(|event| event.subject_id.as_str())
            .collect();
        assert_eq!(ids, [&listed[1].id, &listed[0].id], "a page token is not moved by later changes");
        let mut stream = watch(&h.viewer, from_token(&first.watch_token)).await;
        loop {
            let message = stream.next().await.unwrap().unwrap();
            if let Some(Item::Event(event)) = message.item
                && event.subject_id == later.id
            {
                break;
            }
        }
    }

    async fn a_token_of_another_caller_or_filter_is_refused(h: Harness) {
        for name in ["One", "Two"] {
            h.sales.create_lead(name).await;
        }
        let asked = ListEventsRequest { page_size: 1, ..Default::default() };
        let page_token = list(&h.viewer, asked.clone()).await.unwrap().next_page_token;
        let asked = ListEventsRequest { page_token: page_token.clone(), ..asked };
        let time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        let id = h.sales.id.to_string();
        for other in [
            ListEventsRequest { actor_id: id.clone(), ..asked.clone() },
            ListEventsRequest { actor_kinds: vec![1], ..asked.clone() },
            ListEventsRequest { types: vec!["lead.created".into()], ..asked.clone() },
            ListEventsRequest { subjects: vec![1], ..asked.clone() },
            ListEventsRequest { subject_id: id.clone(), ..asked.clone() },
            ListEventsRequest { lead_id: id, ..asked.clone() },
            ListEventsRequest { time_after: time, ..asked.clone() },
            ListEventsRequest { time_before: time, ..asked.clone() },
        ] {
            let status = list(&h.viewer, other.clone()).await.unwrap_err();
            assert_eq!(reason(&status), "PAGE_TOKEN_INVALID", "{other:?}");
        }
        let status = list(&h.sales, asked.clone()).await.unwrap_err();
        assert_eq!(reason(&status), "PAGE_TOKEN_INVALID");
        // UNSPECIFIED counts as nothing sent.
        let same = ListEventsRequest { actor_kinds: vec![0], subjects: vec![0], ..asked };
        list(&h.viewer, same).await.unwrap();
    }

    async fn wrong_requests_of_a_list_get_all_violations_at_once(h: Harness) {
        let wrong = ListEventsRequest {
            page_size: -1,
            page_token: String::new(),
            actor_id: "ada".into(),
            actor_kinds: vec![9],
            types: vec![String::new(), "x".repeat(101)],
            subjects: vec![1, 99],
            subject_id: "1".into(),
            lead_id: "00000000-0000-0000-0000-000000000000".into(),
            time_after: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
            time_before: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        };
        let status = list(&h.viewer, wrong).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
        let fields: BTreeSet<String> = violations(&status).into_iter().map(|(field, _)| field).collect();
        let expected = [
            "actor_id", "actor_kinds[0]", "lead_id", "page_size", "subject_id", "subjects[1]", "time_after",
            "time_before", "types[0]", "types[1]",
        ];
        assert_eq!(fields, expected.map(str::to_owned).into());
    }
}

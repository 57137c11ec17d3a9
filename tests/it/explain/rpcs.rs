//! RPCs among 100,000 leads: deep pages, searches, and queries that exceed the time limit.

use std::time::{Duration, Instant};

use leadsmith_proto::{ListLeadsRequest, SearchLeadsRequest};
use tokio::task::JoinSet;
use tonic::Code;

use super::LEADS;
use crate::harness::{Harness, reason};
use crate::lists;

/// Searches return every match, many or few, the newest first.
pub async fn searches_answer(h: &Harness) {
    type Matches = fn(&usize) -> bool;
    let matches: [(&str, Matches); 3] = [
        ("edsger", |i| i % 4 == 3),
        ("lead9999", |i| *i == 9_999 || *i / 10 == 9_999),
        (" zqxjkvwpyfgmcrlaoeui", |i| i % 10_000 == 77),
    ];
    for (query, matches) in matches {
        let mut expected = (1..=LEADS).rev().filter(matches);
        let mut request = SearchLeadsRequest {
            query: query.trim().into(),
            page_size: 50,
            ..Default::default()
        };
        for _ in 0..3 {
            let answer = h
                .viewer
                .leads()
                .search(request.clone())
                .await
                .unwrap()
                .into_inner();
            for lead in answer.leads {
                let i = expected.next().unwrap();
                assert_eq!(lead.phone, format!("+49 30 {}", 1_000_000 + i), "{query}");
            }
            request.page_token = answer.next_page_token;
            if request.page_token.is_empty() {
                assert_eq!(expected.next(), None, "{query}");
                break;
            }
        }
    }
}

/// A text of two characters is compared with the text of every lead. A principal that makes many such
/// searches concurrently delays only itself.
pub async fn slow_searches_leave_the_others_their_connections(h: &Harness) {
    let lead = h.sales.create_lead("Neighbour").await;
    let mut searches = JoinSet::new();
    for _ in 0..64 {
        let viewer = h.viewer.clone();
        searches.spawn(async move {
            let request = SearchLeadsRequest {
                query: "~~".into(),
                ..Default::default()
            };
            viewer.leads().search(request).await.map(|_| ())
        });
    }
    let begun = Instant::now();
    let mut turns = 0;
    while turns < 10 || (begun.elapsed() < Duration::from_secs(3) && !searches.is_empty()) {
        assert_eq!(h.sales.get(&lead.id).await, lead);
        let request = ListLeadsRequest::default();
        let page = lists::list(&h.sales, request).await.unwrap();
        assert_eq!(page.leads[0], lead);
        while searches.try_join_next().is_some() {}
        turns += 1;
    }
    while let Some(search) = searches.join_next().await {
        let refused = search.unwrap().err();
        // On a busy machine a search may also take longer than a statement may.
        let allowed = ["SERVER_OVERLOADED", "QUERY_TOO_SLOW"];
        assert!(refused.is_none_or(|status| allowed.contains(&reason(&status).as_str())));
    }
}

pub async fn what_takes_too_long_is_ended(h: &Harness) {
    let short = Duration::from_millis(10);
    let server = h
        .another_server(|settings| settings.limits.statement_time = short)
        .await;
    let viewer = h.viewer.at(&server);
    let request = SearchLeadsRequest {
        query: "~~".into(),
        ..Default::default()
    };
    let status = lists::search(&viewer, request).await.unwrap_err();
    assert_eq!(reason(&status), "QUERY_TOO_SLOW", "{status:?}");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status.message().contains("three or more characters"),
        "{status:?}"
    );
    // The connections stay usable: a fast query succeeds. How long these 8 take depends on the machine, so
    // one success is enough.
    let mut answered = 0;
    for _ in 0..8 {
        let request = ListLeadsRequest::default();
        match lists::list(&viewer, request).await {
            Ok(_) => answered += 1,
            Err(status) => assert_eq!(reason(&status), "QUERY_TOO_SLOW", "{status:?}"),
        }
    }
    assert!(answered > 0, "no list within {short:?}");
    server.stop().await.unwrap();
}

/// The service returns the page after the first 50,000 leads.
pub async fn deep_pages_answer(h: &Harness) {
    let mut request = ListLeadsRequest {
        page_size: 1_000,
        states: vec![1, 2, 3],
        order_by: "create_time".into(),
        ..Default::default()
    };
    for _ in 0..50 {
        let answer = lists::list(&h.viewer, request.clone()).await.unwrap();
        assert_eq!(answer.leads.len(), 1_000);
        request.page_token = answer.next_page_token;
    }
    request.page_size = 50;
    let answer = lists::list(&h.viewer, request).await.unwrap();
    let phones: Vec<&str> = answer
        .leads
        .iter()
        .map(|lead| lead.phone.as_str())
        .collect();
    let expected: Vec<String> = (50_001..=50_050)
        .map(|i| format!("+49 30 {}", 1_000_000 + i))
        .collect();
    assert_eq!(phones, expected);
}

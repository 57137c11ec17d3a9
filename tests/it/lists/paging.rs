//! Pages: their sizes, and that each row is on exactly one of them.

use std::collections::{BTreeMap, BTreeSet};

use leadsmith_proto::{
    Lead, ListLeadsRequest, SearchLeadsRequest, SearchLeadsResponse, UpdateLeadRequest,
};
use prost::Message;
use tonic::Code;

use super::{ORDERS, ids, list, names, pages, search, walk};
use crate::bulk;
use crate::harness::{reason, update};
use crate::on_both;

/// The maximum message size that gRPC clients accept by default.
const LARGEST_ANSWER: usize = 4 << 20;

on_both! {
    async fn a_page_has_the_size_asked_for_up_to_a_thousand(h: Harness) {
        bulk::load(&h.database.connect().await, 1_203).await;
        for (page_size, rows) in [(0, 50), (1, 1), (49, 49), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)] {
            let request = ListLeadsRequest {
                page_size,
                states: vec![1, 2, 3],
                ..Default::default()
            };
            let answer = list(&h.viewer, request).await.unwrap();
            assert_eq!(answer.leads.len(), rows, "page_size {page_size}");
            assert!(!answer.next_page_token.is_empty());
            let request = SearchLeadsRequest {
                query: bulk::COMMON[0].into(),
                page_size,
                ..Default::default()
            };
            let answer = search(&h.viewer, request).await.unwrap();
            assert_eq!(answer.leads.len(), rows, "page_size {page_size}");
            assert!(!answer.next_page_token.is_empty());
        }
        for page_size in [-1, i32::MIN] {
            let request = ListLeadsRequest { page_size, ..Default::default() };
            let listed = list(&h.viewer, request).await.unwrap_err();
            let request = SearchLeadsRequest { query: "a".into(), page_size, ..Default::default() };
            let searched = search(&h.viewer, request).await.unwrap_err();
            for status in [listed, searched] {
                assert_eq!(status.code(), Code::InvalidArgument);
                assert_eq!(reason(&status), "FIELD_INVALID");
            }
        }
    }

    async fn a_list_that_ends_with_its_page_has_no_next_one(h: Harness) {
        for name in ["Babbage", "Hopper", "Lovelace"] {
            h.sales.create_lead(name).await;
        }
        for (page_size, more) in [(2, true), (3, false), (4, false)] {
            let request = ListLeadsRequest { page_size, ..Default::default() };
            let answer = list(&h.viewer, request).await.unwrap();
            assert_eq!(!answer.next_page_token.is_empty(), more, "page_size {page_size}");
        }
    }

    async fn a_list_of_nothing_is_one_empty_page(h: Harness) {
        let answer = list(&h.viewer, ListLeadsRequest::default()).await.unwrap();
        assert_eq!((answer.leads, answer.next_page_token), (Vec::new(), String::new()));
    }

    async fn a_page_size_may_change_between_pages(h: Harness) {
        let mut created = Vec::new();
        for index in 0..12 {
            created.push(h.sales.create_lead(&format!("Lead {index}")).await);
        }
        created.reverse();
        let mut sizes = [1, 4, 2, 1000].into_iter();
        let pages = pages(async |page_token| {
            let page_size = sizes.next().unwrap();
            let request = ListLeadsRequest { page_size, page_token, ..Default::default() };
            let answer = list(&h.viewer, request).await.unwrap();
            (answer.leads, answer.next_page_token)
        })
        .await;
        let lengths: Vec<usize> = pages.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 4, 2, 5]);
        assert_eq!(pages.concat(), created);
    }

    async fn leads_created_and_changed_between_pages_disturb_no_other(h: Harness) {
        let mut created = 0;
        for order_by in ORDERS {
            // Two of three leads do not change while the list is read.
            let mut untouched = BTreeSet::new();
            let mut touched = Vec::new();
            for index in 0..24 {
                created += 1;
                let name = format!("{} {order_by}", (index * 11) % 24);
                let lead = Lead {
                    last_name: name.clone(),
                    company: name,
                    source: order_by.into(),
                    ..Lead::default()
                };
                let lead = h.sales.create(lead).await.unwrap();
                if index % 3 == 0 {
                    touched.push(lead);
                } else {
                    untouched.insert(lead.id);
                }
            }
            let mut turn = 0;
            let pages = pages(async |page_token| {
                let request = ListLeadsRequest {
                    page_size: 3,
                    page_token,
                    source: order_by.into(),
                    order_by: order_by.into(),
                    ..Default::default()
                };
                let answer = list(&h.viewer, request).await.unwrap();
                // Creates one lead before and one after the current position, and changes one. It stops after some
                // pages, so that the list ends.
                if turn < 8 {
                    for name in ["", "zzz"] {
                        let lead = Lead {
                            first_name: "New".into(),
                            last_name: name.into(),
                            company: name.into(),
                            source: order_by.into(),
                            ..Lead::default()
                        };
                        h.sales.create(lead).await.unwrap();
                    }
                    let change = Lead {
                        last_name: format!("{} moved", 23 - turn),
                        company: format!("{} moved", 23 - turn),
                        ..touched[turn].clone()
                    };
                    h.sales.update(change, &["last_name", "company"]).await.unwrap();
                }
                turn += 1;
                (answer.leads, answer.next_page_token)
            })
            .await;
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for lead in pages.iter().flatten() {
                *seen.entry(lead.id.clone()).or_default() += 1;
            }
            for id in &untouched {
                assert_eq!(seen.get(id), Some(&1), "by {order_by:?}: on one page, once");
            }
            let moved: BTreeSet<&str> = touched.iter().map(|lead| lead.id.as_str()).collect();
            for (id, times) in &seen {
                assert!(*times == 1 || moved.contains(id.as_str()), "by {order_by:?}: {times} times");
            }
        }
        assert_eq!(created, 24 * 8);
    }

    async fn a_page_of_very_large_leads_stays_below_what_clients_take(h: Harness) {
        let mut large = Vec::new();
        for index in 0..12 {
            let lead = h.sales.create_lead(&format!("Large {index}")).await;
            let mut last = lead.clone();
            for update in enlargements(&lead.id) {
                let answer = h.sales.leads().update(update).await.unwrap();
                last = answer.into_inner().lead.unwrap();
            }
            assert_eq!(last.custom_fields.len(), 100);
            assert!(last.encoded_len() > 400_000);
            large.push(last);
        }
        large.reverse();

        let listed = pages(async |page_token| {
            let request = ListLeadsRequest { page_size: 1000, page_token, ..Default::default() };
            let answer = list(&h.viewer, request).await.unwrap();
            assert!(answer.encoded_len() < LARGEST_ANSWER);
            assert!(!answer.leads.is_empty());
            (answer.leads, answer.next_page_token)
        })
        .await;
        assert!(listed.len() > 1, "they do not fit into one answer");
        assert_eq!(names(&listed.concat()), names(&large));
        assert!(listed.concat() == large, "and they are whole");

        let searched = pages(async |page_token| {
            let request = SearchLeadsRequest {
                query: "large".into(),
                page_size: 1000,
                page_token,
                ..Default::default()
            };
            let answer: SearchLeadsResponse = search(&h.viewer, request).await.unwrap();
            assert!(answer.encoded_len() < LARGEST_ANSWER);
            (answer.leads, answer.next_page_token)
        })
        .await;
        assert!(searched.len() > 1);
        assert_eq!(ids(&searched.concat()), ids(&large));

        // Small leads after large ones: the page is filled further.
        for index in 0..5 {
            h.sales.create_lead(&format!("Small {index}")).await;
        }
        let request = ListLeadsRequest { order_by: "create_time".into(), ..Default::default() };
        let by_one = walk(&h.viewer, &request, 1).await;
        assert_eq!(by_one.len(), 17);
    }
}

/// Updates that give a lead 100 fields of 4,000 bytes. A single request would be too large.
fn enlargements(id: &str) -> Vec<UpdateLeadRequest> {
    let keys: Vec<String> = (0..100).map(|index| format!("field_{index:02}")).collect();
    keys.chunks(15)
        .map(|keys| {
            let fields = keys.iter().map(|key| (key.clone(), "x".repeat(4_000)));
            let lead = Lead {
                id: id.into(),
                custom_fields: fields.collect(),
                ..Lead::default()
            };
            update(lead, &[])
        })
        .collect()
}

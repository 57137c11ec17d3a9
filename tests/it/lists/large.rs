//! Lists of large records: a page is limited by its size before its number of rows, each record occurs once, and
//! pages are as full as possible.

use leadsmith_proto as proto;
use leadsmith_proto::{
    self, Lead, LeadState, ListHistoryRequest, ListLeadsRequest, ListOpportunitiesRequest,
    ListOrdersRequest, SearchLeadsRequest,
};
use prost::Message;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};

use super::{list, numbers, pages, search};
use crate::harness::Backend;
use crate::{bulk, on_both};

const LEADS: usize = 60;
/// The size of a large lead's custom fields, in bytes.
const LARGE: usize = 400_000;
/// The maximum size of a response, and the minimum if more pages follow.
const MOST: usize = 3 << 20;
const LEAST: usize = 2 << 20;

/// Leads of which some are large: ten in a row, and every fifth of the others.
async fn load(db: &DatabaseConnection) {
    bulk::load(db, LEADS).await;
    let json = if db.get_database_backend() == DbBackend::Postgres {
        format!(
            "(SELECT jsonb_object_agg('f' || n, repeat('x', 4000)) FROM generate_series(1, {}) AS n)",
            LARGE / 4_000
        )
    } else {
        format!(
            "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {}) \
             SELECT json_group_object('f' || n, hex(zeroblob(2000))) FROM n)",
            LARGE / 4_000
        )
    };
    let sql = format!(
        "UPDATE leads SET custom_fields = {json} WHERE seq BETWEEN 21 AND 30 OR seq % 5 = 0"
    );
    db.execute_unprepared(&sql).await.unwrap();
}

/// Pages are limited by size: none exceeds the limit, and each is as full as possible.
fn check<M: Message>(pages: &[Vec<M>], what: &str) {
    let size = |page: &Vec<M>| page.iter().map(Message::encoded_len).sum::<usize>();
    let sizes: Vec<usize> = pages.iter().map(size).collect();
    assert!(sizes.len() > 1, "{what} is one page");
    assert!(sizes.iter().all(|size| *size <= MOST), "{what}: {sizes:?}");
    let (_, before) = sizes.split_last().unwrap();
    assert!(
        before.iter().all(|size| *size >= LEAST),
        "{what}: {sizes:?}"
    );
}

fn numbers_of(leads: &[Lead]) -> Vec<usize> {
    let number = |lead: &Lead| {
        lead.phone
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse::<usize>()
            .unwrap()
    };
    leads.iter().map(|lead| number(lead) - 1_000_000).collect()
}

on_both! {
    async fn pages_of_large_leads_end_by_their_size(h: Harness) {
        let db = h.database.connect().await;
        load(&db).await;
        let all = [LeadState::Open, LeadState::Deactivated, LeadState::Converted];
        let lists = [
            ("create_time", "", all.as_slice()),
            ("create_time desc", "", &all),
            ("company", "", &all),
            ("last_name desc", "bulk", &all),
            ("create_time", "bulk", &all),
            ("update_time", "", &all[..1]),
        ];
        for (order_by, source, states) in lists {
            for page_size in [1_000, 50] {
                let what = format!("{order_by} of {source:?}, by {page_size}");
                let pages = pages(async |page_token| {
                    let request = ListLeadsRequest {
                        page_size,
                        page_token,
                        order_by: order_by.into(),
                        source: source.into(),
                        states: numbers(states),
                        ..Default::default()
                    };
                    let answer = list(&h.viewer, request).await.unwrap();
                    (answer.leads, answer.next_page_token)
                })
                .await;
                check(&pages, &what);
                let leads = pages.concat();
                let found = numbers_of(&leads);
                if order_by == "create_time" {
                    assert_eq!(found, (1..=LEADS).collect::<Vec<_>>(), "{what}");
                }
                let mut each = found;
                each.sort_unstable();
                each.dedup();
                assert_eq!(each.len(), leads.len(), "{what}: each once");
                let large = leads.iter().filter(|lead| lead.encoded_len() > LARGE).count();
                assert!(large > 10, "{what}: whole");
            }
        }
        let pages = pages(async |page_token| {
            let request = SearchLeadsRequest {
                query: "example".into(),
                page_size: 1_000,
                page_token,
                ..Default::default()
            };
            let answer = search(&h.viewer, request).await.unwrap();
            (answer.leads, answer.next_page_token)
        })
        .await;
        check(&pages, "search");
        assert_eq!(numbers_of(&pages.concat()), (1..=LEADS).rev().collect::<Vec<_>>());
    }

    async fn a_lead_that_is_larger_than_a_page_comes_alone(h: Harness) {
        let db = h.database.connect().await;
        bulk::load(&db, 3).await;
        // More than the service accepts, so that a single row exceeds the limit.
        let value = if h.database.backend == Backend::Postgres {
            "jsonb_build_object('f', repeat('x', 3300000))"
        } else {
            "json_object('f', hex(zeroblob(1650000)))"
        };
        db.execute_unprepared(&format!("UPDATE leads SET custom_fields = {value}")).await.unwrap();
        let pages = pages(async |page_token| {
            let request = ListLeadsRequest { page_token, ..Default::default() };
            let answer = list(&h.viewer, request).await.unwrap();
            (answer.leads, answer.next_page_token)
        })
        .await;
        let counts: Vec<usize> = pages.iter().map(Vec::len).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    async fn pages_of_other_large_records_end_by_their_size(h: Harness) {
        let db = h.database.connect().await;
        let lead = h.sales.create_lead("Large").await;
        for number in 0..12 {
            h.sales.create_order(&lead.id, Vec::new()).await;
            let opportunity = proto::Opportunity {
                lead_id: lead.id.clone(),
                name: number.to_string(),
                ..Default::default()
            };
            let request = proto::CreateOpportunityRequest {
                opportunity: Some(opportunity),
                ..Default::default()
            };
            h.sales.opportunities().create(request).await.unwrap();
            let phone = Lead { id: lead.id.clone(), phone: number.to_string(), ..Lead::default() };
            h.sales.update(phone, &["phone"]).await.unwrap();
        }
        let (text, json) = match h.database.backend {
            Backend::Postgres => ("repeat('x', 400000)", "::jsonb"),
            Backend::Sqlite => ("hex(zeroblob(200000))", ""),
        };
        for sql in [
            format!("UPDATE opportunities SET description = {text}"),
            format!(
                "UPDATE history SET changes = ('[{{\"field\":\"phone\",\"from\":\"' || {text} || \
                 '\",\"to\":\"\"}}]'){json}"
            ),
            format!(
                "UPDATE orders SET items = ('[{{\"description\":\"' || {text} || '\",\"quantity\":1,\"unit_price\":null}}]'){json}"
            ),
        ] {
            db.execute_unprepared(&sql).await.unwrap();
        }
        let orders = pages(async |page_token| {
            let request = ListOrdersRequest { page_size: 1_000, page_token, ..Default::default() };
            let answer = h.viewer.orders().list(request).await.unwrap().into_inner();
            (answer.orders, answer.next_page_token)
        })
        .await;
        check(&orders, "orders");
        assert_eq!(orders.concat().len(), 12);
        let opportunities = pages(async |page_token| {
            let request = ListOpportunitiesRequest { page_size: 1_000, page_token, ..Default::default() };
            let answer = h.viewer.opportunities().list(request).await.unwrap().into_inner();
            (answer.opportunities, answer.next_page_token)
        })
        .await;
        check(&opportunities, "opportunities");
        assert_eq!(opportunities.concat().len(), 12);
        let history = pages(async |page_token| {
            let request = ListHistoryRequest { id: lead.id.clone(), page_size: 1_000, page_token };
            let answer = h.viewer.leads().list_history(request).await.unwrap().into_inner();
            (answer.entries, answer.next_page_token)
        })
        .await;
        check(&history, "history");
        assert_eq!(history.concat().len(), 13);
    }
}

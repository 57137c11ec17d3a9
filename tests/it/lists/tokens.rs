//! Page tokens: bound to the request that they were issued for, and valid on every replica.

use leadsmith::app;
use leadsmith::core::clock::Clock;
use leadsmith_proto::{
    Lead, ListClientsRequest, ListDuplicatesRequest, ListEventsRequest, ListHistoryRequest,
    ListLeadsRequest, ListOpportunitiesRequest, ListOpportunityHistoryRequest,
    ListOrderHistoryRequest, ListOrderQueueHistoryRequest, ListOrderQueuesRequest,
    ListOrdersRequest, ListRunsRequest, SearchLeadsRequest,
};
use prost_types::Timestamp;
use tonic::{Code, Response, Status};

use super::{ids, list, search};
use crate::harness::{Caller, PASSWORD, channel, reason, sign_in};
use crate::on_both;

const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn assert_invalid<T: std::fmt::Debug>(outcome: Result<T, Status>, what: &str) {
    let status = outcome.expect_err(what);
    assert_eq!(status.code(), Code::InvalidArgument, "{what}");
    assert_eq!(reason(&status), "PAGE_TOKEN_INVALID", "{what}");
}

async fn some_leads(caller: &Caller) -> Vec<Lead> {
    let mut leads = Vec::new();
    for name in ["Babbage", "Hopper", "Lovelace", "Turing"] {
        leads.push(caller.create_lead(name).await);
    }
    leads
}

/// The first page of one lead, and the request for the next.
async fn begun(caller: &Caller, order_by: &str) -> ListLeadsRequest {
    let mut request = ListLeadsRequest {
        page_size: 1,
        order_by: order_by.into(),
        ..Default::default()
    };
    request.page_token = list(caller, request.clone()).await.unwrap().next_page_token;
    assert!(!request.page_token.is_empty());
    request
}

on_both! {
    async fn a_token_with_any_character_altered_is_refused(h: Harness) {
        some_leads(&h.sales).await;
        for order_by in ["create_time desc", "last_name"] {
            let request = begun(&h.viewer, order_by).await;
            let token: Vec<char> = request.page_token.chars().collect();
            let mut altered = Vec::new();
            for (index, character) in token.iter().enumerate() {
                let place = BASE64.find(*character).unwrap();
                // The adjacent characters differ in the lowest bits, including those that the last character does
                // not use.
                let last = index + 1 == token.len();
                let others = BASE64.chars().enumerate().filter(|(other, _)| {
                    let apart = other.abs_diff(place);
                    apart != 0 && (last || apart <= 2 || apart == 32)
                });
                for (_, other) in others.chain([(0, '='), (0, ' '), (0, 'é')]) {
                    let mut token = token.clone();
                    token[index] = other;
                    altered.push(token.into_iter().collect::<String>());
                }
                let mut shorter = token.clone();
                shorter.remove(index);
                altered.push(shorter.into_iter().collect());
            }
            let whole = &request.page_token;
            altered.extend([
                format!("{whole}A"),
                format!("{whole}="),
                format!("A{whole}"),
                format!("{whole}{whole}"),
                format!("{whole} "),
                "A".into(),
                "x".repeat(5_000),
                "e30".into(),
            ]);
            for page_token in altered {
                let what = format!("{page_token} instead of {whole}");
                let request = ListLeadsRequest { page_token, ..request.clone() };
                assert_invalid(list(&h.viewer, request).await, &what);
            }
            list(&h.viewer, request).await.expect("the token itself is good");
        }
    }

    async fn a_token_of_other_filters_or_another_order_is_refused(h: Harness) {
        some_leads(&h.sales).await;
        let asked = begun(&h.viewer, "last_name").await;
        let time = Some(Timestamp { seconds: 1, nanos: 0 });
        let others = [
            ListLeadsRequest { order_by: "last_name desc".into(), ..asked.clone() },
            ListLeadsRequest { order_by: "company".into(), ..asked.clone() },
            ListLeadsRequest { order_by: String::new(), ..asked.clone() },
            ListLeadsRequest { states: vec![1, 2], ..asked.clone() },
            ListLeadsRequest { states: vec![2], ..asked.clone() },
            ListLeadsRequest { owner_id: h.sales.id.to_string(), ..asked.clone() },
            ListLeadsRequest { country_code: "DE".into(), ..asked.clone() },
            ListLeadsRequest { source: "fair".into(), ..asked.clone() },
            ListLeadsRequest { create_time_after: time, ..asked.clone() },
            ListLeadsRequest { create_time_before: time, ..asked.clone() },
            ListLeadsRequest { update_time_after: time, ..asked.clone() },
            ListLeadsRequest { update_time_before: time, ..asked.clone() },
        ];
        for other in others {
            assert_invalid(list(&h.viewer, other.clone()).await, &format!("{other:?}"));
        }
        let found = SearchLeadsRequest { query: "b".into(), page_size: 1, ..Default::default() };
        let answer = search(&h.viewer, found.clone()).await.unwrap();
        assert_eq!(answer.leads.len(), 1);
        h.sales.create_lead("Bell").await;
        let page_token = search(&h.viewer, found.clone()).await.unwrap().next_page_token;
        assert!(!page_token.is_empty());
        let found = SearchLeadsRequest { page_token, ..found };
        for other in [
            SearchLeadsRequest { query: "B".into(), ..found.clone() },
            SearchLeadsRequest { query: "c".into(), ..found.clone() },
            SearchLeadsRequest { states: vec![1], ..found.clone() },
        ] {
            assert_invalid(search(&h.viewer, other.clone()).await, &format!("{other:?}"));
        }
        assert_eq!(search(&h.viewer, found).await.unwrap().leads.len(), 1);
    }

    async fn a_token_of_another_principal_is_refused(h: Harness) {
        some_leads(&h.sales).await;
        let asked = begun(&h.viewer, "company").await;
        let program = h.service_account("importer", leadsmith::core::role::Role::Viewer).await;
        for other in [&h.sales, &h.admin, &program] {
            assert_invalid(list(other, asked.clone()).await, "another principal's token");
        }
        // Another session has the same principal.
        let token = sign_in(h.channel(), "viewer", PASSWORD).await.unwrap();
        let again = h.with_token(&token);
        let here = list(&h.viewer, asked.clone()).await.unwrap();
        assert_eq!(list(&again, asked).await.unwrap(), here);
    }

    async fn a_token_of_another_rpc_is_refused(h: Harness) {
        let leads = some_leads(&h.sales).await;
        let request = ListLeadsRequest { page_size: 1, ..Default::default() };
        let page_token = list(&h.viewer, request).await.unwrap().next_page_token;
        let viewer = &h.viewer;
        let request = SearchLeadsRequest {
            query: "a".into(),
            page_token: page_token.clone(),
            ..Default::default()
        };
        assert_invalid(search(viewer, request).await, "Search");
        let request = ListHistoryRequest {
            id: leads[0].id.clone(),
            page_token: page_token.clone(),
            ..Default::default()
        };
        assert_invalid(viewer.leads().list_history(request).await, "ListHistory");
        let request = ListDuplicatesRequest {
            id: leads[0].id.clone(),
            page_token: page_token.clone(),
            ..Default::default()
        };
        assert_invalid(viewer.leads().list_duplicates(request).await, "ListDuplicates");
        // These two requests have the same encoding as the one that the token was issued for.
        let request = ListClientsRequest { page_token: page_token.clone(), ..Default::default() };
        assert_invalid(viewer.clients().list(request).await, "ClientService");
        let request = ListOpportunitiesRequest { page_token: page_token.clone(), ..Default::default() };
        assert_invalid(viewer.opportunities().list(request).await, "OpportunityService");
        let request = ListOrdersRequest { page_token: page_token.clone(), ..Default::default() };
        assert_invalid(viewer.orders().list(request).await, "OrderService");
        let request = ListEventsRequest { page_token: page_token.clone(), ..Default::default() };
        assert_invalid(viewer.events().list(request).await, "EventService");
        let order = h.sales.create_order(&leads[0].id, Vec::new()).await;
        let request = ListRunsRequest { order_id: order.id.clone(), page_token: page_token.clone(), ..Default::default() };
        assert_invalid(viewer.orders().list_runs(request).await, "ListRuns");
        let request = ListOrderHistoryRequest { id: order.id, page_token: page_token.clone(), ..Default::default() };
        assert_invalid(viewer.orders().list_history(request).await, "OrderService.ListHistory");
        let request = ListOrderQueuesRequest { page_token: page_token.clone(), ..Default::default() };
        assert_invalid(viewer.queues().list(request).await, "OrderQueueService");
        let id = crate::order_queues::DEFAULT.into();
        let request = ListOrderQueueHistoryRequest { id, page_token: page_token.clone(), ..Default::default() };
        assert_invalid(viewer.queues().list_history(request).await, "OrderQueueService.ListHistory");
        let id = h.sales.create_sale(&leads[0].id, "Compiler").await.id;
        let request = ListOpportunityHistoryRequest { id, page_token, ..Default::default() };
        assert_invalid(viewer.opportunities().list_history(request).await, "OpportunityService.ListHistory");
    }

    async fn a_token_of_other_filters_of_opportunities_is_refused(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        for _ in 0..2 {
            h.sales.create_sale(&lead.id, "Compiler").await;
        }
        let asked = ListOpportunitiesRequest { page_size: 1, ..Default::default() };
        let first = h.viewer.opportunities().list(asked.clone()).await.unwrap().into_inner();
        let asked = ListOpportunitiesRequest { page_token: first.next_page_token, ..asked };
        for other in [
            ListOpportunitiesRequest { lead_id: lead.id.clone(), ..asked.clone() },
            ListOpportunitiesRequest { owner_id: h.sales.id.to_string(), ..asked.clone() },
            ListOpportunitiesRequest { states: vec![1], ..asked.clone() },
            ListOpportunitiesRequest { stage: 1, ..asked.clone() },
            ListOpportunitiesRequest { expected_close_before: "2027-01-01".into(), ..asked.clone() },
        ] {
            assert_invalid(h.viewer.opportunities().list(other.clone()).await, &format!("{other:?}"));
        }
        let rest = h.viewer.opportunities().list(asked).await.unwrap().into_inner();
        assert_eq!(rest.opportunities.len(), 1);
    }

    async fn a_token_works_on_another_server_of_the_same_database(h: Harness) {
        let leads = some_leads(&h.sales).await;
        let other = app::start(&h.database.settings(), Clock::default()).await.unwrap();
        let there = Caller { channel: channel(other.address), ..h.viewer.clone() };
        let asked = begun(&h.viewer, "last_name").await;
        let answer = list(&there, asked).await.unwrap();
        assert_eq!(ids(&answer.leads), [leads[1].id.as_str()]);
        let request = ListHistoryRequest { id: leads[0].id.clone(), ..Default::default() };
        let entries = there.leads().list_history(request).await.map(Response::into_inner);
        assert_eq!(entries.unwrap().entries.len(), 1);
        other.stop().await.unwrap();
    }
}

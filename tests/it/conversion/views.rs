//! What the client's views show of the leads that were joined to it.

use leadsmith_proto::{self as proto, OpportunityState, OrderState};

use super::{create, new_client, person};
use crate::harness::{Caller, metadata, reason};
use crate::lists::pages;
use crate::on_both;

async fn orders(caller: &Caller, request: &proto::ListOrdersRequest) -> Vec<String> {
    let pages = pages(async |page_token| {
        let request = proto::ListOrdersRequest {
            page_token,
            ..request.clone()
        };
        let page = caller.orders().list(request).await.unwrap().into_inner();
        (page.orders, page.next_page_token)
    });
    pages
        .await
        .concat()
        .into_iter()
        .map(|order| order.id)
        .collect()
}

async fn sales(caller: &Caller, request: &proto::ListOpportunitiesRequest) -> Vec<String> {
    let pages = pages(async |page_token| {
        let request = proto::ListOpportunitiesRequest {
            page_token,
            ..request.clone()
        };
        let page = caller
            .opportunities()
            .list(request)
            .await
            .unwrap()
            .into_inner();
        (page.opportunities, page.next_page_token)
    });
    pages
        .await
        .concat()
        .into_iter()
        .map(|sale| sale.id)
        .collect()
}

on_both! {
    async fn the_opportunities_and_orders_of_a_client_are_those_of_its_leads_too(h: Harness) {
        let client = new_client(&h.sales, person("Client")).await;
        let (one, two) = (create(&h.sales, person("One")).await, create(&h.sales, person("Two")).await);
        let stranger = create(&h.sales, person("Stranger")).await;
        let (mut all_orders, mut all_sales) = (Vec::new(), Vec::new());
        for n in 0..9 {
            let id = [&client.id, &one.id, &two.id][n % 3];
            all_orders.push(h.sales.create_order(id, Vec::new()).await.id);
            all_sales.push(h.sales.create_sale(id, "Engine").await.id);
            h.sales.create_order(&stranger.id, Vec::new()).await;
            h.sales.create_sale(&stranger.id, "Engine").await;
        }
        h.sales.cancel_order(&all_orders[4]).await;
        h.sales.win(&all_sales[4]).await.unwrap();
        for lead in [&one, &two] {
            h.sales.convert_into(&lead.id, &client.id, &[]).await.unwrap();
        }
        all_orders.reverse();
        all_sales.reverse();
        let without = |all: &[String], n: usize| {
            let mut rest = all.to_vec();
            rest.remove(n);
            rest
        };
        for page_size in [0, 2] {
            let of_client = proto::ListOrdersRequest { client_id: client.id.clone(), page_size, ..Default::default() };
            assert_eq!(orders(&h.viewer, &of_client).await, all_orders);
            let open = proto::ListOrdersRequest { states: vec![OrderState::Processing.into()], ..of_client.clone() };
            assert_eq!(orders(&h.viewer, &open).await, without(&all_orders, 4));
            let of_one = proto::ListOrdersRequest { lead_id: one.id.clone(), ..of_client.clone() };
            assert_eq!(orders(&h.viewer, &of_one).await, [1, 4, 7].map(|n| all_orders[n].clone()));
            let of_stranger = proto::ListOrdersRequest { lead_id: stranger.id.clone(), ..of_client };
            assert_eq!(orders(&h.viewer, &of_stranger).await, Vec::<String>::new());

            let of_client = proto::ListOpportunitiesRequest { client_id: client.id.clone(), page_size, ..Default::default() };
            assert_eq!(sales(&h.viewer, &of_client).await, without(&all_sales, 4), "open ones");
            let states = [OpportunityState::Open, OpportunityState::Won, OpportunityState::Lost];
            let all = proto::ListOpportunitiesRequest { states: states.map(Into::into).to_vec(), ..of_client.clone() };
            assert_eq!(sales(&h.viewer, &all).await, all_sales);
            let of_two = proto::ListOpportunitiesRequest { lead_id: two.id.clone(), ..all };
            assert_eq!(sales(&h.viewer, &of_two).await, [0, 3, 6].map(|n| all_sales[n].clone()));
        }
        // Neither a joined lead nor anything else is a client.
        for id in [&one.id, &stranger.id, "01900000-0000-7000-8000-000000000009"] {
            let request = proto::ListOrdersRequest { client_id: id.into(), ..Default::default() };
            assert_eq!(orders(&h.viewer, &request).await, Vec::<String>::new());
            let request = proto::ListOpportunitiesRequest { client_id: id.into(), ..Default::default() };
            assert_eq!(sales(&h.viewer, &request).await, Vec::<String>::new());
        }
    }

    async fn only_clients_are_listed_and_got_as_clients(h: Harness) {
        let client = new_client(&h.sales, person("Client")).await;
        let other = new_client(&h.sales, person("Other")).await;
        let mut joined = Vec::new();
        for _ in 0..3 {
            let lead = create(&h.sales, person("Lead")).await;
            h.sales.convert_into(&lead.id, &client.id, &[]).await.unwrap();
            joined.push(lead.id);
        }
        let client = h.viewer.client(&client.id).await.unwrap();
        assert_eq!(client.lead_ids, joined);
        for page_size in [0, 1] {
            let clients = pages(async |page_token| {
                let request = proto::ListClientsRequest { page_size, page_token, ..Default::default() };
                let page = h.viewer.clients().list(request).await.unwrap().into_inner();
                (page.clients, page.next_page_token)
            });
            assert_eq!(clients.await.concat(), [other.clone(), client.clone()]);
        }
        let refused = h.viewer.client(&joined[0]).await.unwrap_err();
        assert_eq!(reason(&refused), "CLIENT_NOT_FOUND");
        assert_eq!((metadata(&refused, "client_id"), metadata(&refused, "lead_id")), (client.id.clone(), joined[0].clone()));
        assert!(refused.message().contains(&client.id), "{refused:?}");
        // As leads they are all there.
        let request = proto::ListLeadsRequest { states: vec![proto::LeadState::Converted.into()], ..Default::default() };
        assert_eq!(h.viewer.leads().list(request).await.unwrap().into_inner().leads.len(), 5);
    }
}

//! The lists of opportunities and orders, and of a lead's history and an order's runs.

use leadsmith_proto as proto;
use leadsmith_proto::{
    self, Lead, ListHistoryRequest, ListLeadsRequest, ListOpportunitiesRequest, ListOrdersRequest,
    ListRunsRequest, Opportunity, Order, SearchLeadsRequest,
};
use sea_orm::ConnectionTrait;
use tonic::{Code, Status};

use super::{choices_of_states, numbers, pages};
use crate::harness::{Backend, Caller, reason, violations};
use crate::on_both;
use crate::order_queues::{self, template};

async fn create_opportunity(caller: &Caller, opportunity: Opportunity) -> Opportunity {
    let request = proto::CreateOpportunityRequest {
        opportunity: Some(opportunity),
        ..Default::default()
    };
    let answer = caller.opportunities().create(request).await.unwrap();
    answer.into_inner().opportunity.unwrap()
}

async fn opportunities(caller: &Caller, request: &ListOpportunitiesRequest) -> Vec<Opportunity> {
    pages(async |page_token| {
        let request = ListOpportunitiesRequest {
            page_token,
            ..request.clone()
        };
        let answer = caller
            .opportunities()
            .list(request)
            .await
            .unwrap()
            .into_inner();
        (answer.opportunities, answer.next_page_token)
    })
    .await
    .concat()
}

async fn orders(caller: &Caller, request: &ListOrdersRequest) -> Vec<Order> {
    pages(async |page_token| {
        let request = ListOrdersRequest {
            page_token,
            ..request.clone()
        };
        let answer = caller.orders().list(request).await.unwrap().into_inner();
        (answer.orders, answer.next_page_token)
    })
    .await
    .concat()
}

fn assert_field_invalid<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status), "FIELD_INVALID");
}

on_both! {
    async fn opportunities_by_lead_owner_and_state_newest_first(h: Harness) {
        let leads = [h.sales.create_lead("Babbage").await, h.sales.create_lead("Hopper").await];
        let owners = [String::new(), h.sales.id.to_string()];
        let mut all = Vec::new();
        for index in 0..24 {
            let opportunity = Opportunity {
                lead_id: leads[index % 2].id.clone(),
                name: format!("Sale {index}"),
                owner_id: owners[index / 2 % 2].clone(),
                ..Opportunity::default()
            };
            let created = create_opportunity(&h.sales, opportunity).await;
            all.push(match index / 4 % 4 {
                0 | 1 => created,
                2 => h.sales.win(&created.id).await.unwrap(),
                _ => h.sales.lose(&created.id, "No budget").await.unwrap(),
            });
        }
        // They stay in the list in any state of their lead.
        h.sales.deactivate(&leads[0].id).await.unwrap();
        h.sales.convert(&leads[1].id).await.unwrap();
        for opportunity in &mut all {
            opportunity.lead_state = if opportunity.lead_id == leads[0].id { 2 } else { 3 };
        }
        all.reverse();
        for lead_id in ["", &leads[0].id, &leads[1].id] {
            for owner_id in &owners {
                // The states of leads and of opportunities have the same numbers.
                for states in choices_of_states() {
                    let request = ListOpportunitiesRequest {
                        lead_id: lead_id.into(),
                        owner_id: owner_id.clone(),
                        states: numbers(&states),
                        page_size: if states.len() == 1 { 2 } else { 5 },
                        ..Default::default()
                    };
                    let states = if states.is_empty() { vec![1] } else { numbers(&states) };
                    let expected: Vec<Opportunity> = all
                        .iter()
                        .filter(|listed| lead_id.is_empty() || listed.lead_id == lead_id)
                        .filter(|listed| owner_id.is_empty() || listed.owner_id == *owner_id)
                        .filter(|listed| states.contains(&listed.state))
                        .cloned()
                        .collect();
                    assert!(!expected.is_empty());
                    assert_eq!(opportunities(&h.viewer, &request).await, expected, "{request:?}");
                }
            }
        }
        for request in [
            ListOpportunitiesRequest { page_size: -1, ..Default::default() },
            ListOpportunitiesRequest { states: vec![4], ..Default::default() },
            ListOpportunitiesRequest { lead_id: "1".into(), ..Default::default() },
            ListOpportunitiesRequest { owner_id: "ada".into(), ..Default::default() },
            ListOpportunitiesRequest { stage: 6, ..Default::default() },
            ListOpportunitiesRequest { stage: -1, ..Default::default() },
            ListOpportunitiesRequest { expected_close_before: "2027-02-29".into(), ..Default::default() },
            ListOpportunitiesRequest { expected_close_before: "tomorrow".into(), ..Default::default() },
        ] {
            assert_field_invalid(h.viewer.opportunities().list(request).await);
        }
    }

    async fn opportunities_by_stage_and_expected_date(h: Harness) {
        let leads = [h.sales.create_lead("Babbage").await, h.sales.create_lead("Hopper").await];
        let owners = [String::new(), h.sales.id.to_string()];
        let dates = ["", "2027-01-31", "2027-02-01", "2027-02-02", "9999-12-31"];
        let mut all = Vec::new();
        for index in 0..40 {
            let opportunity = Opportunity {
                lead_id: leads[index % 2].id.clone(),
                name: format!("Sale {index}"),
                owner_id: owners[index / 2 % 2].clone(),
                stage: [1, 2, 3, 4][index % 4],
                expected_close_date: dates[index % 5].into(),
                ..Opportunity::default()
            };
            let created = create_opportunity(&h.sales, opportunity).await;
            all.push(match index / 4 % 4 {
                0 | 1 => created,
                2 => h.sales.win(&created.id).await.unwrap(),
                _ => h.sales.lose(&created.id, "").await.unwrap(),
            });
        }
        all.reverse();
        let mut lists = 0;
        for stage in 0..=5 {
            for date in ["", "0001-01-01", "2027-02-01", "2027-02-02", "9999-12-31"] {
                for (lead_id, owner_id) in [
                    ("", ""),
                    (leads[0].id.as_str(), ""),
                    ("", owners[1].as_str()),
                    (leads[1].id.as_str(), owners[1].as_str()),
                ] {
                    for states in [vec![], vec![2], vec![2, 3], vec![1, 2, 3]] {
                        let request = ListOpportunitiesRequest {
                            lead_id: lead_id.into(),
                            owner_id: owner_id.into(),
                            states: states.clone(),
                            stage,
                            expected_close_before: date.into(),
                            page_size: 3,
                            ..Default::default()
                        };
                        let states = if states.is_empty() { vec![1] } else { states };
                        let expected: Vec<Opportunity> = all
                            .iter()
                            .filter(|listed| lead_id.is_empty() || listed.lead_id == lead_id)
                            .filter(|listed| owner_id.is_empty() || listed.owner_id == owner_id)
                            .filter(|listed| states.contains(&listed.state))
                            .filter(|listed| stage == 0 || listed.stage == stage)
                            .filter(|listed| {
                                let by = listed.expected_close_date.as_str();
                                date.is_empty() || (!by.is_empty() && by < date)
                            })
                            .cloned()
                            .collect();
                        lists += usize::from(!expected.is_empty());
                        assert_eq!(opportunities(&h.viewer, &request).await, expected, "{request:?}");
                    }
                }
            }
        }
        assert!(lists > 100, "{lists} lists have rows");
    }

    async fn orders_by_lead_and_state_newest_first(h: Harness) {
        let leads = [h.sales.create_lead("Babbage").await, h.sales.create_lead("Hopper").await];
        let mut all = Vec::new();
        for index in 0..24 {
            let mut order = h.sales.create_order(&leads[index % 2].id, Vec::new()).await;
            match index / 2 % 3 {
                0 => {}
                1 => order = h.sales.skip(&order.id, "provision-client").await.unwrap(),
                _ => order = h.sales.cancel_order(&order.id).await,
            }
            all.push(order);
        }
        h.sales.deactivate(&leads[0].id).await.unwrap();
        all.reverse();
        for lead_id in ["", &leads[0].id, &leads[1].id] {
            // The states of leads and of orders have the same numbers.
            for states in choices_of_states() {
                let request = ListOrdersRequest {
                    lead_id: lead_id.into(),
                    states: numbers(&states),
                    page_size: if states.len() == 1 { 3 } else { 5 },
                    ..Default::default()
                };
                let expected: Vec<Order> = all
                    .iter()
                    .filter(|listed| lead_id.is_empty() || listed.lead_id == lead_id)
                    .filter(|listed| states.is_empty() || request.states.contains(&listed.state))
                    .cloned()
                    .collect();
                assert!(!expected.is_empty());
                assert_eq!(orders(&h.viewer, &request).await, expected, "{request:?}");
            }
        }
        for request in [
            ListOrdersRequest { page_size: -1, ..Default::default() },
            ListOrdersRequest { states: vec![4], ..Default::default() },
            ListOrdersRequest { lead_id: "1".into(), ..Default::default() },
        ] {
            assert_field_invalid(h.viewer.orders().list(request).await);
        }
    }

    async fn orders_by_queue_step_and_open_action_newest_first(h: Harness) {
        let actions = vec![template("install", "setup", &[]), template("deliver", "end", &[])];
        let queue = order_queues::new("Hosting", &["setup", "end"], actions);
        let queue = order_queues::create(&h.admin, queue).await.unwrap();
        let lead = h.sales.create_lead("Babbage").await;
        let mut all = Vec::new();
        for index in 0..24 {
            let request = proto::CreateOrderRequest {
                order: Some(Order { lead_id: lead.id.clone(), ..Order::default() }),
                queue_id: if index % 2 == 0 { queue.id.clone() } else { String::new() },
                ..Default::default()
            };
            let created = h.sales.orders().create(request).await.unwrap();
            let mut order = created.into_inner().order.unwrap();
            let keys: &[&str] = match index % 8 {
                2 => &["install"],
                4 => &["install", "deliver"],
                3 => &["provision-client"],
                _ => &[],
            };
            for key in keys {
                order = h.sales.run(&order.id, key).await.unwrap().order.unwrap();
            }
            if index % 8 >= 6 {
                let request = proto::CancelOrderRequest { id: order.id, ..Default::default() };
                order = h.sales.orders().cancel(request).await.unwrap().into_inner().order.unwrap();
            }
            all.push(order);
        }
        all.reverse();
        for queue_id in ["", &queue.id, order_queues::DEFAULT] {
            for step in ["", "setup", "end", "processing"] {
                for open_action in ["", "install", "deliver", "provision-client", "none"] {
                    for states in [&[][..], &[1], &[2], &[1, 3]] {
                        let request = ListOrdersRequest {
                            queue_id: queue_id.into(),
                            step: step.into(),
                            open_action: open_action.into(),
                            states: states.to_vec(),
                            page_size: 4,
                            ..Default::default()
                        };
                        let is_open = |order: &Order| {
                            let open = |action: &proto::OrderAction| {
                                action.key == open_action && action.state() == proto::ActionState::Pending
                            };
                            order.state() == proto::OrderState::Processing && order.actions.iter().any(open)
                        };
                        let expected: Vec<Order> = all
                            .iter()
                            .filter(|listed| queue_id.is_empty() || listed.queue_id == queue_id)
                            .filter(|listed| step.is_empty() || listed.step == step)
                            .filter(|listed| open_action.is_empty() || is_open(listed))
                            .filter(|listed| states.is_empty() || states.contains(&listed.state))
                            .cloned()
                            .collect();
                        assert_eq!(orders(&h.viewer, &request).await, expected, "{request:?}");
                    }
                }
            }
        }
        let request = ListOrdersRequest { queue_id: "1".into(), ..Default::default() };
        assert_field_invalid(h.viewer.orders().list(request).await);
    }

    async fn a_filter_of_orders_that_no_key_can_be_is_refused(h: Harness) {
        for wrong in ["a\u{0}b", "\u{7}", &"x".repeat(65)] {
            for (field, request) in [
                ("step", ListOrdersRequest { step: wrong.into(), ..Default::default() }),
                ("open_action", ListOrdersRequest { open_action: wrong.into(), ..Default::default() }),
            ] {
                let status = h.viewer.orders().list(request).await.unwrap_err();
                assert_eq!(reason(&status), "FIELD_INVALID", "{field} {wrong:?}: {status:?}");
                assert_eq!(violations(&status)[0].0, field, "{wrong:?}");
            }
        }
    }

    async fn a_state_that_is_not_set_counts_as_nothing_sent(h: Harness) {
        let open = h.sales.create_lead("Lovelace").await;
        let away = h.sales.create_lead("Lovelace").await;
        let away = h.sales.deactivate(&away.id).await.unwrap();
        for lead in [&open, &away] {
            for _ in 0..2 {
                let sale = Opportunity { lead_id: lead.id.clone(), name: "Sale".into(), ..Default::default() };
                create_opportunity(&h.sales, sale).await;
                h.sales.create_order(&lead.id, Vec::new()).await;
            }
        }
        for sale in opportunities(&h.viewer, &ListOpportunitiesRequest::default()).await {
            if sale.lead_id == away.id {
                h.sales.lose(&sale.id, "").await.unwrap();
            }
        }
        let db = h.database.connect().await;
        let id = if h.database.backend == Backend::Sqlite {
            format!("x'{}'", open.id.replace('-', ""))
        } else {
            format!("'{}'", open.id)
        };
        let set = format!("UPDATE orders SET state = 'COMPLETE' WHERE lead_id = {id}");
        assert_eq!(db.execute_unprepared(&set).await.unwrap().rows_affected(), 2);
        // Each list by its states and page size, with the number of rows on the first page and in total.
        for (sent, as_if) in [(vec![0], vec![]), (vec![0, 0], vec![]), (vec![2, 0], vec![2]), (vec![0, 3, 1], vec![3, 1])] {
            let list = async |states: &[i32], page_size: i32, page_token: &str| {
                let request = ListLeadsRequest {
                    states: states.to_vec(), page_size, page_token: page_token.into(), ..Default::default()
                };
                let leads = h.viewer.leads().list(request).await.unwrap().into_inner();
                let request = SearchLeadsRequest {
                    query: "lovelace".into(), states: states.to_vec(), page_size, ..Default::default()
                };
                let found = h.viewer.leads().search(request).await.unwrap().into_inner();
                let request = ListOpportunitiesRequest { states: states.to_vec(), page_size, ..Default::default() };
                let sales = h.viewer.opportunities().list(request).await.unwrap().into_inner();
                let request = ListOrdersRequest { states: states.to_vec(), page_size, ..Default::default() };
                let orders = h.viewer.orders().list(request).await.unwrap().into_inner();
                (leads, found, sales, orders)
            };
            assert_eq!(list(&sent, 0, "").await, list(&as_if, 0, "").await, "{sent:?}");
            // Page tokens are bound to the request, and also treat both forms as equal.
            let first = list(&[1, 2, 3], 1, "").await.0;
            let next = list(&[0, 1, 2, 3], 1, &first.next_page_token).await.0;
            assert_eq!(next.leads.len(), 1);
        }
        let wrong = ListLeadsRequest { states: vec![0, 9], ..Default::default() };
        let refused = h.viewer.leads().list(wrong).await.unwrap_err();
        assert_eq!(violations(&refused)[0].0, "states[1]");
    }

    async fn a_history_newest_first_page_by_page(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        for phone in ["1", "2", "3", "4", "5"] {
            let change = Lead { phone: phone.into(), ..lead.clone() };
            h.sales.update(Lead { etag: String::new(), ..change }, &["phone"]).await.unwrap();
        }
        let whole = h.viewer.history(&lead.id).await;
        let phones: Vec<&str> = whole.iter().map(|entry| entry.changes[0].new_value.as_str()).collect();
        assert_eq!(phones, ["5", "4", "3", "2", "1", "Lovelace"]);
        for page_size in [1, 4, 6] {
            let listed = pages(async |page_token| {
                let request = ListHistoryRequest { id: lead.id.clone(), page_size, page_token };
                let answer = h.viewer.leads().list_history(request).await.unwrap().into_inner();
                (answer.entries, answer.next_page_token)
            })
            .await;
            assert_eq!(listed.concat(), whole, "in pages of {page_size}");
        }
        let request = ListHistoryRequest { id: lead.id, page_size: -1, ..Default::default() };
        assert_field_invalid(h.viewer.leads().list_history(request).await);
    }

    async fn an_orders_runs_newest_first_page_by_page(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let action = |key: &str| proto::OrderAction { key: key.into(), r#type: 2, ..Default::default() };
        let keys = ["a", "b", "c", "d", "e"];
        let order = h.sales.create_order(&lead.id, keys.map(action).to_vec()).await;
        let mut runs = Vec::new();
        for key in keys {
            runs.push(h.sales.run(&order.id, key).await.unwrap().run.unwrap());
        }
        runs.reverse();
        for page_size in [0, 1, 2, 5] {
            let listed = pages(async |page_token| {
                let order_id = order.id.clone();
                let request = ListRunsRequest { order_id, page_size, page_token };
                let answer = h.viewer.orders().list_runs(request).await.unwrap().into_inner();
                (answer.runs, answer.next_page_token)
            })
            .await;
            assert_eq!(listed.concat(), runs, "in pages of {page_size}");
        }
        let request = ListRunsRequest { order_id: order.id, page_size: -1, ..Default::default() };
        assert_field_invalid(h.viewer.orders().list_runs(request).await);
    }
}

//! The list of clients, with its filters.

use std::time::Duration;

use leadsmith::features::clients::Filter;
use leadsmith::features::clients::store::list_statement;
use leadsmith_proto::{Client, Lead, ListClientsRequest};
use prost_types::Timestamp;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::pages;
use crate::bulk;
use crate::explain::{LIMIT, check};
use crate::harness::{Backend, Caller, violations};
use crate::on_both;

fn of_size(page_size: i32) -> ListClientsRequest {
    ListClientsRequest {
        page_size,
        ..Default::default()
    }
}

async fn clients(caller: &Caller, request: &ListClientsRequest) -> Vec<Client> {
    pages(async |page_token| {
        let request = ListClientsRequest {
            page_token,
            ..request.clone()
        };
        let answer = caller.clients().list(request).await.unwrap().into_inner();
        (answer.clients, answer.next_page_token)
    })
    .await
    .concat()
}

on_both! {
    async fn clients_the_latest_converted_first(h: Harness) {
        assert_eq!(clients(&h.viewer, &of_size(0)).await, []);
        let mut leads = Vec::new();
        for index in 0..10 {
            let lead = Lead {
                last_name: format!("Client {index}"),
                email: format!("client{index}@mail.test"),
                ..Lead::default()
            };
            leads.push(h.sales.create(lead).await.unwrap());
        }
        // In another order than they were created, both by an order and directly.
        let mut converted = Vec::new();
        for index in [3, 9, 0, 5, 1, 8, 2] {
            h.clock.advance(chrono::Duration::seconds(1));
            let id = &leads[index].id;
            if index % 2 == 0 {
                converted.push(h.sales.convert(id).await.unwrap().client.unwrap());
            } else {
                let order = h.sales.create_order(id, Vec::new()).await;
                let ran = h.sales.run(&order.id, "provision-client").await.unwrap();
                converted.push(ran.client.unwrap());
            }
        }
        h.sales.deactivate(&leads[4].id).await.unwrap();
        converted.reverse();
        for page_size in [0, 1, 3, 7] {
            assert_eq!(clients(&h.viewer, &of_size(page_size)).await, converted, "in pages of {page_size}");
        }
        // Converted at the same moment: ordered by id.
        let db = h.database.connect().await;
        let at_once = "UPDATE leads SET conversion_time = \
                       (SELECT max(conversion_time) FROM leads) WHERE conversion_time IS NOT NULL";
        assert_eq!(db.execute_unprepared(at_once).await.unwrap().rows_affected(), 7);
        converted.sort_by(|a, b| b.id.cmp(&a.id));
        let expected: Vec<&str> = converted.iter().map(|client| client.id.as_str()).collect();
        for page_size in [0, 2] {
            let listed = clients(&h.viewer, &of_size(page_size)).await;
            let listed: Vec<&str> = listed.iter().map(|client| client.id.as_str()).collect();
            assert_eq!(listed, expected, "in pages of {page_size}");
        }
    }

    async fn a_client_has_the_etag_and_the_times_of_its_lead(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        h.clock.advance(chrono::Duration::seconds(5));
        let converted = h.sales.convert(&lead.id).await.unwrap();
        let (lead, client) = (converted.lead.unwrap(), converted.client.unwrap());
        assert_eq!(client.etag, lead.etag);
        assert_eq!(client.create_time, lead.create_time);
        assert_eq!(client.update_time, lead.update_time);
        assert_eq!(client.convert_time, lead.conversion.unwrap().time);
        assert_ne!(client.convert_time, client.create_time);
        assert_eq!(clients(&h.viewer, &of_size(0)).await, std::slice::from_ref(&client));

        // An erasure changes the record, but is not another conversion.
        h.clock.advance(chrono::Duration::seconds(5));
        let erased = h.admin.erase(&lead.id).await.unwrap();
        let left = clients(&h.viewer, &of_size(0)).await.remove(0);
        assert_eq!((left.etag, left.update_time), (erased.etag, erased.update_time));
        assert_eq!((left.create_time, left.convert_time), (client.create_time, client.convert_time));
    }

    async fn clients_of_an_operator_and_of_a_time(h: Harness) {
        let owners = [String::new(), h.sales.id.to_string(), h.admin.id.to_string()];
        let mut all = Vec::new();
        for index in 0..12 {
            let lead = Lead {
                last_name: format!("Client {index}"),
                owner_id: owners[index % 3].clone(),
                ..Lead::default()
            };
            let lead = h.sales.create(lead).await.unwrap();
            h.clock.advance(chrono::Duration::seconds(1));
            all.push(h.sales.convert(&lead.id).await.unwrap().client.unwrap());
        }
        all.reverse();
        let moment = |index: usize| all[index].convert_time;
        // One nanosecond after the stored value, which has microseconds.
        let behind = |index: usize| moment(index).map(|time| Timestamp { nanos: time.nanos + 1, ..time });
        for owner in &owners {
            for (after, before, expected) in [
                (None, None, 0..12),
                (moment(5), None, 0..5),
                (None, moment(5), 6..12),
                (None, behind(5), 5..12),
                (behind(5), None, 0..5),
                (moment(9), moment(2), 3..9),
                (moment(2), moment(9), 0..0),
            ] {
                for page_size in [0, 2] {
                    let request = ListClientsRequest {
                        owner_id: owner.clone(),
                        convert_time_after: after,
                        convert_time_before: before,
                        ..of_size(page_size)
                    };
                    let expected: Vec<Client> = all[expected.clone()]
                        .iter()
                        .filter(|client| owner.is_empty() || client.owner_id == *owner)
                        .cloned()
                        .collect();
                    assert_eq!(clients(&h.viewer, &request).await, expected, "{request:?}");
                }
            }
        }
        let wrong = ListClientsRequest {
            page_size: -1,
            owner_id: "ada".into(),
            convert_time_after: Some(Timestamp { seconds: 0, nanos: -1 }),
            convert_time_before: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
            ..Default::default()
        };
        let refused = h.viewer.clients().list(wrong).await.unwrap_err();
        let fields: Vec<String> = violations(&refused).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["page_size", "owner_id", "convert_time_after", "convert_time_before"]);
    }

    async fn clients_are_found_by_an_index(h: Harness) {
        let db = h.database.connect().await;
        bulk::load(&db, 20_000).await;
        let (many, few) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for (owner, one_of) in [(many, 3), (few, 1_000)] {
            let sql = format!("UPDATE leads SET owner_id = '{owner}' WHERE seq % {one_of} = 0");
            db.execute_unprepared(&sql).await.unwrap();
        }
        db.execute_unprepared("ANALYZE").await.unwrap();
        // With so few rows, PostgreSQL may read all clients by the index and sort them, because it estimates that
        // as cheaper than an ordered index scan. It never reads the other leads.
        let rows = match h.database.backend {
            Backend::Sqlite => LIMIT,
            Backend::Postgres => 4_000,
        };
        let now = h.clock.now();
        let mut checked = 0;
        for owner_id in [None, Some(many), Some(few)] {
            let whole = Filter { owner_id, ..Filter::default() };
            let some = list_statement(db.get_database_backend(), &whole, None, LIMIT);
            assert!(!db.query_all_raw(some).await.unwrap().is_empty(), "{whole:?}");
            for days in [None, Some(1), Some(20_000)] {
                let day = days.map(|days| now - chrono::Duration::days(days));
                for filter in [
                    Filter { convert_time_after: day, ..whole.clone() },
                    Filter { convert_time_before: day, ..whole.clone() },
                ] {
                    for before in [None, Some((now - Duration::from_secs(3600), Uuid::nil()))] {
                        let statement = list_statement(db.get_database_backend(), &filter, before, LIMIT);
                        check(&db, statement, rows).await.unwrap_or_else(|problem| panic!("{filter:?}: {problem}"));
                        checked += 1;
                    }
                }
            }
        }
        assert_eq!(checked, 36);
    }
}

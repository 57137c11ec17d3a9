//! How many leads match a list or a search: exact up to 10,000.

use leadsmith_proto::{LeadState, LeadStateTotal, ListLeadsRequest, SearchLeadsRequest};

use super::{STATES, choices_of_states, list, numbers, search};
use crate::{bulk, on_both};

/// Somewhat more than what is counted exactly: the leads of `bulk` in each state are 90, 9 and 1 of 100.
const LEADS: usize = 12_000;

fn total(state: LeadState, size: i32, size_is_bound: bool) -> LeadStateTotal {
    LeadStateTotal {
        state: state.into(),
        size,
        size_is_bound,
    }
}

on_both! {
    async fn a_list_and_a_search_say_how_many_leads_match(h: Harness) {
        let mut leads = Vec::new();
        for index in 0..9 {
            leads.push(h.sales.create_lead(&format!("Wood {index}")).await);
        }
        for index in [1, 4, 7] {
            h.sales.deactivate(&leads[index].id).await.unwrap();
        }
        for index in [2, 5] {
            h.sales.convert(&leads[index].id).await.unwrap();
        }
        let size = |state| match state {
            LeadState::Open => 4,
            LeadState::Deactivated => 3,
            LeadState::Converted | LeadState::Unspecified => 2,
        };
        for states in choices_of_states() {
            let expected = |states: &[LeadState]| -> Vec<LeadStateTotal> {
                states.iter().map(|state| total(*state, size(*state), false)).collect()
            };
            let sum = |totals: &[LeadStateTotal]| totals.iter().map(|total| total.size).sum::<i32>();

            let listed = if states.is_empty() { vec![LeadState::Open] } else { states.clone() };
            let request = ListLeadsRequest {
                states: numbers(&states), page_size: 1, with_total: true, ..Default::default()
            };
            let answer = list(&h.viewer, request.clone()).await.unwrap();
            assert_eq!(answer.state_totals, expected(&listed), "{states:?}");
            assert_eq!((answer.total_size, answer.total_size_is_bound), (sum(&answer.state_totals), false));
            assert_eq!(answer.leads.len(), 1);
            // It can be asked for on any page.
            let next = ListLeadsRequest { page_token: answer.next_page_token, with_total: false, ..request };
            let next = list(&h.viewer, next).await.unwrap();
            assert_eq!((next.total_size, next.state_totals), (0, Vec::new()));

            let searched = if states.is_empty() { STATES.to_vec() } else { states.clone() };
            for query in ["wood", "oo", "o"] {
                let request = SearchLeadsRequest {
                    query: query.into(), states: numbers(&states), page_size: 1, with_total: true,
                    ..Default::default()
                };
                let answer = search(&h.viewer, request.clone()).await.unwrap();
                assert_eq!(answer.state_totals, expected(&searched), "{query} in {states:?}");
                assert_eq!((answer.total_size, answer.total_size_is_bound), (sum(&answer.state_totals), false));
                let next = SearchLeadsRequest { page_token: answer.next_page_token, ..request };
                assert_eq!(search(&h.viewer, next).await.unwrap().total_size, answer.total_size);
            }
        }
        let request = ListLeadsRequest { source: "nowhere".into(), with_total: true, ..Default::default() };
        let answer = list(&h.viewer, request).await.unwrap();
        assert_eq!((answer.total_size, answer.state_totals), (0, vec![total(LeadState::Open, 0, false)]));
        let request = SearchLeadsRequest { query: "nobody".into(), with_total: true, ..Default::default() };
        assert_eq!(search(&h.viewer, request).await.unwrap().total_size, 0);
    }

    async fn more_than_10_000_leads_are_not_counted(h: Harness) {
        let db = h.database.connect().await;
        bulk::load(&db, LEADS).await;
        let states = numbers(&STATES);
        let all = ListLeadsRequest { states: states.clone(), with_total: true, ..Default::default() };
        let exact = |state: LeadState| all_in(i32::from(state));
        let counted = async |condition: &str| {
            crate::harness::count(&db, &format!("SELECT count(*) FROM leads WHERE {condition}")).await
        };
        for state in STATES {
            let name = state.as_str_name().trim_start_matches("LEAD_STATE_");
            assert_eq!(counted(&format!("state = '{name}'")).await, exact(state));
        }
        let answer = list(&h.viewer, all.clone()).await.unwrap();
        assert_eq!((answer.total_size, answer.total_size_is_bound), (10_000, true));
        let sizes = STATES
            .map(|state| total(state, i32::try_from(exact(state)).unwrap().min(10_000), exact(state) > 10_000));
        assert_eq!(answer.state_totals, sizes);
        for (filter, condition) in [
            (ListLeadsRequest { source: "bulk".into(), ..all.clone() }, "TRUE"),
            (ListLeadsRequest { country_code: "FR".into(), ..all.clone() }, "FALSE"),
            (
                ListLeadsRequest {
                    create_time_before: Some(prost_types::Timestamp { seconds: 1_704_067_200 + 500, nanos: 0 }),
                    order_by: "company".into(),
                    ..all.clone()
                },
                "seq < 500",
            ),
        ] {
            let answer = list(&h.viewer, filter).await.unwrap();
            let expected = counted(condition).await;
            let size = i32::try_from(expected.min(10_000)).unwrap();
            assert_eq!((answer.total_size, answer.total_size_is_bound), (size, expected > 10_000), "{condition}");
        }
        for (query, condition) in [
            ("example", "TRUE"),
            ("x", "TRUE"),
            ("example hosting company 7", "company LIKE 'Example Hosting Company 7%'"),
            ("grace", "first_name = 'Grace'"),
            ("zz", "FALSE"),
        ] {
            for searched in [Vec::new(), vec![i32::from(LeadState::Converted)]] {
                let state = if searched.is_empty() { "TRUE" } else { "state = 'CONVERTED'" };
                let request = SearchLeadsRequest {
                    query: query.into(), states: searched, with_total: true, ..Default::default()
                };
                let answer = search(&h.viewer, request).await.unwrap();
                let expected = counted(&format!("{condition} AND {state}")).await;
                let size = i32::try_from(expected.min(10_000)).unwrap();
                assert_eq!((answer.total_size, answer.total_size_is_bound), (size, expected > 10_000), "{query}");
                let exact = answer.state_totals.iter().all(|total| total.size_is_bound == (expected > 10_000));
                assert!(exact, "{query}");
            }
        }
    }
}

/// How many of the loaded leads are in a state, computed as `bulk` does.
fn all_in(state: i32) -> i64 {
    let state_of = |number: usize| match number {
        number if number % 100 == 7 => 2,
        number if number % 11 == 5 => 3,
        _ => 1,
    };
    let found = (1..=LEADS)
        .filter(|number| state_of(*number) == state)
        .count();
    i64::try_from(found).unwrap()
}

//! LeadService.List: its filters, alone and combined.

use leadsmith_proto::{Lead, LeadState, ListLeadsRequest};
use prost_types::Timestamp;
use tonic::Code;
use tonic_types::StatusExt;

use super::{choices_of_states, ids, list, numbers};
use crate::harness::{Harness, reason, violations};
use crate::on_both;

/// Leads with every owner, country and source in this test, minutes apart, some changed later.
async fn various_leads(h: &Harness) -> Vec<Lead> {
    let owners = [
        h.sales.id.to_string(),
        h.admin.id.to_string(),
        String::new(),
    ];
    let mut created = Vec::new();
    for owner_id in &owners {
        for country_code in ["DE", "FR", ""] {
            for source in ["fair", "Fair", ""] {
                let mut lead = Lead {
                    last_name: "Lovelace".into(),
                    owner_id: owner_id.clone(),
                    source: source.into(),
                    ..Lead::default()
                };
                lead.address.get_or_insert_default().country_code = country_code.into();
                h.clock.advance(chrono::Duration::minutes(1));
                created.push(h.sales.create(lead).await.unwrap());
            }
        }
    }
    let mut leads = Vec::new();
    for (index, lead) in created.iter().enumerate() {
        h.clock.advance(chrono::Duration::minutes(1));
        match index % 4 {
            0 => drop(h.sales.deactivate(&lead.id).await.unwrap()),
            1 => drop(h.sales.convert(&lead.id).await.unwrap()),
            _ => {}
        }
        leads.push(h.sales.get(&lead.id).await);
    }
    leads
}

fn moment(time: Option<Timestamp>) -> (i64, i32) {
    time.map_or((i64::MIN, 0), |time| (time.seconds, time.nanos))
}

/// Whether a lead matches the filters, computed here.
fn meets(lead: &Lead, request: &ListLeadsRequest) -> bool {
    let within = |time, after: Option<Timestamp>, before: Option<Timestamp>| {
        after.is_none_or(|after| moment(time) > moment(Some(after)))
            && before.is_none_or(|before| moment(time) < moment(Some(before)))
    };
    let country = lead.address.clone().unwrap_or_default().country_code;
    let default = [i32::from(LeadState::Open)];
    let states = if request.states.is_empty() {
        &default[..]
    } else {
        &request.states
    };
    states.contains(&lead.state)
        && (request.owner_id.is_empty() || request.owner_id == lead.owner_id)
        && (request.country_code.is_empty() || request.country_code == country)
        && (request.source.is_empty() || request.source == lead.source)
        && within(
            lead.create_time,
            request.create_time_after,
            request.create_time_before,
        )
        && within(
            lead.update_time,
            request.update_time_after,
            request.update_time_before,
        )
}

on_both! {
    async fn every_filter_alone_and_with_every_other(h: Harness) {
        let leads = various_leads(&h).await;
        // The bounds are times of leads. Bounds are exclusive.
        let created = |index: usize| leads[index].create_time;
        let updated = |index: usize| leads[index].update_time;
        let owners = [String::new(), h.sales.id.to_string(), h.admin.id.to_string()];
        let states = choices_of_states();
        let (mut asked, mut found) = (0, 0);
        for owner_id in &owners {
            for country_code in ["", "DE", "FR"] {
                for source in ["", "fair", "Fair"] {
                    for bounds in 0..16 {
                        let bound = |bit: u32, time| if bounds >> bit & 1 == 1 { time } else { None };
                        let request = ListLeadsRequest {
                            page_size: 1000,
                            states: numbers(&states[asked % states.len()]),
                            owner_id: owner_id.clone(),
                            country_code: country_code.into(),
                            source: source.into(),
                            create_time_after: bound(0, created(2)),
                            create_time_before: bound(1, created(22)),
                            update_time_after: bound(2, updated(1)),
                            update_time_before: bound(3, updated(24)),
                            order_by: "create_time".into(),
                            ..Default::default()
                        };
                        let expected: Vec<Lead> =
                            leads.iter().filter(|lead| meets(lead, &request)).cloned().collect();
                        let answer = list(&h.viewer, request.clone()).await.unwrap();
                        assert_eq!(ids(&answer.leads), ids(&expected), "{request:?}");
                        asked += 1;
                        found += expected.len();
                    }
                }
            }
        }
        assert!(found > asked, "the filters leave something to compare");
    }

    async fn a_bound_counts_to_the_nanosecond(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let time = lead.create_time.unwrap();
        let shifted = |by: i64| {
            let nanos = i64::from(time.nanos) + by;
            Some(Timestamp {
                seconds: time.seconds + nanos.div_euclid(1_000_000_000),
                nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap(),
            })
        };
        // The lead's time is a whole microsecond.
        for (after, before, expected) in [
            (shifted(500), None, 0),
            (shifted(0), None, 0),
            (shifted(-500), None, 1),
            (None, shifted(-500), 0),
            (None, shifted(0), 0),
            (None, shifted(500), 1),
        ] {
            let request = ListLeadsRequest {
                create_time_after: after,
                create_time_before: before,
                ..Default::default()
            };
            let answer = list(&h.viewer, request).await.unwrap();
            assert_eq!(answer.leads.len(), expected, "{after:?} {before:?} of {time:?}");
        }
    }

    async fn everything_wrong_with_a_list_is_told_at_once(h: Harness) {
        let out_of_range = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
        let request = ListLeadsRequest {
            page_size: -1,
            states: vec![1, 0, 99],
            owner_id: "ada".into(),
            country_code: "de".into(),
            source: "x".repeat(101),
            create_time_after: out_of_range,
            update_time_before: Some(Timestamp { seconds: 0, nanos: -1 }),
            order_by: "email".into(),
            ..Default::default()
        };
        let status = list(&h.viewer, request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
        let details = status.get_error_details();
        let mut fields: Vec<&str> = details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "country_code",
                "create_time_after",
                "order_by",
                "owner_id",
                "page_size",
                "source",
                "states[2]",
                "update_time_before",
            ]
        );
    }

    async fn a_moment_has_less_than_a_second_of_nanos(h: Harness) {
        type Field = fn(&mut ListLeadsRequest) -> &mut Option<Timestamp>;
        let fields: [(&str, Field); 4] = [
            ("create_time_after", |request| &mut request.create_time_after),
            ("create_time_before", |request| &mut request.create_time_before),
            ("update_time_after", |request| &mut request.update_time_after),
            ("update_time_before", |request| &mut request.update_time_before),
        ];
        let (first, last) = (-62_135_596_800, 253_402_300_799);
        for (name, field) in fields {
            for (seconds, nanos, taken) in [
                (first, 0, true),
                (last, 999_999_999, true),
                (59, 999_999_999, true),
                (59, 1_999_999_999, false),
                (59, 1_000_000_000, false),
                (60, 1_999_999_999, false),
                (0, -1, false),
                (first - 1, 999_999_999, false),
                (last + 1, 0, false),
                (i64::MIN, i32::MIN, false),
            ] {
                let mut request = ListLeadsRequest::default();
                *field(&mut request) = Some(Timestamp { seconds, nanos });
                match list(&h.viewer, request).await {
                    Ok(_) => assert!(taken, "{name} {seconds} {nanos}"),
                    Err(status) => {
                        assert!(!taken, "{name} {seconds} {nanos}: {status:?}");
                        assert_eq!(violations(&status)[0].0, name);
                    }
                }
            }
        }
    }

    async fn an_order_is_one_of_four_with_or_without_desc(h: Harness) {
        for order_by in [
            "create_time,last_name",
            "last_name DESC",
            "LAST_NAME",
            "last_name desc desc",
            "last_name; DROP TABLE leads",
            "-company",
            "desc",
            "last_name_key",
        ] {
            let request = ListLeadsRequest { order_by: order_by.into(), ..Default::default() };
            let status = list(&h.viewer, request).await.unwrap_err();
            assert_eq!(reason(&status), "FIELD_INVALID", "{order_by:?}");
        }
    }
}

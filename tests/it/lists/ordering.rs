//! LeadService.List: the listed states, and the order.

use std::cmp::Ordering;

use leadsmith_proto::{Lead, LeadState, ListLeadsRequest};
use sea_orm::ConnectionTrait;

use super::{ORDERS, choices_of_states, ids, list, names, numbers, walk};
use crate::harness::{Caller, Harness};
use crate::on_both;

/// Names and their sort keys: Unicode case folding, written by hand.
const NAMES: &[(&str, &str)] = &[
    ("山田", "山田"),
    ("STRASSE", "strasse"),
    ("zola", "zola"),
    ("", ""),
    ("Иванов", "иванов"),
    ("Éclair", "éclair"),
    ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
    ("\u{212b}ngström", "ångström"),
    ("Straße", "strasse"),
    ("İnci", "i\u{307}nci"),
    ("Adams", "adams"),
    ("ΜΑΪ\u{301}ΟΥ", "μαΐου"),
    ("eclair", "eclair"),
    ("Οδυσσευς", "οδυσσευσ"),
    ("ирина", "ирина"),
    ("Zola", "zola"),
    ("adams-Weber", "adams-weber"),
    ("E\u{301}CLAIR", "éclair"),
    ("ИВАНОВ", "иванов"),
    ("ırmak", "ırmak"),
    ("", ""),
    ("Inci", "inci"),
    ("🦀", "🦀"),
    ("王", "王"),
    ("ﬁsher", "fisher"),
    ("FISHER", "fisher"),
    ("Μαΐου", "μαΐου"),
    ("ADAMS", "adams"),
    ("Ångström", "ångström"),
    ("Strasser", "strasser"),
];

fn key(name: &str) -> &'static str {
    let found = NAMES.iter().find(|(listed, _)| *listed == name);
    found.unwrap_or_else(|| panic!("no key for {name:?}")).1
}

/// Leads with all these names in all states, some of them created and changed at the same moment.
async fn leads_of_all_names(h: &Harness) -> Vec<Lead> {
    let mut created = Vec::new();
    for (index, (last_name, _)) in NAMES.iter().enumerate() {
        // Ordered differently by company and by last name.
        let (company, _) = NAMES[(index * 7 + 3) % NAMES.len()];
        let lead = Lead {
            first_name: "X".into(),
            last_name: (*last_name).into(),
            company: company.into(),
            source: if index % 4 == 0 { "together" } else { "apart" }.into(),
            ..Lead::default()
        };
        created.push(h.sales.create(lead).await.unwrap());
    }
    for (index, lead) in created.iter().enumerate().rev() {
        match index % 5 {
            1 | 2 => drop(h.sales.deactivate(&lead.id).await.unwrap()),
            3 => drop(h.sales.convert(&lead.id).await.unwrap()),
            _ => {}
        }
    }
    let db = h.database.connect().await;
    let at_once = "UPDATE leads SET create_time = (SELECT min(create_time) FROM leads), \
                   update_time = (SELECT max(update_time) FROM leads) WHERE source = 'together'";
    assert_eq!(
        db.execute_unprepared(at_once)
            .await
            .unwrap()
            .rows_affected(),
        8
    );
    let mut leads = Vec::new();
    for lead in created {
        leads.push(h.sales.get(&lead.id).await);
    }
    leads
}

fn time(time: Option<prost_types::Timestamp>) -> (i64, i32) {
    let time = time.unwrap();
    (time.seconds, time.nanos)
}

/// The expected order, computed here.
fn compare(order_by: &str, a: &Lead, b: &Lead) -> Ordering {
    let (by, direction) = order_by.split_once(' ').unwrap_or((order_by, ""));
    let order = match by {
        "create_time" => time(a.create_time).cmp(&time(b.create_time)),
        "update_time" => time(a.update_time).cmp(&time(b.update_time)),
        "last_name" => key(&a.last_name).cmp(key(&b.last_name)),
        _ => key(&a.company).cmp(key(&b.company)),
    };
    let order = order.then_with(|| a.id.cmp(&b.id));
    if direction == "desc" {
        order.reverse()
    } else {
        order
    }
}

async fn check(caller: &Caller, leads: &[Lead], order_by: &str, states: &[LeadState]) {
    let mut expected: Vec<Lead> = leads
        .iter()
        .filter(|lead| match states {
            [] => lead.state() == LeadState::Open,
            states => states.contains(&lead.state()),
        })
        .cloned()
        .collect();
    expected.sort_by(|a, b| compare(order_by, a, b));
    assert!(expected.len() >= 6, "enough leads to be in an order");
    let request = ListLeadsRequest {
        states: numbers(states),
        order_by: order_by.into(),
        ..Default::default()
    };
    for page_size in [1, 3, 7, 1000] {
        // Pages of one row only with all states, because that merges the most index scans.
        if page_size == 1 && states.len() < 3 {
            continue;
        }
        let listed = walk(caller, &request, page_size).await;
        assert_eq!(
            names(&listed),
            names(&expected),
            "{states:?} by {order_by:?} in pages of {page_size}"
        );
        assert_eq!(listed, expected, "ties are by id, and rows are whole");
    }
}

on_both! {
    async fn every_order_of_every_choice_of_states(h: Harness) {
        let leads = leads_of_all_names(&h).await;
        for order_by in ORDERS {
            for states in choices_of_states() {
                check(&h.viewer, &leads, order_by, &states).await;
            }
        }
    }

    async fn open_leads_newest_first_unless_asked_otherwise(h: Harness) {
        let leads = leads_of_all_names(&h).await;
        let mut expected: Vec<Lead> = leads
            .iter()
            .filter(|lead| lead.state() == LeadState::Open)
            .cloned()
            .collect();
        expected.sort_by(|a, b| compare("create_time desc", a, b));
        let answer = list(&h.viewer, ListLeadsRequest::default()).await.unwrap();
        assert_eq!(answer.leads, expected);
        assert_eq!(answer.next_page_token, "");
    }

    async fn states_may_be_repeated_and_in_any_order(h: Harness) {
        let leads = leads_of_all_names(&h).await;
        let (open, converted) = (LeadState::Open, LeadState::Converted);
        let request = |states: &[LeadState]| ListLeadsRequest {
            states: numbers(states),
            ..Default::default()
        };
        let once = list(&h.viewer, request(&[open, converted])).await.unwrap();
        let again = list(&h.viewer, request(&[converted, open, converted])).await.unwrap();
        let wanted = leads.iter().filter(|lead| lead.state() != LeadState::Deactivated);
        assert_eq!(once.leads.len(), wanted.count());
        assert_eq!(ids(&once.leads), ids(&again.leads));
    }

    async fn a_renamed_lead_moves_to_its_new_place(h: Harness) {
        let mut leads = Vec::new();
        for name in ["Babbage", "Hopper", "Turing"] {
            leads.push(h.sales.create_lead(name).await);
        }
        let change = Lead { last_name: "Aiken".into(), ..leads[2].clone() };
        h.sales.update(change, &["last_name"]).await.unwrap();
        let request = ListLeadsRequest { order_by: "last_name".into(), ..Default::default() };
        let answer = list(&h.viewer, request).await.unwrap();
        let names: Vec<&str> = answer.leads.iter().map(|lead| lead.last_name.as_str()).collect();
        assert_eq!(names, ["Aiken", "Babbage", "Hopper"]);
    }
}

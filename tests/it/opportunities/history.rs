//! The history of an opportunity, and the events of its changes.

use leadsmith_proto::{HistoryEntry, ListOpportunityHistoryRequest, Opportunity};
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use tonic::Response;

use super::{create_complete, raw_rows};
use crate::harness::{Harness, reason};
use crate::lists::pages;
use crate::on_both;

/// The changed fields of an entry: field, old value, new value.
fn changes(entry: &HistoryEntry) -> Vec<[&str; 3]> {
    let changes = entry.changes.iter();
    changes
        .map(|change| {
            [
                change.field.as_str(),
                change.old_value.as_str(),
                change.new_value.as_str(),
            ]
        })
        .collect()
}

/// An opportunity that was created, edited, closed and reopened.
async fn life(h: &Harness) -> Vec<Opportunity> {
    let lead = h.sales.create_lead("Lovelace").await;
    let created = create_complete(h, &lead.id).await;
    let change = Opportunity {
        id: created.id.clone(),
        stage: 4,
        probability: Some(0),
        ..Opportunity::default()
    };
    let paths = ["stage", "amount", "probability"];
    let updated = h.sales.update_sale(change, &paths).await.unwrap();
    let closed = h.admin.lose(&created.id, "No budget").await.unwrap();
    let reopened = h.sales.reopen(&created.id).await.unwrap();
    let won = h.sales.win(&created.id).await.unwrap();
    vec![created, updated, closed, reopened, won]
}

async fn events(h: &Harness) -> Vec<(String, Value)> {
    let db = h.database.connect().await;
    let sql = "SELECT type, CAST(record AS text) FROM events WHERE type LIKE 'opportunity.%' ORDER BY seq";
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    let rows = rows.iter().map(|row| {
        let record: String = row.try_get_by_index(1).unwrap();
        (
            row.try_get_by_index(0).unwrap(),
            serde_json::from_str(&record).unwrap(),
        )
    });
    rows.collect()
}

on_both! {
    async fn every_accepted_change_is_one_entry(h: Harness) {
        let versions = life(&h).await;
        let id = &versions[0].id;
        let mut entries = h.viewer.sale_history(id).await;
        entries.reverse();
        let rpcs: Vec<&str> = entries.iter().map(|entry| entry.rpc.as_str()).collect();
        let expected = ["Create", "Update", "Close", "Reopen", "Close"];
        assert_eq!(rpcs, expected.map(|rpc| format!("leadsmith.v1.OpportunityService/{rpc}")));
        for (entry, version) in entries.iter().zip(&versions) {
            assert_eq!(entry.time, version.update_time);
        }
        assert_eq!(entries[2].actor.as_ref().unwrap().id, h.admin.id.to_string());
        let owner = h.sales.id.to_string();
        assert_eq!(changes(&entries[0]), [
            ["state", "", "OPEN"],
            ["name", "", "Hosting"],
            ["stage", "", "NEGOTIATION"],
            ["amount", "", "4800.5 EUR"],
            ["probability", "", "40"],
            ["expected_close_date", "", "2027-03-31"],
            ["owner_id", "", owner.as_str()],
            ["next_step", "", "Call back"],
            ["description", "", "Two racks"],
        ]);
        assert_eq!(changes(&entries[1]), [
            ["stage", "NEGOTIATION", "BUYING"],
            ["amount", "4800.5 EUR", ""],
            ["probability", "40", "0"],
        ]);
        assert_eq!(changes(&entries[2]), [
            ["state", "OPEN", "LOST"],
            ["close.reason", "", "No budget"],
            ["stage", "BUYING", "CLOSED"],
        ]);
        assert_eq!(changes(&entries[3]), [
            ["state", "LOST", "OPEN"],
            ["close.reason", "No budget", ""],
            ["stage", "CLOSED", "BUYING"],
        ]);
        assert_eq!(changes(&entries[4]), [["state", "OPEN", "WON"], ["stage", "BUYING", "CLOSED"]]);
    }

    async fn every_accepted_change_is_one_event(h: Harness) {
        let versions = life(&h).await;
        let events = events(&h).await;
        let types: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
        let expected = ["created", "updated", "closed", "reopened", "closed"];
        assert_eq!(types, expected.map(|kind| format!("opportunity.{kind}")));
        assert_eq!(events[0].1["opportunity"]["id"], versions[0].id.as_str());
        assert_eq!(events[0].1["opportunity"]["stage"], "NEGOTIATION");
        let changed = |index: usize, path: &str| {
            let changed = events[index].1["changed"]["opportunity"].as_array().unwrap();
            let found = changed.iter().find(|change| change["path"] == path);
            found.cloned().unwrap_or_else(|| panic!("{path} in {changed:?}"))
        };
        assert_eq!(changed(1, "/probability"), json!({ "path": "/probability", "before": 40, "after": 0 }));
        assert_eq!(changed(2, "/state"), json!({ "path": "/state", "before": "OPEN", "after": "LOST" }));
        assert_eq!(changed(2, "/version"), json!({ "path": "/version", "before": 2, "after": 3 }));
        let close = changed(2, "/close");
        assert_eq!(close["before"], Value::Null);
        assert_eq!(close["after"]["reason"], "No budget");
        assert_eq!(close["after"]["stage"], "BUYING");
        assert_eq!(changed(3, "/close")["after"], Value::Null);
        assert_eq!(changed(3, "/stage"), json!({ "path": "/stage", "before": "CLOSED", "after": "BUYING" }));
    }

    async fn a_refused_change_leaves_nothing(h: Harness) {
        let versions = life(&h).await;
        let won = versions.last().unwrap();
        let rows = raw_rows(&h).await;
        let stale = Opportunity { etag: "\"1\"".into(), ..won.clone() };
        assert_eq!(reason(&h.sales.update_sale(stale, &["name"]).await.unwrap_err()), "ETAG_MISMATCH");
        let change = Opportunity { etag: String::new(), name: "Backup".into(), ..won.clone() };
        assert_eq!(reason(&h.sales.update_sale(change, &["name"]).await.unwrap_err()), "OPPORTUNITY_CLOSED");
        assert_eq!(reason(&h.sales.lose(&won.id, "").await.unwrap_err()), "OPPORTUNITY_CLOSED");
        assert_eq!(raw_rows(&h).await, rows);
    }

    async fn it_comes_in_pages_newest_first(h: Harness) {
        let id = life(&h).await[0].id.clone();
        let whole = h.viewer.sale_history(&id).await;
        assert_eq!(whole.len(), 5);
        for page_size in [1, 2, 4, 5, 6] {
            let listed = pages(async |page_token| {
                let request = ListOpportunityHistoryRequest { id: id.clone(), page_size, page_token };
                let answer = h.viewer.opportunities().list_history(request).await.map(Response::into_inner);
                let answer = answer.unwrap();
                (answer.entries, answer.next_page_token)
            })
            .await;
            assert_eq!(listed.concat(), whole, "in pages of {page_size}");
        }
        for (id, page_size, page_token, expected) in [
            ("1", 0, "", "FIELD_INVALID"),
            (id.as_str(), -1, "", "FIELD_INVALID"),
            (id.as_str(), 0, "x", "PAGE_TOKEN_INVALID"),
            ("01900000-0000-7000-8000-000000000001", 0, "", "OPPORTUNITY_NOT_FOUND"),
        ] {
            let (id, page_token) = (id.to_owned(), page_token.to_owned());
            let request = ListOpportunityHistoryRequest { id, page_size, page_token };
            let refused = h.viewer.opportunities().list_history(request).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
    }
}

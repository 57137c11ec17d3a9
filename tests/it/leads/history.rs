//! Every accepted change leaves one history entry and one event. A rejected one leaves neither.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use leadsmith::core::role::Role;
use leadsmith::db::entities::event;
use leadsmith_proto::{
    DeactivateLeadRequest, HistoryEntry, Lead, ListHistoryRequest, ListHistoryResponse, Principal,
    PrincipalKind,
};
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait, QueryFilter as _, QueryOrder};
use serde_json::{Value, json};
use tonic::Status;
use uuid::Uuid;

use super::{complete, edit, named, stored, with_email};
use crate::harness::{Caller, Harness, reason, update, violations};
use crate::on_both;

type Changes = Vec<(String, String, String)>;

fn changes(entry: &HistoryEntry) -> Changes {
    let triple = |change: &leadsmith_proto::FieldChange| {
        (
            change.field.clone(),
            change.old_value.clone(),
            change.new_value.clone(),
        )
    };
    entry.changes.iter().map(triple).collect()
}

fn expected<const N: usize>(changes: [(&str, &str, &str); N]) -> Changes {
    changes
        .map(|(field, from, to)| (field.to_owned(), from.to_owned(), to.to_owned()))
        .into()
}

/// The whole life cycle of a lead, and the lead after each of its changes.
async fn life(h: &Harness) -> Vec<Lead> {
    let robot = h.service_account("robot", Role::Sales).await;
    let created = h.sales.create(complete("")).await.unwrap();
    let id = created.id.clone();
    let edited = edit(&id, |lead| {
        lead.fax = "2".into();
        lead.custom_fields.insert("tier".into(), "silver".into());
        lead.address.get_or_insert_default().city = "Paris".into();
    });
    let paths = [
        "fax",
        "phone",
        "address.city",
        "custom_fields.tier",
        "custom_fields.seats",
    ];
    let edited = h.admin.update(edited, &paths).await.unwrap();
    let request = DeactivateLeadRequest {
        id: id.clone(),
        reason: "no budget".into(),
        ..Default::default()
    };
    let away = robot
        .leads()
        .deactivate(request)
        .await
        .unwrap()
        .into_inner()
        .lead
        .unwrap();
    let back = h.sales.reactivate(&id).await.unwrap();
    let converted = h.sales.convert(&id).await.unwrap().lead.unwrap();
    vec![created, edited, away, back, converted]
}

fn time(time: Option<prost_types::Timestamp>) -> Value {
    let time = time.unwrap();
    let nanos = u32::try_from(time.nanos).unwrap();
    json!(DateTime::<Utc>::from_timestamp(time.seconds, nanos).unwrap())
}

fn actor(principal: Option<Principal>) -> Value {
    let principal = principal.unwrap();
    let kind = principal
        .kind()
        .as_str_name()
        .trim_start_matches("PRINCIPAL_KIND_")
        .to_owned();
    json!({ "kind": kind, "id": principal.id, "name": principal.name })
}

/// The whole lead as in an event.
fn as_json(lead: Lead) -> Value {
    let address = lead.address.clone().unwrap();
    let state = lead
        .state()
        .as_str_name()
        .trim_start_matches("LEAD_STATE_")
        .to_owned();
    let mut json = json!({
        "id": lead.id,
        "version": lead.etag.trim_matches('"').parse::<i64>().unwrap(),
        "first_name": lead.first_name,
        "last_name": lead.last_name,
        "company": lead.company,
        "email": lead.email,
        "phone": lead.phone,
        "fax": lead.fax,
        "vat_id": lead.vat_id,
        "address": {
            "street": address.street,
            "city": address.city,
            "region": address.region,
            "postal_code": address.postal_code,
            "country_code": address.country_code,
        },
        "language": lead.language,
        "owner_id": lead.owner_id,
        "source": lead.source,
        "custom_fields": lead.custom_fields,
        "state": state,
        "create_time": time(lead.create_time),
        "update_time": time(lead.update_time),
    });
    if let Some(by) = lead.deactivation {
        json["deactivation"] = json!({
            "time": time(by.time), "actor": actor(by.actor), "reason": by.reason,
        });
    }
    if let Some(by) = lead.conversion {
        json["conversion"] = json!({
            "time": time(by.time), "actor": actor(by.actor), "order_id": null,
            "client_id": by.client_id, "trigger": "MANUAL",
        });
    }
    json
}

/// A record before its changes.
fn undo(record: &mut Value, changed: &[Value]) {
    for change in changed {
        let path = change["path"].as_str().unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = record.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match change.get("before") {
            Some(before) => parent.insert(key.to_owned(), before.clone()),
            None => parent.remove(key),
        };
    }
}

async fn page(
    caller: &Caller,
    id: &str,
    page_size: i32,
    page_token: &str,
) -> Result<ListHistoryResponse, Status> {
    let request = ListHistoryRequest {
        id: id.into(),
        page_size,
        page_token: page_token.into(),
    };
    Ok(caller.leads().list_history(request).await?.into_inner())
}

on_both! {
    async fn an_entry_names_the_request_id_of_its_call(h: Harness) {
        let request_id = Uuid::now_v7().to_string();
        let request = leadsmith_proto::CreateLeadRequest {
            lead: Some(complete("")),
            request_id: request_id.to_uppercase(),
            ..Default::default()
        };
        let created = h.sales.leads().create(request.clone()).await.unwrap().into_inner();
        // A retry is no other change.
        assert_eq!(h.sales.leads().create(request).await.unwrap().into_inner(), created);
        let lead = created.lead.unwrap();
        h.sales.deactivate(&lead.id).await.unwrap();
        let entries = h.viewer.history(&lead.id).await;
        let ids: Vec<&str> = entries.iter().map(|entry| entry.request_id.as_str()).collect();
        assert_eq!(ids, ["", request_id.as_str()]);
    }

    async fn every_accepted_change_is_one_entry(h: Harness) {
        let life = life(&h).await;
        let entries = h.viewer.history(&life[0].id).await;
        let oldest_first: Vec<HistoryEntry> = entries.into_iter().rev().collect();
        let who: Vec<(&str, PrincipalKind, &str)> = oldest_first
            .iter()
            .map(|entry| {
                let actor = entry.actor.as_ref().unwrap();
                (entry.rpc.as_str(), actor.kind(), actor.name.as_str())
            })
            .collect();
        use PrincipalKind::{Operator, ServiceAccount};
        assert_eq!(
            who,
            [
                ("leadsmith.v1.LeadService/Create", Operator, "sales"),
                ("leadsmith.v1.LeadService/Update", Operator, "admin"),
                (
                    "leadsmith.v1.LeadService/Deactivate",
                    ServiceAccount,
                    "robot"
                ),
                ("leadsmith.v1.LeadService/Reactivate", Operator, "sales"),
                ("leadsmith.v1.LeadService/Convert", Operator, "sales"),
            ]
        );
        assert_eq!(
            oldest_first[0].actor.as_ref().unwrap().id,
            h.sales.id.to_string()
        );
        for (entry, lead) in oldest_first.iter().zip(&life) {
            assert_eq!(
                entry.time, lead.update_time,
                "an entry has the time of its change"
            );
        }
        let ids: BTreeSet<&str> = oldest_first.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids.len(), 5);

        assert_eq!(
            changes(&oldest_first[0]),
            expected([
                ("first_name", "", "Ada"),
                ("last_name", "", "Lovelace"),
                ("company", "", "Analytical Engines"),
                ("email", "", "Ada@Example.com"),
                ("phone", "", "+44 20 7946 0000"),
                ("fax", "", "+44 20 7946 0001"),
                ("vat_id", "", "GB123456789"),
                ("address.street", "", "12 St James's Square\nFirst floor"),
                ("address.city", "", "London"),
                ("address.region", "", "Greater London"),
                ("address.postal_code", "", "SW1Y 4LB"),
                ("address.country_code", "", "GB"),
                ("language", "", "en-GB"),
                ("source", "", "Charles Babbage"),
                ("custom_fields.seats", "", "12"),
                ("custom_fields.tier", "", "gold"),
                ("state", "", "OPEN"),
            ])
        );
        assert_eq!(
            changes(&oldest_first[1]),
            expected([
                ("phone", "+44 20 7946 0000", ""),
                ("fax", "+44 20 7946 0001", "2"),
                ("address.city", "London", "Paris"),
                ("custom_fields.seats", "12", ""),
                ("custom_fields.tier", "gold", "silver"),
            ])
        );
        assert_eq!(
            changes(&oldest_first[2]),
            expected([
                ("state", "OPEN", "DEACTIVATED"),
                ("deactivation.reason", "", "no budget"),
            ])
        );
        assert_eq!(
            changes(&oldest_first[3])[0],
            expected([("state", "DEACTIVATED", "OPEN")])[0]
        );
        assert_eq!(
            changes(&oldest_first[4]),
            expected([("state", "OPEN", "CONVERTED")])
        );
    }

    async fn every_accepted_change_is_one_event_from_which_the_lead_can_be_put_together(h: Harness) {
        let life = life(&h).await;
        let db = h.database.connect().await;
        let events = event::Entity::find()
            .filter(event::Column::LeadId.eq(Uuid::parse_str(&life[0].id).unwrap()))
            .order_by_asc(event::Column::Seq)
            .all(&db)
            .await
            .unwrap();
        let types: Vec<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
        assert_eq!(
            types,
            [
                "lead.created",
                "lead.updated",
                "lead.deactivated",
                "lead.reactivated",
                "lead.converted",
            ]
        );
        let history = h.viewer.history(&life[0].id).await;
        // Backwards from the current lead.
        let mut whole = as_json(life.last().unwrap().clone());
        for (event, lead) in events.iter().zip(&life).rev() {
            assert_eq!(whole, as_json(lead.clone()));
            match event.record["changed"]["lead"].as_array() {
                Some(changed) => undo(&mut whole, changed),
                None => assert_eq!(event.record, json!({ "lead": whole })),
            }
        }
        assert_eq!(events[1].record, json!({ "changed": { "lead": [
            { "path": "/address/city", "before": "London", "after": "Paris" },
            { "path": "/custom_fields/seats", "before": "12" },
            { "path": "/custom_fields/tier", "before": "gold", "after": "silver" },
            { "path": "/fax", "before": "+44 20 7946 0001", "after": "2" },
            { "path": "/phone", "before": "+44 20 7946 0000", "after": "" },
            { "path": "/update_time", "before": time(life[0].update_time),
              "after": time(life[1].update_time) },
            { "path": "/version", "before": 1, "after": 2 },
        ] } }));
        for ((event, lead), entry) in events.into_iter().zip(life).zip(history.into_iter().rev()) {
            assert_eq!(event.lead_id.to_string(), lead.id);
            assert_eq!(event.subject_id.to_string(), lead.id);
            assert_eq!(format!("\"{}\"", event.version), lead.etag);
            assert_eq!(json!(event.time), time(lead.update_time));
            assert_eq!(event.actor, actor(entry.actor));
        }
    }

    async fn a_refused_change_leaves_nothing(h: Harness) {
        let open = h.sales.create(with_email("ada@example.com")).await.unwrap();
        let away = h.sales.create_lead("Hopper").await;
        let away = h.sales.deactivate(&away.id).await.unwrap();
        let client = h.sales.create_lead("Hamilton").await;
        h.sales.convert(&client.id).await.unwrap();
        let before = stored(&h).await;

        let phone = |id: &str| edit(id, |lead| lead.phone = "1".into());
        let stale = Lead {
            etag: "\"9\"".into(),
            ..phone(&open.id)
        };
        let email = edit(&open.id, |lead| lead.email = "b@example.com".into());
        let mut wrong_password = update(email.clone(), &["email"]);
        wrong_password.current_password = "not my password".into();
        let refused = [
            h.sales
                .create(with_email("ada@example.com"))
                .await
                .unwrap_err(),
            h.sales.create(Lead::default()).await.unwrap_err(),
            h.viewer.create(named()).await.unwrap_err(),
            h.sales.update(stale, &["phone"]).await.unwrap_err(),
            h.sales
                .update(phone(&open.id), &["nickname"])
                .await
                .unwrap_err(),
            h.sales.update(email, &["email"]).await.unwrap_err(),
            h.sales.leads().update(wrong_password).await.unwrap_err(),
            h.sales
                .update(phone(&away.id), &["phone"])
                .await
                .unwrap_err(),
            h.sales.deactivate(&away.id).await.unwrap_err(),
            h.sales.convert(&away.id).await.unwrap_err(),
            h.sales.reactivate(&open.id).await.unwrap_err(),
            h.sales
                .update(phone(&client.id), &["phone"])
                .await
                .unwrap_err(),
            h.sales.deactivate(&client.id).await.unwrap_err(),
            h.sales.reactivate(&client.id).await.unwrap_err(),
            h.sales.convert(&client.id).await.unwrap_err(),
            h.viewer.convert(&open.id).await.unwrap_err(),
        ];
        for status in refused {
            assert!(!reason(&status).is_empty());
        }
        assert_eq!(stored(&h).await, before);
    }

    async fn the_history_comes_in_pages_newest_first(h: Harness) {
        let id = life(&h).await[0].id.clone();
        let all = h.viewer.history(&id).await;
        assert_eq!(all.len(), 5);
        let mut found = Vec::new();
        let mut token = String::new();
        for size in [2, 2, 1] {
            let answer = page(&h.viewer, &id, 2, &token).await.unwrap();
            assert_eq!(answer.entries.len(), size);
            found.extend(answer.entries);
            token = answer.next_page_token;
        }
        assert_eq!(token, "", "the third page is the last");
        assert_eq!(found, all);
        let whole = page(&h.viewer, &id, 5, "").await.unwrap();
        assert_eq!(
            whole,
            ListHistoryResponse {
                entries: all.clone(),
                next_page_token: String::new()
            }
        );
        assert_eq!(
            page(&h.viewer, &id, 0, "").await.unwrap(),
            whole,
            "0 means 50"
        );

        let refused = page(&h.viewer, &id, -1, "").await.unwrap_err();
        assert_eq!(violations(&refused)[0].0, "page_size");

        let first = page(&h.viewer, &id, 2, "").await.unwrap();
        let newer = h.sales.create_lead("Hopper").await;
        let second = page(&h.viewer, &id, 3, &first.next_page_token)
            .await
            .unwrap();
        assert_eq!(second.entries, all[2..], "a token takes any page size");
        for (caller, id, token) in [
            (&h.viewer, &newer.id, first.next_page_token.as_str()),
            (&h.sales, &id, first.next_page_token.as_str()),
            (&h.viewer, &id, &first.next_page_token[1..]),
            (&h.viewer, &id, "x"),
        ] {
            let refused = page(caller, id, 2, token).await.unwrap_err();
            assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
        }
    }

    async fn changes_are_read_by_the_names_that_they_were_ever_stored_under(h: Harness) {
        let lead = h.sales.create(named()).await.unwrap();
        let db = h.database.connect().await;
        let stored = "SELECT count(*) FROM history WHERE subject = 'LEAD' AND CAST(changes AS text) LIKE '%\"from\"%'";
        assert_eq!(h.count(stored).await, 1, "the names that the version before reads");
        for (old_value, new_value) in [("from", "to"), ("old_value", "new_value")] {
            let changes = json!([{ "field": "phone", old_value: "1", new_value: "2" }]);
            let set = format!("UPDATE history SET changes = '{changes}' WHERE subject = 'LEAD'");
            assert_eq!(db.execute_unprepared(&set).await.unwrap().rows_affected(), 1);
            let entry = h.viewer.history(&lead.id).await.remove(0);
            assert_eq!(self::changes(&entry), expected([("phone", "1", "2")]));
        }
    }
}

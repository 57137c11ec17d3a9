//! Erasing a lead: what goes from everywhere, what stays, and who may ask for it.

use std::fs;

use leadsmith::auth::roles::Role;
use leadsmith::wire::proto::{self, Lead};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};
use tonic::{Code, Status};
use uuid::Uuid;

use super::complete;
use crate::harness::{Backend, Caller, Harness, PASSWORD, eventually, reason, update, whole};
use crate::on_both;

/// Everything that is said of somebody, none of which may be found afterwards.
const SAID: [&str; 23] = [
    "Adalbertine",
    "Lovelaceford",
    "Engineworks",
    "first-mail@",
    "second-mail@",
    "+44-555-0001",
    "+44-555-0002",
    "VAT-99-77",
    "Squarestreet",
    "Cityville",
    "Regionshire",
    "PC-4711",
    "babbage-source",
    "value-of-tier",
    "gave-up-because",
    "sold-as-item",
    "named-as-action",
    "named-opportunity",
    "next-step-said",
    "described-as",
    "adalbertine",
    "lovelaceford",
    "engineworks",
];

async fn erase(caller: &Caller, request: proto::EraseLeadRequest) -> Result<Lead, Status> {
    let answer = caller.leads().erase(request).await?;
    Ok(answer.into_inner().lead.unwrap())
}

fn asked(id: &str) -> proto::EraseLeadRequest {
    proto::EraseLeadRequest {
        id: id.into(),
        current_password: PASSWORD.into(),
        ..Default::default()
    }
}

fn request_id() -> String {
    Uuid::now_v7().to_string()
}

/// A lead of which everything is said, in every place where something can be said.
struct Known {
    created: proto::CreateLeadRequest,
    deactivated: proto::DeactivateLeadRequest,
    converted: proto::ConvertLeadRequest,
    lead: Lead,
    order: proto::Order,
    opportunity: proto::Opportunity,
}

fn person(owner: &str) -> Lead {
    let mut lead = complete(owner);
    lead.first_name = "Adalbertine".into();
    lead.last_name = "Lovelaceford".into();
    lead.company = "Engineworks".into();
    lead.email = "first-mail@example.com".into();
    lead.phone = "+44-555-0001".into();
    lead.fax = "+44-555-0002".into();
    lead.vat_id = "VAT-99-77".into();
    lead.source = "babbage-source".into();
    lead.custom_fields = [("tier".to_owned(), "value-of-tier".to_owned())].into();
    let address = lead.address.as_mut().unwrap();
    address.street = "Squarestreet".into();
    address.city = "Cityville".into();
    address.region = "Regionshire".into();
    address.postal_code = "PC-4711".into();
    lead
}

async fn known(h: &Harness) -> Known {
    let created = proto::CreateLeadRequest {
        lead: Some(person(&h.sales.id.to_string())),
        request_id: request_id(),
        ..Default::default()
    };
    let answer = h.sales.leads().create(created.clone()).await.unwrap();
    let lead = answer.into_inner().lead.unwrap();
    let mut change = update(
        Lead {
            email: "second-mail@example.com".into(),
            ..lead.clone()
        },
        &["email"],
    );
    change.current_password = PASSWORD.into();
    change.request_id = request_id();
    h.sales.leads().update(change).await.unwrap();

    let opportunity = proto::CreateOpportunityRequest {
        opportunity: Some(proto::Opportunity {
            lead_id: lead.id.clone(),
            name: "named-opportunity".into(),
            next_step: "next-step-said".into(),
            description: "described-as".into(),
            probability: Some(40),
            ..Default::default()
        }),
        request_id: request_id(),
        ..Default::default()
    };
    let answer = h.sales.opportunities().create(opportunity).await.unwrap();
    let opportunity = answer.into_inner().opportunity.unwrap();
    let order = proto::CreateOrderRequest {
        order: Some(proto::Order {
            lead_id: lead.id.clone(),
            items: vec![proto::OrderItem {
                description: "sold-as-item".into(),
                quantity: 3,
                unit_price: None,
            }],
            actions: vec![proto::OrderAction {
                key: "provision".into(),
                name: "named-as-action".into(),
                r#type: proto::ActionType::ProvisionClient.into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        request_id: request_id(),
        ..Default::default()
    };
    let order = h.sales.orders().create(order).await.unwrap();
    let order = order.into_inner().order.unwrap();

    let deactivated = proto::DeactivateLeadRequest {
        id: lead.id.clone(),
        reason: "gave-up-because".into(),
        request_id: request_id(),
        ..Default::default()
    };
    h.sales
        .leads()
        .deactivate(deactivated.clone())
        .await
        .unwrap();
    h.sales.run(&order.id, "provision").await.unwrap_err();
    h.sales.reactivate(&lead.id).await.unwrap();
    let converted = proto::ConvertLeadRequest {
        id: lead.id.clone(),
        request_id: request_id(),
        ..Default::default()
    };
    h.sales.leads().convert(converted.clone()).await.unwrap();
    let lead = h.sales.get(&lead.id).await;
    Known {
        created,
        deactivated,
        converted,
        lead,
        order,
        opportunity,
    }
}

/// Everything that is stored: on SQLite every byte of every file, on PostgreSQL every row.
async fn stored(h: &Harness) -> String {
    if h.database.backend == Backend::Postgres {
        return crate::secrets::dump(&h.database.connect().await).await;
    }
    let mut text = String::new();
    for file in fs::read_dir(h.database.folder.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}

/// How many sets of SQLite's search index there are: none for a lead without texts.
async fn sets(h: &Harness) -> i64 {
    h.count("SELECT count(*) FROM search_index").await
}

/// How many leads have texts that are not in SQLite's search index yet.
async fn pending(h: &Harness) -> i64 {
    h.count("SELECT count(*) FROM search_pending").await
}

/// What PostgreSQL's statistics hold of the values of all columns, and of the statements it runs.
const SAMPLES: &str = "SELECT coalesce(string_agg(concat_ws(' ', tablename, attname, \
     most_common_vals::text, histogram_bounds::text, most_common_elems::text), E'\\n'), '') || \
     (SELECT string_agg(query, E'\\n') FROM pg_stat_activity WHERE datname = current_database()) \
     FROM pg_stats WHERE schemaname = 'public'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_said_of_somebody_is_in_the_statistics_of_postgres() {
    let h = Harness::start(Backend::Postgres).await;
    let Known { lead, .. } = known(&h).await;
    for n in 0..20 {
        h.sales.create_lead(&format!("Another {n}")).await;
    }
    let db = h.database.connect().await;
    let samples = async || {
        let statement = Statement::from_string(db.get_database_backend(), SAMPLES);
        let row = db.query_one_raw(statement).await.unwrap().unwrap();
        let text: String = row.try_get_by_index(0).unwrap();
        let found = SAID.iter().filter(|said| text.contains(**said));
        found.copied().collect::<Vec<_>>()
    };
    db.execute_unprepared("ANALYZE").await.unwrap();
    let before = samples().await;
    for said in [
        "Lovelaceford",
        "Engineworks",
        "second-mail@",
        "+44-555-0001",
        "engineworks",
        "named-opportunity",
        "sold-as-item",
        "value-of-tier",
    ] {
        assert!(
            before.contains(&said),
            "it looks where samples are: {said} not in {before:?}"
        );
    }
    h.admin.erase(&lead.id).await.unwrap();
    eventually("no sample of it is left", async || {
        samples().await.is_empty()
    })
    .await;
}

on_both! {
    async fn nothing_that_was_said_of_somebody_is_stored_any_more(h: Harness) {
        let Known { lead, .. } = known(&h).await;
        let before = stored(&h).await;
        let missing: Vec<_> = SAID.iter().filter(|said| !before.contains(**said)).collect();
        assert_eq!(missing, Vec::<&&str>::new(), "it looks where things are stored");

        let erased = erase(&h.admin, asked(&lead.id)).await.unwrap();
        let after = stored(&h).await;
        let left: Vec<_> = SAID.iter().filter(|said| after.contains(**said)).collect();
        assert_eq!(left, Vec::<&&str>::new());

        // What is left of the lead.
        let by = erased.erasure.clone().unwrap();
        assert_eq!(by.actor.unwrap().id, h.admin.id.to_string());
        assert_eq!(by.time, erased.update_time);
        let expected = Lead {
            id: lead.id.clone(),
            owner_id: lead.owner_id.clone(),
            state: lead.state,
            conversion: lead.conversion.clone(),
            create_time: lead.create_time,
            etag: erased.etag.clone(),
            update_time: erased.update_time,
            erasure: erased.erasure.clone(),
            ..Lead::default()
        };
        assert_eq!(erased, expected);
        assert_ne!(erased.etag, lead.etag);
        assert_eq!(h.viewer.get(&lead.id).await, erased);
        let request = proto::GetClientRequest { id: lead.id.clone() };
        let client = h.viewer.clients().get(request).await.unwrap().into_inner().client.unwrap();
        assert_eq!(client.erasure, erased.erasure);
        assert_eq!(client.company, "");

        if h.database.backend == Backend::Sqlite {
            assert_eq!((sets(&h).await, pending(&h).await), (0, 0));
        } else {
            eventually("the tables are vacuumed", async || {
                h.count(
                    "SELECT count(*) FROM pg_stat_user_tables WHERE vacuum_count > 0 AND relname IN \
                     ('leads', 'lead_search', 'opportunities', 'orders', 'action_runs', 'history', \
                     'events', 'idempotency_records')",
                )
                .await
                    == 8
            })
            .await;
        }
    }

    async fn texts_that_wait_for_the_search_index_are_erased_too(h: Harness) {
        let neighbour = h.sales.create_lead("Hopper").await;
        let lead = h.sales.create(person("")).await.unwrap();
        let other = h.sales.create(complete("")).await.unwrap();
        // Afterwards the index has all texts.
        h.admin.erase(&other.id).await.unwrap();
        let renamed = Lead {
            id: lead.id.clone(),
            last_name: "Renamed".into(),
            company: "Renamed".into(),
            ..Lead::default()
        };
        h.sales.update(renamed, &["last_name", "company"]).await.unwrap();
        if h.database.backend == Backend::Sqlite {
            assert_eq!(pending(&h).await, 1);
            let old = "SELECT count(*) FROM search_pending WHERE instr(indexed, 'lovelaceford') > 0";
            assert_eq!(h.count(old).await, 1);
        }
        h.admin.erase(&lead.id).await.unwrap();
        let after = stored(&h).await;
        let left: Vec<_> = SAID.iter().filter(|said| after.contains(**said)).collect();
        assert_eq!(left, Vec::<&&str>::new());
        assert_eq!(h.viewer.get(&neighbour.id).await, neighbour);
        if h.database.backend == Backend::Sqlite {
            assert_eq!(pending(&h).await, 0);
            let db = h.database.connect().await;
            crate::lists::search_index::check(&db).await;
            let request = proto::SearchLeadsRequest { query: "hopper".into(), ..Default::default() };
            let found = h.viewer.leads().search(request).await.unwrap().into_inner().leads;
            assert_eq!(found, [neighbour]);
        }
    }

    async fn what_happened_stays(h: Harness) {
        let Known { lead, order, opportunity, .. } = known(&h).await;
        let before = h.viewer.history(&lead.id).await;
        let erased = h.admin.erase(&lead.id).await.unwrap();
        let after = h.viewer.history(&lead.id).await;
        assert_eq!(after.len(), before.len() + 1);
        assert_eq!(after[0].rpc, "leadsmith.v1.LeadService/Erase");
        assert_eq!(after[0].actor.as_ref().unwrap().id, h.admin.id.to_string());
        let fields: Vec<&str> = after[0].changes.iter().map(|c| c.field.as_str()).collect();
        assert!(fields.contains(&"email") && fields.contains(&"custom_fields.tier"), "{fields:?}");
        for (then, now) in before.iter().zip(&after[1..]) {
            assert_eq!((&then.id, &then.time, &then.actor, &then.rpc),
                       (&now.id, &now.time, &now.actor, &now.rpc));
            for (then, now) in then.changes.iter().zip(&now.changes) {
                assert_eq!(then.field, now.field);
                if ["state", "owner_id"].contains(&then.field.as_str()) {
                    assert_eq!(then, now);
                } else {
                    assert_eq!((now.old_value.as_str(), now.new_value.as_str()), ("", ""));
                }
            }
        }
        let request = proto::GetOrderRequest { id: order.id.clone() };
        let left = h.viewer.orders().get(request).await.unwrap().into_inner().order.unwrap();
        assert_eq!(left.items[0].description, "");
        assert_eq!(left.items[0].quantity, 3);
        assert_eq!(left.actions[0].name, "");
        assert_eq!(left.actions[0].key, "provision");
        let request = proto::GetOpportunityRequest { id: opportunity.id };
        let view = h.viewer.opportunities().get(request).await.unwrap().into_inner();
        let left = view.opportunity.unwrap();
        assert_eq!((left.name.as_str(), left.description.as_str()), ("", ""));
        assert_eq!((left.probability, left.lead_display_name.as_str()), (Some(40), ""));
        assert_ne!(left.etag, opportunity.etag);
        let order_id = order.id.clone();
        let request = proto::ListRunsRequest { order_id: order.id, ..Default::default() };
        let runs = h.viewer.orders().list_runs(request).await.unwrap().into_inner().runs;
        assert_eq!((runs[0].error_reason.as_str(), runs[0].error_message.as_str()),
                   ("LEAD_DEACTIVATED", ""));

        // Every record whose version went up has a history row and an event of it.
        for (table, subject) in [("orders", "ORDER"), ("opportunities", "OPPORTUNITY")] {
            let rows = format!(
                "SELECT count(*) FROM {table} t JOIN history h ON h.subject_id = t.id AND \
                 h.version = t.version JOIN events e ON e.subject_id = t.id AND \
                 e.version = t.version WHERE h.subject = '{subject}' AND h.lead_id = t.lead_id \
                 AND h.rpc = 'leadsmith.v1.LeadService/Erase' AND e.type LIKE '%.erased'"
            );
            assert_eq!(h.count(&rows).await, 1, "{table}");
        }

        // One event of its own, and every other without what it said.
        let events = "SELECT count(*) FROM events WHERE type = 'lead.erased'";
        assert_eq!(h.count(events).await, 1);
        let db = h.database.connect().await;
        let sql = "SELECT CAST(record AS text) FROM events ORDER BY seq";
        let statement = Statement::from_string(db.get_database_backend(), sql);
        let rows = db.query_all_raw(statement).await.unwrap();
        let records: Vec<serde_json::Value> = rows
            .iter()
            .map(|row| serde_json::from_str(&row.try_get_by_index::<String>(0).unwrap()).unwrap())
            .collect();
        let (others, last) = records.split_at(records.len() - 3);
        assert_eq!(last[0]["lead"]["id"], erased.id.as_str());
        assert_eq!(last[0]["lead"]["erasure"]["actor"]["id"], h.admin.id.to_string());
        assert_eq!(last[1]["opportunity"]["name"], "");
        assert_eq!(last[2]["order"]["id"], order_id.as_str());
        assert!(others.iter().all(|record| *record == serde_json::json!({ "erased": true })));
    }

    async fn who_was_found_before_is_found_no_more_and_still_listed(h: Harness) {
        let Known { lead, .. } = known(&h).await;
        h.admin.erase(&lead.id).await.unwrap();
        for query in ["Lovelaceford", "second-mail", "ngine", "ov", "555"] {
            let request = proto::SearchLeadsRequest { query: query.into(), ..Default::default() };
            let found = h.viewer.leads().search(request).await.unwrap().into_inner().leads;
            assert_eq!(found, Vec::new(), "{query}");
        }
        let request = proto::ListLeadsRequest {
            states: vec![proto::LeadState::Converted.into()],
            ..Default::default()
        };
        let listed = h.viewer.leads().list(request).await.unwrap().into_inner().leads;
        assert!(listed[0].erasure.is_some());
        // The email is free again.
        h.sales.create(person("")).await.unwrap();
    }

    async fn a_call_answered_before_is_not_made_again(h: Harness) {
        let Known { lead, created, deactivated, converted, .. } = known(&h).await;
        let leads = h.count("SELECT count(*) FROM leads").await;
        let request = proto::EraseLeadRequest { request_id: request_id(), ..asked(&lead.id) };
        let first = erase(&h.admin, request.clone()).await.unwrap();
        let status = h.sales.leads().create(created.clone()).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED", "{}", whole(&status));
        assert_eq!(status.code(), Code::FailedPrecondition);
        let status = h.sales.leads().deactivate(deactivated).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED");
        let status = h.sales.leads().convert(converted).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED");
        let other = proto::CreateLeadRequest { allow_duplicate: true, ..created };
        let status = h.sales.leads().create(other).await.unwrap_err();
        assert_eq!(reason(&status), "REQUEST_ID_REUSED");
        assert_eq!(h.count("SELECT count(*) FROM leads").await, leads);

        // The erasure itself can be repeated, and a second one is refused.
        assert_eq!(erase(&h.admin, request.clone()).await.unwrap(), first);
        let forgotten = proto::EraseLeadRequest { current_password: String::new(), ..request };
        assert_eq!(erase(&h.admin, forgotten).await.unwrap(), first);
        let status = erase(&h.admin, asked(&lead.id)).await.unwrap_err();
        assert_eq!(reason(&status), "LEAD_ERASED");
    }

    async fn it_always_asks_for_the_operators_own_password(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        let with = |password: &str| proto::EraseLeadRequest {
            current_password: password.into(),
            ..asked(&lead.id)
        };
        let refused = async |caller: &Caller, request, expected: &str, code| {
            let status = erase(caller, request).await.unwrap_err();
            assert_eq!(reason(&status), expected);
            assert_eq!(status.code(), code);
            assert_eq!(h.viewer.get(&lead.id).await, lead, "nothing is erased");
        };
        let account = h.service_account("crm", Role::Admin).await;
        refused(&account, with(PASSWORD), "OPERATOR_REQUIRED", Code::PermissionDenied).await;
        refused(&h.sales, with(PASSWORD), "ROLE_INSUFFICIENT", Code::PermissionDenied).await;
        refused(&h.admin, with(""), "CURRENT_PASSWORD_REQUIRED", Code::InvalidArgument).await;
        let stale = proto::EraseLeadRequest { etag: "\"9\"".into(), ..with("wrong") };
        refused(&h.admin, stale, "ETAG_MISMATCH", Code::Aborted).await;
        let nobody = proto::EraseLeadRequest { id: request_id(), ..with("wrong") };
        refused(&h.admin, nobody, "LEAD_NOT_FOUND", Code::NotFound).await;
        for _ in 0..5 {
            refused(&h.admin, with("wrong"), "CURRENT_PASSWORD_INVALID", Code::PermissionDenied)
                .await;
        }
        let exceeded = "PASSWORD_ATTEMPTS_EXCEEDED";
        refused(&h.admin, with(PASSWORD), exceeded, Code::ResourceExhausted).await;
        h.clock.advance(chrono::Duration::minutes(15));
        let right = proto::EraseLeadRequest { etag: lead.etag.clone(), ..with(PASSWORD) };
        erase(&h.admin, right).await.unwrap();
    }

    async fn of_many_who_erase_and_change_at_once_nothing_is_left(h: Harness) {
        let Known { lead, order, .. } = known(&h).await;
        let open = h.sales.create(person("")).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..24 {
            let (admin, sales) = (h.admin.clone(), h.sales.clone());
            let (id, open, order) = (lead.id.clone(), open.id.clone(), order.id.clone());
            calls.spawn(async move {
                match number % 4 {
                    0 => drop(admin.erase(&id).await),
                    1 => drop(admin.erase(&open).await),
                    2 => drop(sales.run(&order, "provision").await),
                    _ => {
                        let change = Lead { id: open, company: "Engineworks".into(), ..Lead::default() };
                        drop(sales.update(change, &["company"]).await);
                    }
                }
            });
        }
        calls.join_all().await;
        for id in [&lead.id, &open.id] {
            if h.viewer.get(id).await.erasure.is_none() {
                h.admin.erase(id).await.unwrap();
            }
        }
        let after = stored(&h).await;
        let left: Vec<_> = SAID.iter().filter(|said| after.contains(**said)).collect();
        assert_eq!(left, Vec::<&&str>::new());
        assert_eq!(h.count("SELECT count(*) FROM events WHERE type = 'lead.erased'").await, 2);
    }
}

/// A reader that stays keeps the log; afterwards it is cut without anybody asking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_only_puts_off_that_the_log_is_cut() {
    let h = Harness::start_with(Backend::Sqlite, |settings| {
        settings.limits.retention_interval = std::time::Duration::from_millis(200);
    })
    .await;
    let Known { lead, .. } = known(&h).await;
    let reader = h.database.connect().await;
    let reading = reader.begin().await.unwrap();
    crate::harness::count(&h.database.connect().await, "SELECT count(*) FROM leads").await;
    reading
        .execute_unprepared("SELECT count(*) FROM leads")
        .await
        .unwrap();
    h.admin.erase(&lead.id).await.unwrap();
    assert!(
        stored(&h).await.contains("Lovelaceford"),
        "the reader still sees it"
    );
    h.sales.create_lead("Hopper").await;
    reading.rollback().await.unwrap();
    eventually("the log is cut", async || {
        !stored(&h).await.contains("Lovelaceford")
    })
    .await;
}

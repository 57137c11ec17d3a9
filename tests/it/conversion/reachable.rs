//! Every row that refers to a lead is still found by an RPC after a conversion of any kind, and after its reversal.

use std::collections::BTreeSet;

use leadsmith_proto::{self as proto, Lead, OpportunityState};
use prost::Message;
use sea_orm::{ConnectionTrait, Statement};

use super::orders::order_into;
use super::{create, new_client, person};
use crate::harness::{Backend, Caller, Harness};
use crate::on_both;

/// The columns that hold the id of a lead, or of a record that may be one.
const OF_LEADS: [&str; 18] = [
    "action_runs.lead_id",
    "events.lead_id",
    "events.subject_id",
    "history.lead_id",
    "history.subject_id",
    "idempotency_records.lead_id",
    "idempotency_roots.lead_id",
    "leads.conversion_client_id",
    "leads.joined_lead_ids",
    "opportunities.lead_id",
    "orders.client_id",
    "orders.lead_id",
    // Of records that belong to a lead.
    "action_runs.claim_run_id",
    "action_runs.order_id",
    "claimable_actions.order_id",
    "leads.conversion_order_id",
    "orders.opportunity_id",
    // Texts by the number of a lead.
    "lead_search.seq",
];

/// Ids of other records, and what is no id.
const OTHERS: [&str; 15] = [
    "api_keys.service_account_id",
    "claimable_actions.queue_id",
    "events.transaction_id",
    "history.request_id",
    "idempotency_records.principal_id",
    "idempotency_records.request_id",
    "idempotency_roots.principal_id",
    "idempotency_roots.request_id",
    "leads.owner_id",
    "leads.vat_id",
    "opportunities.owner_id",
    "orders.queue_id",
    "sessions.operator_id",
    "sessions.family_id",
    "password_attempts.operator_id",
];

/// The columns of the database that hold ids, or numbers of leads.
async fn columns_with_ids(h: &Harness) -> BTreeSet<String> {
    let db = h.database.connect().await;
    let sql = match h.database.backend {
        Backend::Postgres => {
            "SELECT table_name || '.' || column_name FROM information_schema.columns \
             WHERE table_schema = 'public'"
        }
        Backend::Sqlite => {
            "SELECT m.name || '.' || p.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p \
             WHERE m.type = 'table'"
        }
    };
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    let all = rows
        .iter()
        .map(|row| row.try_get_by_index::<String>(0).unwrap());
    let has_id = |name: &String| {
        name.ends_with("_id") || name.ends_with("_ids") || name == "lead_search.seq"
    };
    all.filter(has_id).collect()
}

/// A lead with rows in every table that refers to it.
struct Used {
    lead: Lead,
    client_id: String,
    sales: Vec<String>,
    orders: Vec<String>,
    /// The request that created it, and its answer.
    created: (proto::CreateLeadRequest, Vec<u8>),
}

async fn used(h: &Harness, joins: bool, automatic: bool) -> Used {
    let request = proto::CreateLeadRequest {
        lead: Some(person("Lovelace")),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let answer = h.sales.leads().create(request.clone()).await.unwrap();
    let answer = answer.into_inner();
    let lead = answer.lead.clone().unwrap();
    let client_id = match joins {
        true => new_client(&h.sales, person("Client")).await.id,
        false => String::new(),
    };
    let mut sales = Vec::new();
    for name in ["open", "won"] {
        sales.push(h.sales.create_sale(&lead.id, name).await.id);
    }
    h.sales.win(&sales[1]).await.unwrap();
    let into = match automatic {
        true => client_id.as_str(),
        false => "",
    };
    let action = |key: &str, r#type: proto::ActionType| proto::OrderAction {
        key: key.into(),
        r#type: r#type.into(),
        ..Default::default()
    };
    let actions = vec![
        action("provision-client", proto::ActionType::ProvisionClient),
        action("check", proto::ActionType::Manual),
    ];
    let order = order_into(&h.sales, &lead.id, into, actions).await.unwrap();
    let canceled = h.sales.create_order(&lead.id, Vec::new()).await;
    h.sales.cancel_order(&canceled.id).await;
    Used {
        lead,
        client_id,
        sales,
        orders: vec![order.order.unwrap().id, canceled.id],
        created: (request, answer.encode_to_vec()),
    }
}

impl Used {
    fn id(&self, h: &Harness) -> String {
        match h.database.backend {
            Backend::Sqlite => format!("x'{}'", self.lead.id.replace('-', "")),
            Backend::Postgres => format!("'{}'", self.lead.id),
        }
    }

    async fn rows(&self, h: &Harness, table: &str) -> usize {
        let id = self.id(h);
        let sql = format!("SELECT count(*) FROM {table} WHERE lead_id = {id}");
        usize::try_from(h.count(&sql).await).unwrap()
    }

    /// Finds every row by an RPC.
    async fn check(&self, h: &Harness, when: &str, joined: bool) {
        let (viewer, lead) = (&h.viewer, &self.lead);
        let found = viewer.get(&lead.id).await;
        let search = proto::SearchLeadsRequest {
            query: "lovelace".into(),
            ..Default::default()
        };
        let all = viewer
            .leads()
            .search(search)
            .await
            .unwrap()
            .into_inner()
            .leads;
        assert!(all.contains(&found), "{when}: Search");
        let states = proto::ListLeadsRequest {
            states: vec![found.state],
            ..Default::default()
        };
        let all = viewer
            .leads()
            .list(states)
            .await
            .unwrap()
            .into_inner()
            .leads;
        assert!(all.contains(&found), "{when}: List");

        let mut filters = vec![(lead.id.clone(), String::new())];
        if joined {
            assert_eq!(found.conversion.as_ref().unwrap().client_id, self.client_id);
            let client = viewer.client(&self.client_id).await.unwrap();
            assert_eq!(client.lead_ids, std::slice::from_ref(&lead.id), "{when}");
            filters.push((String::new(), self.client_id.clone()));
        }
        for (lead_id, client_id) in filters {
            let states = [
                OpportunityState::Open,
                OpportunityState::Won,
                OpportunityState::Lost,
            ];
            let request = proto::ListOpportunitiesRequest {
                lead_id: lead_id.clone(),
                client_id: client_id.clone(),
                states: states.map(Into::into).to_vec(),
                ..Default::default()
            };
            let sales = viewer
                .opportunities()
                .list(request)
                .await
                .unwrap()
                .into_inner();
            assert_eq!(
                sales.opportunities.len(),
                self.rows(h, "opportunities").await,
                "{when}"
            );
            let request = proto::ListOrdersRequest {
                lead_id,
                client_id,
                ..Default::default()
            };
            let orders = viewer.orders().list(request).await.unwrap().into_inner();
            assert_eq!(orders.orders.len(), self.rows(h, "orders").await, "{when}");
        }
        let mut history = viewer.history(&lead.id).await.len();
        for id in &self.sales {
            assert_eq!(viewer.get_sale(id).await.lead_id, lead.id);
            history += viewer.sale_history(id).await.len();
        }
        let mut runs = 0;
        for id in &self.orders {
            history += order_history(viewer, id).await;
            let request = proto::ListRunsRequest {
                order_id: id.clone(),
                ..Default::default()
            };
            runs += viewer
                .orders()
                .list_runs(request)
                .await
                .unwrap()
                .into_inner()
                .runs
                .len();
        }
        assert_eq!(history, self.rows(h, "history").await, "{when}");
        assert_eq!(runs, self.rows(h, "action_runs").await, "{when}");
        // No RPC returns events: they are there for consumers, one for each row of the history.
        assert_eq!(history, self.rows(h, "events").await, "{when}");
        let (request, first) = &self.created;
        let again = h.sales.leads().create(request.clone()).await.unwrap();
        assert_eq!(
            &again.into_inner().encode_to_vec(),
            first,
            "{when}: a retry"
        );
    }
}

async fn order_history(caller: &Caller, id: &str) -> usize {
    let request = proto::ListOrderHistoryRequest {
        id: id.into(),
        ..Default::default()
    };
    let answer = caller.orders().list_history(request).await.unwrap();
    answer.into_inner().entries.len()
}

on_both! {
    async fn every_column_that_refers_to_a_lead_is_known_here(h: Harness) {
        let known: BTreeSet<String> = OF_LEADS.iter().chain(&OTHERS).map(|name| (*name).to_owned()).collect();
        let found = columns_with_ids(&h).await;
        let new: Vec<_> = found.difference(&known).collect();
        assert!(new.is_empty(), "check that its rows are found after a conversion, and list it: {new:?}");
        let gone: Vec<_> = OF_LEADS.iter().filter(|name| !found.contains(**name)).collect();
        assert!(gone.is_empty(), "{gone:?}");
    }

    async fn every_row_is_found_after_every_kind_of_conversion_and_after_its_reversal(h: Harness) {
        for (joins, by_order) in [(false, false), (true, false), (false, true), (true, true)] {
            let kind = format!("joins {joins}, by an order {by_order}");
            let used = used(&h, joins, by_order).await;
            used.check(&h, &format!("{kind}, before"), false).await;
            match (joins, by_order) {
                (_, true) => {
                    h.sales.run(&used.orders[0], "provision-client").await.unwrap();
                }
                (true, false) => {
                    h.sales.convert_into(&used.lead.id, &used.client_id, &[]).await.unwrap();
                }
                (false, false) => {
                    h.sales.convert(&used.lead.id).await.unwrap();
                }
            }
            used.check(&h, &kind, joins).await;
            let reverted = h.sales.revert(&used.lead.id).await.unwrap();
            assert_eq!(reverted.conversion, None);
            used.check(&h, &format!("{kind}, reverted"), false).await;
        }
        let lead = create(&h.sales, person("Hopper")).await;
        assert_eq!(h.viewer.get(&lead.id).await, lead);
    }
}

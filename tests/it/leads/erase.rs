//! Erasing a lead. This file has what the tests share: a lead with personal data in every place, and a
//! dump of everything that is stored.

mod calls;
mod records;
mod storage;

use std::fs;

use leadsmith_proto::{self as proto, Lead};
use tonic::Status;
use uuid::Uuid;

use super::complete;
use crate::harness::{Backend, Caller, Harness, PASSWORD, close, update};

/// The personal data of the lead. None of it may be found after the erasure.
const SAID: [&str; 28] = [
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
    "closed-because",
    "noted-in-run",
    "referred-to-by",
    "reason-of-skip",
    "comment-on-order",
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

/// A lead with personal data in every place that can hold some, and the requests that wrote it.
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
    let lost = proto::CloseOpportunityRequest {
        reason: "closed-because".into(),
        request_id: request_id(),
        ..close(&opportunity.id, proto::OpportunityOutcome::Lost)
    };
    h.sales.opportunities().close(lost).await.unwrap();
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

    say_something(&h.sales, &lead.id).await;

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

/// Personal texts in the ledger of an order that itself contains none.
async fn say_something(caller: &Caller, lead_id: &str) {
    let action = |key: &str| proto::OrderAction {
        key: key.into(),
        r#type: proto::ActionType::Manual.into(),
        ..Default::default()
    };
    let actions = vec![action("by-hand"), action("skipped")];
    let order_id = caller.create_order(lead_id, actions).await.id;
    let run = proto::RunActionRequest {
        order_id: order_id.clone(),
        action: "by-hand".into(),
        note: "noted-in-run".into(),
        reference: "referred-to-by".into(),
        request_id: request_id(),
        ..Default::default()
    };
    caller.orders().run_action(run).await.unwrap();
    let skip = proto::SkipActionRequest {
        order_id: order_id.clone(),
        action: "skipped".into(),
        reason: "reason-of-skip".into(),
        request_id: request_id(),
        ..Default::default()
    };
    caller.orders().skip_action(skip).await.unwrap();
    let comment = proto::CommentOrderRequest {
        order_id,
        text: "comment-on-order".into(),
        request_id: request_id(),
        ..Default::default()
    };
    caller.orders().comment(comment).await.unwrap();
}

/// Everything that is stored: on SQLite every byte of every file, on PostgreSQL every row.
pub async fn stored(h: &Harness) -> String {
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

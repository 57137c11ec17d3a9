//! Renders events as messages.

use prost::Message as _;
use serde_json::Value;

use crate::core::text_enum::TextEnum as _;
use crate::db::json::from_json;
use crate::error::Result;
use crate::features::events::model::{Event, Subject};
use crate::features::leads::api::render as leads;
use crate::features::operators::api::render as operators;
use crate::features::opportunities::api::render as opportunities;
use crate::features::order_queues::api::render as queues;
use crate::features::orders::api::render as orders;
use crate::features::service_accounts::api::messages as accounts;
use crate::grpc::enums::WireEnum as _;
use crate::grpc::render::{principal, time};
use leadsmith_proto as proto;
use proto::record_version::Record;

/// Renders an event, and returns the size of the message in bytes.
pub fn event(event: Event) -> (proto::ChangeEvent, usize) {
    let (subject, values) = (event.subject, event.values);
    let id = |id: uuid::Uuid| match id.is_nil() {
        true => String::new(),
        false => id.to_string(),
    };
    let mut message = proto::ChangeEvent {
        id: event.id.to_string(),
        r#type: event.r#type,
        time: Some(time(event.time)),
        actor: Some(principal(event.actor)),
        rpc: event.rpc,
        request_id: id(event.request_id),
        subject: subject.to_wire(),
        subject_id: event.subject_id.to_string(),
        lead_id: match subject.belongs_to_lead() {
            true => event.root_id.to_string(),
            false => String::new(),
        },
        version: event.version,
        before: None,
        after: None,
        values_unavailable: values.is_unavailable,
    };
    for (value, place) in [
        (values.before, &mut message.before),
        (values.after, &mut message.after),
    ] {
        match value.map(|value| record(subject, value)).transpose() {
            Ok(record) => *place = record,
            Err(error) => {
                let (event, subject) = (&message.id, subject.as_str());
                tracing::error!(
                    event,
                    subject,
                    cause = error.detail(),
                    "an event cannot be read"
                );
                message.values_unavailable = true;
            }
        }
    }
    let size = message.encoded_len();
    (message, size)
}

fn record(subject: Subject, value: Value) -> Result<proto::RecordVersion> {
    let record = match subject {
        Subject::Lead => Record::Lead(leads::lead(from_json(value)?)),
        Subject::Opportunity => Record::Opportunity(opportunities::opportunity(from_json(value)?)),
        Subject::Order => Record::Order(orders::order(from_json(value)?)),
        Subject::OrderQueue => Record::OrderQueue(queues::queue(from_json(value)?)),
        Subject::Operator => Record::Operator(operators::whole(from_json(value)?, Vec::new())),
        Subject::ServiceAccount => Record::ServiceAccount(accounts::account(from_json(value)?)),
    };
    Ok(proto::RecordVersion {
        record: Some(record),
    })
}

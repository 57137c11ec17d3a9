//! What the readers ask for, and how an event is read as a change.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use anyhow::{Result, ensure};
use leadsmith_proto::record_version::Record;
use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::{ChangeEvent, EventSubject, RecordVersion, WatchEventsRequest};
use prost::Message as _;
use uuid::Uuid;

use super::validate::{Change, Event};

/// The events that a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    All,
    Types,
    Leads,
    /// Those of the lead with the marks, and of its records.
    OneLead,
}

impl Filter {
    const TYPES: [(&'static str, &'static str, &'static str); 4] = [
        ("lead.created", "LEAD", "LeadService/Create"),
        ("lead.updated", "LEAD", "LeadService/Update"),
        (
            "opportunity.created",
            "OPPORTUNITY",
            "OpportunityService/Create",
        ),
        ("order.created", "ORDER", "OrderService/Create"),
    ];

    /// The request for them.
    pub fn request(self, begin: Begin, lead: &str) -> WatchEventsRequest {
        let mut request = WatchEventsRequest {
            begin: Some(begin),
            ..Default::default()
        };
        match self {
            Self::All => {}
            Self::Types => {
                request.types = Self::TYPES.map(|(name, ..)| name.to_owned()).to_vec();
            }
            Self::Leads => request.subjects = vec![EventSubject::Lead.into()],
            Self::OneLead => request.lead_id = lead.to_owned(),
        }
        request
    }

    /// Whether a change is one of them. `lead` is the lead with the marks.
    pub fn matches(self, change: &Change, lead: Uuid) -> bool {
        let is = |(_, subject, rpc): &(&str, &str, &str)| {
            change.subject == *subject && change.rpc.ends_with(rpc)
        };
        match self {
            Self::All => true,
            Self::Types => Self::TYPES.iter().any(is),
            Self::Leads => change.subject == "LEAD",
            Self::OneLead => change.root == lead,
        }
    }
}

/// Reads an event.
pub fn received(event: &ChangeEvent) -> Result<Event> {
    let uuid = |text: &str| match text.is_empty() {
        true => Ok(Uuid::nil()),
        false => text.parse(),
    };
    let subject = EventSubject::try_from(event.subject)?.as_str_name();
    let record = uuid(&event.subject_id)?;
    let is_unavailable = event.after.is_none();
    ensure!(
        is_unavailable == event.values_unavailable,
        "{} of {record} has no values, and does not say so",
        event.r#type
    );
    let actor = event.actor.as_ref().map_or("", |actor| actor.id.as_str());
    Ok(Event {
        id: uuid(&event.id)?,
        change: Change {
            record,
            version: event.version,
            root: match event.lead_id.is_empty() {
                true => record,
                false => uuid(&event.lead_id)?,
            },
            subject: subject
                .strip_prefix("EVENT_SUBJECT_")
                .unwrap_or(subject)
                .to_owned(),
            rpc: event.rpc.clone(),
            request_id: uuid(&event.request_id)?,
            actor: uuid(actor)?,
            phone: event.after.as_ref().and_then(phone),
        },
        before: event.before.as_ref().map(hash),
        after: event.after.as_ref().map(hash),
    })
}

fn phone(version: &RecordVersion) -> Option<String> {
    match version.record.as_ref()? {
        Record::Lead(lead) => Some(lead.phone.clone()),
        Record::Opportunity(_)
        | Record::Order(_)
        | Record::OrderQueue(_)
        | Record::Operator(_)
        | Record::ServiceAccount(_) => None,
    }
}

/// A hash of a record, by which versions are compared.
pub fn hash(version: &RecordVersion) -> u64 {
    let mut hasher = DefaultHasher::new();
    version.encode_to_vec().hash(&mut hasher);
    hasher.finish()
}

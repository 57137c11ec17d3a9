//! `EventService`: streams and lists of accepted changes.

pub mod lifetime;
pub mod list;
mod order;
mod resume;

use std::time::Duration;

use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::watch_events_response::Item;
use leadsmith_proto::{
    self as proto, ChangeEvent, EventSubject, Lead, WatchEventsRequest, WatchEventsResponse,
    WatchStart,
};
use tonic::{Status, Streaming};

use crate::harness::{Caller, reason, violations};
use crate::on_both;

/// Longer than any message may take: a checkpoint comes every 10 seconds.
const PATIENCE: Duration = Duration::from_secs(12);

/// An open stream, and the token of its last message.
pub struct Stream {
    messages: Streaming<WatchEventsResponse>,
    token: String,
}

pub fn from_now() -> WatchEventsRequest {
    request(Begin::Start(WatchStart::Now.into()))
}

fn from_earliest() -> WatchEventsRequest {
    request(Begin::Start(WatchStart::Earliest.into()))
}

pub fn from_token(token: &str) -> WatchEventsRequest {
    request(Begin::ResumeToken(token.into()))
}

fn request(begin: Begin) -> WatchEventsRequest {
    WatchEventsRequest {
        begin: Some(begin),
        ..Default::default()
    }
}

/// Only events of leads.
fn of_leads(request: WatchEventsRequest) -> WatchEventsRequest {
    WatchEventsRequest {
        subjects: vec![EventSubject::Lead.into()],
        ..request
    }
}

/// Opens a stream, which begins with a checkpoint.
pub async fn watch(caller: &Caller, request: WatchEventsRequest) -> Stream {
    let opened = caller.events().watch(request).await.unwrap();
    let mut stream = Stream {
        messages: opened.into_inner(),
        token: String::new(),
    };
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(first.item, Some(Item::Checkpoint(_))), "{first:?}");
    stream
}

pub async fn refused(caller: &Caller, request: WatchEventsRequest) -> Status {
    caller.events().watch(request).await.unwrap_err()
}

impl Stream {
    async fn next(&mut self) -> Result<Option<WatchEventsResponse>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.messages.message());
        let next = next.await.expect("neither an event nor a checkpoint")?;
        if let Some(message) = &next {
            assert!(!message.resume_token.is_empty());
            self.token.clone_from(&message.resume_token);
        }
        Ok(next)
    }

    /// The next event.
    pub async fn event(&mut self) -> ChangeEvent {
        loop {
            let message = self.next().await.unwrap().expect("the stream goes on");
            if let Some(Item::Event(event)) = message.item {
                return event;
            }
        }
    }

    /// The next events, as type and record.
    async fn events(&mut self, count: usize) -> Vec<(String, String)> {
        let mut events = Vec::new();
        for _ in 0..count {
            let event = self.event().await;
            events.push((event.r#type, event.subject_id));
        }
        events
    }

    /// The end of the stream, after whatever comes before it.
    async fn end(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

/// What the stored record of an event would be as a lead.
fn lead(version: Option<proto::RecordVersion>) -> Option<Lead> {
    let record = version?.record?;
    let proto::record_version::Record::Lead(lead) = record else {
        panic!("no lead: {record:?}");
    };
    Some(lead)
}

on_both! {
    async fn an_event_says_who_changed_what_by_which_call(h: Harness) {
        let mut stream = watch(&h.viewer, from_now()).await;
        let id = "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e57";
        let create = proto::CreateLeadRequest {
            lead: Some(Lead { last_name: "Lovelace".into(), ..Lead::default() }),
            request_id: id.into(),
            ..Default::default()
        };
        let created = h.sales.leads().create(create).await.unwrap().into_inner().lead.unwrap();
        let event = stream.event().await;
        let expected = ChangeEvent {
            id: event.id.clone(),
            r#type: "lead.created".into(),
            time: created.create_time,
            actor: event.actor.clone(),
            rpc: "leadsmith.v1.LeadService/Create".into(),
            request_id: id.into(),
            subject: EventSubject::Lead.into(),
            subject_id: created.id.clone(),
            lead_id: created.id.clone(),
            version: 1,
            before: None,
            after: event.after.clone(),
            values_unavailable: false,
        };
        assert_eq!(event, expected);
        assert_eq!(event.actor.unwrap().id, h.sales.id.to_string());
        assert_eq!(lead(event.after), Some(created.clone()));

        let phoned = Lead { phone: "+44 20 7946 0000".into(), ..created.clone() };
        let updated = h.sales.update(phoned, &["phone"]).await.unwrap();
        let event = stream.event().await;
        assert_eq!((event.r#type.as_str(), event.version), ("lead.updated", 2));
        assert_eq!(lead(event.before), Some(created.clone()));
        assert_eq!(lead(event.after), Some(updated.clone()));
        let away = h.sales.deactivate(&created.id).await.unwrap();
        let event = stream.event().await;
        assert_eq!(lead(event.before), Some(updated));
        assert_eq!(lead(event.after), Some(away));
        let again = h.sales.deactivate(&created.id).await.unwrap_err();
        assert_eq!(reason(&again), "LEAD_DEACTIVATED", "refused: no event");
    }

    async fn the_past_of_a_record_is_rebuilt_from_what_changed(h: Harness) {
        let created = h.sales.create_lead("Lovelace").await;
        let mut versions = vec![created.clone()];
        for company in ["Analytical", "Difference", ""] {
            let changed = Lead { company: company.into(), ..created.clone() };
            let changed = Lead { etag: String::new(), ..changed };
            versions.push(h.sales.update(changed, &["company"]).await.unwrap());
        }
        let mut request = of_leads(from_earliest());
        request.types = vec!["lead.updated".into()];
        let mut stream = watch(&h.viewer, request).await;
        let mut token = String::new();
        for pair in versions.windows(2) {
            let event = stream.event().await;
            assert_eq!(lead(event.before).as_ref(), Some(&pair[0]));
            assert_eq!(lead(event.after).as_ref(), Some(&pair[1]));
            if token.is_empty() {
                token.clone_from(&stream.token);
            }
        }
        // A reader that did not see the creation.
        let mut later = watch(&h.viewer, of_leads(from_token(&token))).await;
        let event = later.event().await;
        assert_eq!(lead(event.before).as_ref(), Some(&versions[1]));
        assert_eq!(lead(event.after).as_ref(), Some(&versions[2]));
    }

    async fn the_events_of_every_kind_of_record_have_the_record(h: Harness) {
        let mut stream = watch(&h.admin, from_now()).await;
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = h.sales.create_sale(&lead.id, "Engine").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        h.service_account("worker", leadsmith::core::role::Role::Sales).await;
        h.operator("newcomer", leadsmith::core::role::Role::Viewer).await;
        use proto::record_version::Record;
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "operator.created") {
            let event = stream.event().await;
            assert!(!event.values_unavailable, "{event:?}");
            let after = event.after.unwrap().record.unwrap();
            match &after {
                Record::Lead(found) => assert_eq!(*found, lead),
                Record::Opportunity(found) => {
                    let without_lead = proto::Opportunity {
                        lead_display_name: String::new(),
                        lead_state: 0,
                        ..sale.clone()
                    };
                    assert_eq!(*found, without_lead);
                }
                Record::Order(found) => assert_eq!(*found, order),
                Record::OrderQueue(_) => panic!("{after:?}"),
                Record::Operator(found) => assert_eq!(found.username, "newcomer"),
                Record::ServiceAccount(found) => assert_eq!(found.name, "worker"),
            }
            seen.push(event.r#type);
        }
        let expected = ["lead.created", "opportunity.created", "order.created"];
        assert_eq!(seen[..3], expected);
        assert!(seen.contains(&"service_account.created".to_owned()), "{seen:?}");
    }

    async fn filters_and_roles_decide_what_is_sent(h: Harness) {
        let mut by_lead = from_now();
        let lead = h.sales.create_lead("Lovelace").await;
        by_lead.lead_id = lead.id.clone();
        let mut by_lead = watch(&h.viewer, by_lead).await;
        let mut by_type = from_now();
        by_type.types = vec!["lead.deactivated".into(), "operator.created".into()];
        let mut by_type = watch(&h.viewer, by_type).await;
        let mut of_admin = from_now();
        of_admin.subjects = vec![EventSubject::Operator.into()];
        let mut of_admin = watch(&h.admin, of_admin).await;

        h.operator("newcomer", leadsmith::core::role::Role::Viewer).await;
        let other = h.sales.create_lead("Hopper").await;
        let sale = h.sales.create_sale(&lead.id, "Engine").await;
        h.sales.deactivate(&other.id).await.unwrap();
        h.sales.deactivate(&lead.id).await.unwrap();

        let expected = [
            ("opportunity.created".to_owned(), sale.id),
            ("lead.deactivated".to_owned(), lead.id.clone()),
        ];
        assert_eq!(by_lead.events(2).await, expected);
        let expected = [
            ("lead.deactivated".to_owned(), other.id),
            ("lead.deactivated".to_owned(), lead.id),
        ];
        assert_eq!(by_type.events(2).await, expected, "operators are for administrators");
        assert_eq!(of_admin.event().await.r#type, "operator.created");
    }

    async fn what_was_erased_is_not_sent(h: Harness) {
        let lead_ = h.sales.create_lead("Lovelace").await;
        let phoned = Lead { phone: "1".into(), ..lead_.clone() };
        h.sales.update(phoned, &["phone"]).await.unwrap();
        h.admin.erase(&lead_.id).await.unwrap();
        let mut stream = watch(&h.viewer, of_leads(from_earliest())).await;
        for expected in ["lead.created", "lead.updated"] {
            let event = stream.event().await;
            assert_eq!(event.r#type, expected);
            assert_eq!((event.before, event.after), (None, None));
            assert!(event.values_unavailable);
        }
        let event = stream.event().await;
        assert_eq!(event.r#type, "lead.erased");
        assert!(event.before.is_none() && event.values_unavailable);
        assert!(lead(event.after).unwrap().erasure.is_some());
    }

    async fn what_was_sent_before_its_erasure_is_not_sent_again(h: Harness) {
        let mut early = watch(&h.viewer, of_leads(from_now())).await;
        let start = early.token.clone();
        let created = h.sales.create_lead("Lovelace").await;
        let phoned = Lead { phone: "1".into(), ..created.clone() };
        h.sales.update(phoned, &["phone"]).await.unwrap();
        // The server has the values in memory.
        assert_eq!(lead(early.event().await.after).unwrap().last_name, "Lovelace");
        assert_eq!(lead(early.event().await.after).unwrap().phone, "1");
        h.admin.erase(&created.id).await.unwrap();
        assert_eq!(early.event().await.r#type, "lead.erased");
        let mut late = watch(&h.viewer, of_leads(from_token(&start))).await;
        for expected in ["lead.created", "lead.updated", "lead.erased"] {
            let event = late.event().await;
            assert_eq!(event.r#type, expected);
            assert!(event.values_unavailable, "{event:?}");
            assert_eq!(event.before, None);
        }
        let after = h.sales.create_lead("Hopper").await;
        for mut stream in [early, late] {
            assert_eq!(stream.event().await.subject_id, after.id);
        }
    }

    async fn wrong_requests_are_told_everything_at_once(h: Harness) {
        let wrong = WatchEventsRequest {
            begin: None,
            types: vec![String::new(), "x".repeat(101)],
            lead_id: "x".into(),
            subjects: vec![99],
        };
        let status = refused(&h.viewer, wrong).await;
        assert_eq!(reason(&status), "FIELD_INVALID");
        let fields: Vec<_> = violations(&status).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["start", "types[0]", "types[1]", "lead_id", "subjects[0]"]);
        for token in ["x", "AAAA", &"A".repeat(100)] {
            let status = refused(&h.viewer, from_token(token)).await;
            assert_eq!(reason(&status), "RESUME_TOKEN_INVALID", "{token}");
        }
    }
}

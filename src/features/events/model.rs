//! What an event says, and which events a reader wants. Must not depend on messages or on the database.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::core::call::{Principal, PrincipalKind};
use crate::core::text_enum::{TextEnum as _, text_enum};

text_enum! {
    "snake_case"
    /// The kind of record that an event is about. Its text is the beginning of the event's type, and the name of the
    /// record in the stored content.
    pub enum Subject {
        /// A lead.
        Lead,
        /// An opportunity.
        Opportunity,
        /// An order.
        Order,
        /// An order queue.
        OrderQueue,
        /// An operator.
        Operator,
        /// A service account.
        ServiceAccount,
    }
}

impl Subject {
    /// The kind of an event's type: the part before the point.
    pub fn of_type(event_type: &str) -> Option<Self> {
        let (name, _) = event_type.split_once('.')?;
        Self::from_text(name)
    }

    /// Whether only an ADMIN may see its events, as its history.
    pub const fn is_for_admins(self) -> bool {
        matches!(self, Self::Operator | Self::ServiceAccount)
    }

    /// Whether its records belong to a lead, or are leads.
    pub const fn belongs_to_lead(self) -> bool {
        matches!(self, Self::Lead | Self::Opportunity | Self::Order)
    }
}

/// An accepted change of one record.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub id: Uuid,
    /// What happened. Example: `lead.converted`.
    pub r#type: String,
    /// The kind of the record.
    pub subject: Subject,
    /// The record.
    pub subject_id: Uuid,
    /// The lead that it belongs to; for other kinds, the record itself.
    pub root_id: Uuid,
    /// The record's version after the change.
    pub version: i64,
    /// When it was made.
    pub time: DateTime<Utc>,
    /// Who made it.
    pub actor: Principal,
    /// By which RPC or command.
    pub rpc: String,
    /// The request id of the call; nil if it had none.
    pub request_id: Uuid,
    /// The record before and after.
    pub values: Values,
}

/// A record before and after a change, in its stored form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// The record before. None for a new one.
    pub before: Option<Value>,
    /// The record after.
    pub after: Option<Value>,
    /// Whether one of them is missing because it was erased.
    pub is_unavailable: bool,
}

/// Which events a reader wants. An empty set stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The types.
    pub types: BTreeSet<String>,
    /// The lead that they belong to.
    pub lead_id: Option<Uuid>,
    /// The kinds of records.
    pub subjects: BTreeSet<Subject>,
    /// Whether the reader may see the events of operators and service accounts.
    pub is_admin: bool,
    /// Events before this time are left out.
    pub since: Option<DateTime<Utc>>,
}

/// What a filter looks at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The type.
    pub r#type: String,
    /// The kind of the record.
    pub subject: Subject,
    /// The lead that it belongs to; for other kinds, the record itself.
    pub root_id: Uuid,
    /// When it was made.
    pub time: DateTime<Utc>,
}

impl Facts {
    /// Whether personal data was erased, also in earlier events.
    pub fn is_erasure(&self) -> bool {
        self.r#type.ends_with(".erased")
    }
}

impl Filter {
    /// Whether an event is wanted, and may be seen.
    pub fn matches(&self, event: &Facts) -> bool {
        let subject = event.subject;
        (self.is_admin || !subject.is_for_admins())
            && (self.types.is_empty() || self.types.contains(&event.r#type))
            && (self.subjects.is_empty() || self.subjects.contains(&subject))
            && self
                .lead_id
                .is_none_or(|id| id == event.root_id && subject.belongs_to_lead())
            && self.since.is_none_or(|since| event.time >= since)
    }
}

/// Which events a list has. An empty set stands for all.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// The operator or service account that made the change.
    pub actor_id: Option<Uuid>,
    /// The kinds of principals that made it.
    pub actor_kinds: BTreeSet<PrincipalKind>,
    /// The types.
    pub types: BTreeSet<String>,
    /// The kinds of records.
    pub subjects: BTreeSet<Subject>,
    /// The record.
    pub subject_id: Option<Uuid>,
    /// The lead that they belong to.
    pub lead_id: Option<Uuid>,
    /// Only events after this time.
    pub time_after: Option<DateTime<Utc>>,
    /// Only events before this time.
    pub time_before: Option<DateTime<Utc>>,
    /// Whether the reader may see the events of operators and service accounts.
    pub is_admin: bool,
}

impl ListFilter {
    /// The kinds of records that the list can have.
    pub fn possible_subjects(&self) -> BTreeSet<Subject> {
        let mut possible: BTreeSet<Subject> = Subject::ALL.iter().copied().collect();
        possible.retain(|subject| {
            (self.is_admin || !subject.is_for_admins())
                && (self.subjects.is_empty() || self.subjects.contains(subject))
                && (self.lead_id.is_none() || subject.belongs_to_lead())
        });
        possible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_begins_with_the_kind_of_the_record() {
        for subject in Subject::ALL {
            let event_type = format!("{}.created", subject.as_str());
            assert_eq!(Subject::of_type(&event_type), Some(*subject));
        }
        assert_eq!(Subject::of_type("leads.created"), None);
        assert_eq!(Subject::of_type("lead"), None);
    }

    #[test]
    fn a_filter_needs_every_condition() {
        let lead = Uuid::from_u128(1);
        let time = DateTime::from_timestamp(1_000, 0).unwrap();
        let event = |subject: Subject| Facts {
            r#type: format!("{}.updated", subject.as_str()),
            subject,
            root_id: lead,
            time,
        };
        let all = Filter::default();
        assert!(all.matches(&event(Subject::Order)));
        assert!(!all.matches(&event(Subject::Operator)), "not for everybody");
        let admin = Filter {
            is_admin: true,
            ..Filter::default()
        };
        assert!(admin.matches(&event(Subject::Operator)));
        let narrow = Filter {
            types: BTreeSet::from(["lead.updated".to_owned(), "order.updated".to_owned()]),
            subjects: BTreeSet::from([Subject::Order]),
            lead_id: Some(lead),
            since: Some(time),
            ..Filter::default()
        };
        assert!(narrow.matches(&event(Subject::Order)));
        assert!(!narrow.matches(&event(Subject::Lead)));
        let later = Facts {
            time: time - chrono::Duration::seconds(1),
            ..event(Subject::Order)
        };
        assert!(!narrow.matches(&later));
        let other = Facts {
            root_id: Uuid::nil(),
            ..event(Subject::Order)
        };
        assert!(!narrow.matches(&other));
    }

    #[test]
    fn a_list_has_the_kinds_that_the_reader_may_see() {
        let all = ListFilter::default();
        let for_everybody = [
            Subject::Lead,
            Subject::Opportunity,
            Subject::Order,
            Subject::OrderQueue,
        ];
        assert_eq!(all.possible_subjects(), BTreeSet::from(for_everybody));
        let admin = ListFilter {
            is_admin: true,
            ..ListFilter::default()
        };
        let every = Subject::ALL.iter().copied().collect();
        assert_eq!(admin.possible_subjects(), every);
        let of_lead = ListFilter {
            lead_id: Some(Uuid::from_u128(1)),
            subjects: BTreeSet::from([Subject::Order, Subject::Operator]),
            ..admin
        };
        let possible = BTreeSet::from([Subject::Order]);
        assert_eq!(of_lead.possible_subjects(), possible);
    }
}

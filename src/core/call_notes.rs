//! What is known of a call beside its response, for the call's line in the log.
//!
//! The line is written at one place, when the call ends (`server/admission/call_line.rs`). The code that handles the call
//! knows more than that place: the request id, the records, whether anything was changed. It notes that here. A call
//! whose line is not written has notes that keep nothing and cost nothing.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use opentelemetry::trace::TraceId;
use uuid::Uuid;

use super::call::Principal;

/// The maximum number of records in a line.
const MAX_RECORDS: usize = 20;

/// What a call that succeeded did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// It only read, or it found everything as it was to be.
    #[default]
    None,
    /// It changed something.
    Changed,
    /// It got the stored response of an earlier call with the same request id.
    Replayed,
    /// It was validated only (`validate_only`).
    Validated,
}

impl Effect {
    /// The word in the log; none for [`Effect::None`].
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Changed => Some("changed"),
            Self::Replayed => Some("replayed"),
            Self::Validated => Some("validated"),
        }
    }
}

/// The records of a call, at most 20, each as `kind/id`, separated by spaces. Example: `lead/0190f9a2-…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    listed: Vec<(&'static str, Uuid)>,
    /// How many more there are.
    pub omitted: u64,
}

impl Records {
    fn add(&mut self, kind: &'static str, id: Uuid) {
        if self.listed.contains(&(kind, id)) {
            return;
        }
        if self.listed.len() < MAX_RECORDS {
            self.listed.push((kind, id));
        } else {
            self.omitted += 1;
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, id)) in self.listed.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{}/{id}", kind.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// What was noted of a call.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The request id that the caller chose.
    pub request_id: Option<Uuid>,
    /// The operator who signed in by this call.
    pub signed_in: Option<Arc<Principal>>,
    /// What it did.
    pub effect: Effect,
    /// The records that it changed. Of a call that did not change any: the records that it was about.
    pub records: Records,
    /// Whether it was the wrong password after which further attempts are refused.
    pub is_lockout: bool,
    /// The kind of the root of a stored response, where it is not the usual one.
    root_kind: Option<&'static str>,
    is_ended: bool,
}

#[derive(Debug)]
struct Shared {
    peer: Option<IpAddr>,
    trace_id: Option<TraceId>,
    notes: Mutex<Notes>,
}

/// A handle to the notes of one call.
#[derive(Clone, Debug, Default)]
pub struct CallNotes(Option<Arc<Shared>>);

impl CallNotes {
    /// Notes that are kept. [`CallNotes::default`] keeps nothing.
    pub fn new(peer: Option<IpAddr>, trace_id: Option<TraceId>) -> Self {
        Self(Some(Arc::new(Shared {
            peer,
            trace_id,
            notes: Mutex::default(),
        })))
    }

    /// The address of the client.
    pub fn peer(&self) -> Option<IpAddr> {
        self.0.as_ref()?.peer
    }

    /// The trace that the call belongs to.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.0.as_ref()?.trace_id
    }

    /// Notes the request id that the caller chose.
    pub fn request_id(&self, id: Option<Uuid>) {
        self.note(|notes| notes.request_id = id);
    }

    /// Notes a record that the call is about. `kind` is the name of its kind, in any letter case.
    pub fn about(&self, kind: &'static str, id: Uuid) {
        self.note(|notes| notes.records.add(kind, id));
    }

    /// Notes the kind of the record that a stored response of this call is about. Without this it is the kind that
    /// other records belong to: a stored response has only the id of its root.
    pub fn root_kind(&self, kind: &'static str) {
        self.note(|notes| notes.root_kind = Some(kind));
    }

    /// Notes the record that a stored response is about. `usual` is its kind unless another one was noted.
    pub fn about_root(&self, usual: &'static str, id: Uuid) {
        self.note(|notes| {
            let kind = notes.root_kind.unwrap_or(usual);
            notes.records.add(kind, id);
        });
    }

    /// Notes who signed in.
    pub fn signed_in(&self, operator: impl FnOnce() -> Principal) {
        self.note(|notes| {
            notes.signed_in = Some(Arc::new(operator()));
            notes.effect = Effect::Changed;
        });
    }

    /// Notes that this was the wrong password after which further attempts are refused.
    pub fn locked_out(&self) {
        self.note(|notes| notes.is_lockout = true);
    }

    /// Notes what the call did, without records of its own.
    pub fn effect(&self, effect: Effect) {
        self.note(|notes| notes.effect = effect);
    }

    /// Notes a change that is committed, and the records that it changed. Returns the notes if the call has ended
    /// already, because its client disconnected or its deadline passed: then its line does not show the change.
    #[must_use]
    pub fn changed(&self, records: impl Iterator<Item = (&'static str, Uuid)>) -> Option<Notes> {
        let mut noted = lock(self.0.as_ref()?);
        noted.effect = Effect::Changed;
        noted.records = Records::default();
        for (kind, id) in records {
            noted.records.add(kind, id);
        }
        noted.is_ended.then(|| noted.clone())
    }

    /// The notes at the end of the call.
    pub fn end(&self) -> Notes {
        let Some(shared) = &self.0 else {
            return Notes::default();
        };
        let mut notes = lock(shared);
        notes.is_ended = true;
        notes.clone()
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        if let Some(shared) = &self.0 {
            change(&mut lock(shared));
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Notes> {
    let notes = shared.notes.lock();
    notes.unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_in_the_line_of_its_call_or_reported_as_late() {
        let lead = ("LEAD", Uuid::from_u128(1));
        let notes = CallNotes::new(None, None);
        notes.about("ORDER", Uuid::from_u128(2));
        assert!(notes.changed([lead, lead].into_iter()).is_none());
        let ended = notes.end();
        assert_eq!(ended.effect, Effect::Changed);
        assert_eq!(ended.records.to_string(), format!("lead/{}", lead.1));

        let notes = CallNotes::new(None, None);
        assert_eq!(notes.end().effect, Effect::None);
        let many = (1..=25).map(|id| ("LEAD", Uuid::from_u128(id)));
        let late = notes.changed(many).unwrap();
        assert_eq!(late.records.omitted, 5);
        assert!(CallNotes::default().changed([lead].into_iter()).is_none());
    }

    #[test]
    fn the_root_of_a_stored_response_has_the_kind_that_was_noted() {
        let id = Uuid::from_u128(1);
        let notes = CallNotes::new(None, None);
        notes.about_root("LEAD", id);
        assert_eq!(notes.end().records.to_string(), format!("lead/{id}"));
        let notes = CallNotes::new(None, None);
        notes.root_kind("operator");
        notes.about_root("LEAD", id);
        assert_eq!(notes.end().records.to_string(), format!("operator/{id}"));
    }
}

//! Completes stored events with the record before and after. Most events store only what changed, so the record is
//! computed: from the version before, if it is known, and otherwise from the current record, by undoing what was changed
//! later.

use std::collections::{BTreeSet, HashMap};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use uuid::Uuid;

use super::model::{Event, Subject, Values};
use super::past::{self, Version, Wanted};
use super::versions::{Content, redo, size, undo};
use crate::core::text_enum::TextEnum as _;
use crate::db::Db;
use crate::db::event_log::StoredEvent;
use crate::error::Result;

/// About how many bytes a record occupies.
const RECORD_BYTES: usize = 4 << 10;

#[derive(Clone)]
struct BySize;

impl Weighter<Uuid, Version> for BySize {
    fn weight(&self, _: &Uuid, (_, record): &Version) -> u64 {
        size(record) as u64
    }
}

/// Completes events, in their order.
pub struct Rebuilder {
    db: Db,
    /// The last versions of the records that were seen.
    known: Cache<Uuid, Version, BySize>,
}

impl Rebuilder {
    /// It remembers records of about this many bytes.
    pub fn new(db: Db, bytes: usize) -> Self {
        Self {
            db,
            known: Cache::with_weighter(bytes / RECORD_BYTES + 1, bytes as u64, BySize),
        }
    }

    /// Completes events. Those of one record are in the order of its versions, without a gap. An event whose kind is not
    /// known is left out: it was written by a later version of this program.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn complete(&self, stored: Vec<StoredEvent>) -> Result<Vec<Option<Event>>> {
        let mut versions = self.versions(&stored).await?;
        let mut events = Vec::with_capacity(stored.len());
        for stored in stored {
            let Some(subject) = Subject::of_type(&stored.r#type) else {
                events.push(None);
                continue;
            };
            let known = match Content::of(&stored.content, subject.as_str()) {
                Content::Nothing => None,
                Content::Whole(_) | Content::Changed(_) => versions.remove(&stored.subject_id),
            };
            let values = values(subject, &stored, known);
            if let Some(after) = &values.after {
                versions.insert(stored.subject_id, (stored.version, after.clone()));
            }
            events.push(Some(event(subject, stored, values)));
        }
        for (id, version) in versions {
            self.known.insert(id, version);
        }
        Ok(events)
    }

    /// For each record the version before the first of these events, or after it, where it can be known.
    async fn versions(&self, stored: &[StoredEvent]) -> Result<HashMap<Uuid, Version>> {
        let mut known: HashMap<Uuid, Version> = HashMap::new();
        // The first event of each record that has values, unless it has them all.
        let mut first: HashMap<Uuid, Option<(Subject, i64)>> = HashMap::new();
        for event in stored {
            let Some(subject) = Subject::of_type(&event.r#type) else {
                continue;
            };
            match Content::of(&event.content, subject.as_str()) {
                Content::Nothing => {}
                Content::Whole(_) => _ = first.entry(event.subject_id).or_insert(None),
                Content::Changed(_) => {
                    let version = Some((subject, event.version));
                    first.entry(event.subject_id).or_insert(version);
                }
            }
        }
        let mut unknown = Vec::new();
        for (id, changed) in first {
            let Some((subject, version)) = changed else {
                continue;
            };
            match self.known.get(&id) {
                Some(before) if before.0 == version - 1 => _ = known.insert(id, before),
                // The values of a later version may be erased by now.
                Some(_) | None => unknown.push(Wanted {
                    subject,
                    id,
                    versions: BTreeSet::from([version]),
                    known: None,
                }),
            }
        }
        for (id, mut found) in past::at_versions(&self.db, unknown).await? {
            known.extend(found.pop_first().map(|version| (id, version)));
        }
        Ok(known)
    }
}

/// Completes the events of one list, in parts from the newest to the oldest.
pub struct BackwardRebuilder {
    db: Db,
    /// The versions before the events that were completed.
    known: HashMap<Uuid, Version>,
}

impl BackwardRebuilder {
    /// Knows nothing yet.
    pub fn new(db: Db) -> Self {
        Self {
            db,
            known: HashMap::new(),
        }
    }

    /// Completes events that are older than those of the last call. In one call they are in the order of the versions,
    /// maybe with gaps. An event whose kind is not known is left out.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn complete(&mut self, stored: Vec<StoredEvent>) -> Result<Vec<Option<Event>>> {
        let mut wanted: HashMap<Uuid, Wanted> = HashMap::new();
        for event in &stored {
            let Some(subject) = Subject::of_type(&event.r#type) else {
                continue;
            };
            if let Content::Changed(_) = Content::of(&event.content, subject.as_str()) {
                let id = event.subject_id;
                let wanted = wanted.entry(id).or_insert_with(|| Wanted {
                    subject,
                    id,
                    versions: BTreeSet::new(),
                    known: self.known.remove(&id),
                });
                wanted.versions.insert(event.version);
            }
        }
        let mut found = past::at_versions(&self.db, wanted.into_values().collect()).await?;
        let mut events = Vec::with_capacity(stored.len());
        for stored in stored {
            let Some(subject) = Subject::of_type(&stored.r#type) else {
                events.push(None);
                continue;
            };
            let versions = found.get_mut(&stored.subject_id);
            let after = versions.and_then(|versions| versions.remove(&stored.version));
            let known = after.map(|after| (stored.version, after));
            let values = values(subject, &stored, known);
            events.push(Some(event(subject, stored, values)));
        }
        // The oldest event of a record comes last.
        for event in events.iter().rev().flatten() {
            if let Some(before) = &event.values.before {
                let before = (event.version - 1, before.clone());
                self.known.insert(event.subject_id, before);
            }
        }
        Ok(events)
    }
}

/// The record before and after an event. `known` is the version before it or after it.
fn values(subject: Subject, stored: &StoredEvent, known: Option<Version>) -> Values {
    let before = |known: Version| (known.0 == stored.version - 1).then_some(known.1);
    let unavailable = Values {
        is_unavailable: true,
        ..Values::default()
    };
    match Content::of(&stored.content, subject.as_str()) {
        // A whole record that is not new was erased by the change, and the version before it with it.
        Content::Whole(after) => Values {
            before: None,
            after: Some(after.clone()),
            is_unavailable: stored.version > 1,
        },
        Content::Changed(differences) => {
            let both = known.and_then(|known| match known.0 == stored.version {
                true => {
                    let (after, mut before) = (known.1.clone(), known.1);
                    undo(&mut before, differences).map(|()| (before, after))
                }
                false => {
                    let before = before(known)?;
                    let mut after = before.clone();
                    redo(&mut after, differences).map(|()| (before, after))
                }
            });
            match both {
                Some((before, after)) => Values {
                    before: Some(before),
                    after: Some(after),
                    is_unavailable: false,
                },
                None => unavailable,
            }
        }
        Content::Nothing => unavailable,
    }
}

fn event(subject: Subject, stored: StoredEvent, values: Values) -> Event {
    Event {
        id: stored.place.id,
        r#type: stored.r#type,
        subject,
        subject_id: stored.subject_id,
        root_id: stored.lead_id,
        version: stored.version,
        time: stored.time,
        actor: stored.actor,
        rpc: stored.rpc,
        request_id: stored.request_id,
        values,
    }
}

//! Records as they were at an earlier version: as they are now, without the later changes.
//!
//! The records of many events are read together, so that the number of statements does not depend on how many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::model::Subject;
use super::store::{self, Versions};
use super::versions::{Content, undo};
use crate::core::text_enum::TextEnum as _;
use crate::db::Db;
use crate::error::Result;

/// A version of a record.
pub type Version = (i64, Value);

/// About how many changes one query reads.
const UNDO_ROWS: usize = 400;
/// How many changes of each record it reads at least.
const MIN_UNDO_ROWS: usize = 16;

/// Versions of a record that are to be found.
pub struct Wanted {
    /// The kind of the record.
    pub subject: Subject,
    /// The record.
    pub id: Uuid,
    /// The versions. At least one.
    pub versions: BTreeSet<i64>,
    /// The highest of them or a later version, if one is known.
    pub known: Option<Version>,
}

/// Versions of records, by record.
pub type Found = HashMap<Uuid, BTreeMap<i64, Value>>;

/// A record whose later changes are being undone.
struct Undoing {
    wanted: Wanted,
    at: i64,
    record: Value,
}

/// The wanted versions. Those that cannot be known, because a later change was erased, are missing.
///
/// # Errors
/// `DATABASE_UNAVAILABLE`.
pub async fn at_versions(db: &Db, wanted: Vec<Wanted>) -> Result<Found> {
    let mut found = Found::new();
    let begun = begin(db, wanted).await?.into_iter();
    let mut pending: Vec<Undoing> = begun
        .filter_map(|undoing| undoing.step(&mut found))
        .collect();
    while !pending.is_empty() {
        let rows = (UNDO_ROWS / pending.len()).max(MIN_UNDO_ROWS);
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let versions: Vec<Versions> = pending.iter().map(|undoing| undoing.next(rows)).collect();
        let mut contents = store::contents(db, &versions).await?;
        pending = pending
            .into_iter()
            .zip(versions)
            .filter_map(|(undoing, versions)| {
                let contents = contents.remove(&versions.id).unwrap_or_default();
                undoing.undo(&versions, &contents, &mut found)
            })
            .collect();
    }
    Ok(found)
}

/// Reads the current records of those of which nothing is known.
async fn begin(db: &Db, wanted: Vec<Wanted>) -> Result<Vec<Undoing>> {
    let mut current: HashMap<Uuid, Version> = HashMap::new();
    for subject in Subject::ALL {
        let unknown = wanted
            .iter()
            .filter(|wanted| wanted.subject == *subject && wanted.known.is_none());
        let ids: Vec<Uuid> = unknown.map(|wanted| wanted.id).collect();
        if !ids.is_empty() {
            current.extend(store::current(db, *subject, ids).await?);
        }
    }
    let begun = wanted.into_iter().filter_map(|mut wanted| {
        let known = wanted.known.take();
        let (at, record) = known.or_else(|| current.remove(&wanted.id))?;
        Some(Undoing { wanted, at, record })
    });
    Ok(begun.collect())
}

impl Undoing {
    /// The versions to undo next, at most `rows`.
    fn next(&self, rows: i64) -> Versions {
        let last = self.wanted.versions.first().copied().unwrap_or(self.at);
        Versions {
            id: self.wanted.id,
            after: last.max(self.at - rows),
            until: self.at,
        }
    }

    /// Keeps the version that is reached, if it is wanted. `None` if it was the last one.
    fn step(self, found: &mut Found) -> Option<Self> {
        let versions = &self.wanted.versions;
        let goes_on = versions.first().is_some_and(|last| self.at > *last);
        if versions.contains(&self.at) {
            let found = found.entry(self.wanted.id).or_default();
            found.insert(self.at, self.record.clone());
        }
        goes_on.then_some(self)
    }

    /// Undoes these versions. `None` if all are found, or if a change was erased or deleted.
    fn undo(
        self,
        versions: &Versions,
        contents: &BTreeMap<i64, Value>,
        found: &mut Found,
    ) -> Option<Self> {
        let mut undoing = self;
        while undoing.at > versions.after {
            let content = contents.get(&undoing.at)?;
            match Content::of(content, undoing.wanted.subject.as_str()) {
                Content::Changed(differences) => undo(&mut undoing.record, differences)?,
                Content::Whole(_) | Content::Nothing => return None,
            }
            undoing.at -= 1;
            undoing = undoing.step(found)?;
        }
        Some(undoing)
    }
}

//! Which records a change needs.

use std::any::TypeId;

use uuid::Uuid;

use super::Record;

/// Which records a change needs. They are locked until the change is committed.
#[derive(Clone, Debug, Default)]
pub struct LockSet(pub(super) Vec<Lock>);

#[derive(Clone, Debug)]
pub(super) struct Lock {
    pub kind: TypeId,
    /// The name of the kind; none for a record that the change is not about.
    name: Option<&'static str>,
    pub target: Target,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Record(Uuid),
    WithRoot(Uuid),
    WithAttached(Uuid),
    Candidate(Uuid),
    Key(String),
}

impl LockSet {
    /// Adds a record. With a root, the root that it refers to is locked too, if there is one.
    #[must_use]
    pub fn record<R: Record>(self, id: Uuid) -> Self {
        self.add::<R>(Target::Record(id))
    }

    /// Adds a record that the decision only looks at: the change is not about it, and its call's line in the log does
    /// not name it.
    #[must_use]
    pub fn read_only<R: Record>(mut self, id: Uuid) -> Self {
        self.0.push(Lock {
            kind: TypeId::of::<R>(),
            name: None,
            target: Target::Record(id),
        });
        self
    }

    /// Adds a record, its root, and the roots that they refer to.
    #[must_use]
    pub fn with_root<R: Record>(self, id: Uuid) -> Self {
        self.add::<R>(Target::WithRoot(id))
    }

    /// Adds a root and every record that belongs to it.
    #[must_use]
    pub fn with_attached<R: Record>(self, id: Uuid) -> Self {
        self.add::<R>(Target::WithAttached(id))
    }

    /// Adds a key: nobody else creates a record with it meanwhile, and the one that has it is found.
    #[must_use]
    pub fn key<R: Record>(self, key: String) -> Self {
        self.add::<R>(Target::Key(key))
    }

    /// Adds a record and its root, of which the change may make use. If one of them is locked by somebody else, the
    /// change does not wait for it, and does not find it. Its call's line in the log names it only if it was changed.
    #[must_use]
    pub fn candidate<R: Record>(mut self, id: Uuid) -> Self {
        self.0.push(Lock {
            kind: TypeId::of::<R>(),
            name: None,
            target: Target::Candidate(id),
        });
        self
    }

    fn add<R: Record>(mut self, target: Target) -> Self {
        let kind = TypeId::of::<R>();
        let name = Some(R::NAME);
        self.0.push(Lock { kind, name, target });
        self
    }

    /// The records that the change is about and names by their ids, each with the name of its kind.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, Uuid)> {
        self.0.iter().filter_map(|lock| match lock.target {
            Target::Record(id)
            | Target::WithRoot(id)
            | Target::WithAttached(id)
            | Target::Candidate(id) => lock.name.map(|name| (name, id)),
            Target::Key(_) => None,
        })
    }

    /// The record that is locked together with its root, if there is one.
    pub(super) fn record_with_root(&self) -> Option<Uuid> {
        self.0.iter().find_map(|lock| match lock.target {
            Target::WithRoot(id) => Some(id),
            Target::Record(_) | Target::WithAttached(_) | Target::Candidate(_) | Target::Key(_) => {
                None
            }
        })
    }
}

//! The description of a change by a use case, and the unit of work that its decision runs on.
//!
//! A decision is a plain function: it reads the locked records that the change named, and collects what is
//! to be written. It runs no queries and never waits. So a transaction can run many decisions in sequence,
//! each on the result of those before it.

use sea_orm::sea_query::{DeleteStatement, UpdateStatement};
use sea_orm::{ActiveModelTrait, ConnectionTrait as _};
use uuid::Uuid;

use super::erase::{ErasedRoot, ErasedSubject};
use super::lock_set::LockSet;
use super::snapshot::Snapshot;
use super::table::Put;
use super::{Change, Record};
use crate::core::call::Call;
use crate::core::clock::Clock;
use crate::db::Tx;
use crate::db::rows::Rows;
use crate::error::{Error, Result};

type Decide<T> = Box<dyn Fn(&mut UnitOfWork<'_>) -> Result<Decision<T>> + Send>;

/// A change to make.
pub struct Mutation<T> {
    pub(super) locks: LockSet,
    pub(super) root: fn(&T) -> Uuid,
    pub(super) more_roots: fn(&T) -> Vec<Uuid>,
    pub(super) decide: Decide<T>,
}

impl<T> Mutation<T> {
    /// Describes a change that needs `locks`. `root` returns the id of the root that an outcome belongs to.
    /// `decide` may run several times; only the last run counts.
    pub fn new(
        locks: LockSet,
        root: fn(&T) -> Uuid,
        decide: impl Fn(&mut UnitOfWork<'_>) -> Result<Decision<T>> + Send + 'static,
    ) -> Self {
        Self {
            locks,
            root,
            more_roots: |_| Vec::new(),
            decide: Box::new(decide),
        }
    }

    /// For a change whose outcome belongs to further roots. When one of them is erased, its stored response is.
    #[must_use]
    pub fn with_more_roots(self, more_roots: fn(&T) -> Vec<Uuid>) -> Self {
        Self { more_roots, ..self }
    }
}

/// The result of a decision. An error writes nothing.
pub enum Decision<T> {
    /// Commit, and respond with this value.
    Commit(T),
    /// Commit the writes, which only record the refusal, and fail with this error.
    Refuse(Error),
    /// Write nothing, and respond with the value that a commit would return (`validate_only`).
    Preview(T),
    /// Write nothing: the data that the change was prepared on has changed. It must be prepared again.
    Stale,
}

/// The writes of one change.
#[derive(Default)]
pub(super) struct WriteSet {
    pub puts: Vec<Put>,
    pub changes: Vec<Change>,
    pub appended: Vec<Appended>,
    pub statements: Vec<SideStatement>,
    pub erased: Vec<ErasedRoot>,
}

/// A row of an append-only log, which is not a [`Record`].
pub(super) struct Appended {
    pub id: Uuid,
    pub rows: Rows,
}

/// A statement about rows that belong to a record and are no [`Record`]s, such as the sessions of an operator.
/// It runs after the record is locked and written, in the same transaction.
pub enum SideStatement {
    /// Deletes rows.
    Delete(DeleteStatement),
    /// Updates rows.
    Update(UpdateStatement),
}

impl SideStatement {
    /// Runs it.
    ///
    /// # Errors
    /// If the database rejects it.
    pub async fn run(&self, tx: &Tx) -> Result<()> {
        match self {
            Self::Delete(statement) => tx.execute(statement).await?,
            Self::Update(statement) => tx.execute(statement).await?,
        };
        Ok(())
    }
}

/// One change while it is decided.
pub struct UnitOfWork<'a> {
    /// The call that makes the change.
    pub call: &'a Call,
    /// The source of times and ids.
    pub clock: &'a Clock,
    snapshot: &'a Snapshot,
    pub(super) writes: WriteSet,
}

impl<'a> UnitOfWork<'a> {
    pub(super) fn new(call: &'a Call, clock: &'a Clock, snapshot: &'a Snapshot) -> Self {
        Self {
            call,
            clock,
            snapshot,
            writes: WriteSet::default(),
        }
    }

    /// Returns a locked record.
    pub fn get<R: Record>(&self, id: Uuid) -> Option<&'a R> {
        self.snapshot.get(id)
    }

    /// Returns the records of a kind that belong to a root which was locked with [`LockSet::with_attached`], in the order
    /// of their ids.
    pub fn attached<R: Record>(&self, root_id: Uuid) -> Vec<&'a R> {
        let mut attached = self.snapshot.all::<R>();
        attached.retain(|record| record.root_id() == root_id);
        attached
    }

    /// Returns the record that has this locked key.
    pub fn find<R: Record>(&self, key: &str) -> Option<&'a R> {
        self.snapshot.find(key)
    }

    /// Writes a new record, or the next version of one.
    pub fn put<R: Record>(&mut self, record: R) {
        self.writes.puts.push(Put::of(record));
    }

    /// Appends a row with this id to a log.
    ///
    /// # Errors
    /// `INTERNAL` if a column has a type that rows do not support.
    pub fn append<A: ActiveModelTrait>(&mut self, id: Uuid, row: A) -> Result<()> {
        let rows = Rows::insert(vec![row])?;
        self.writes
            .appended
            .extend(rows.map(|rows| Appended { id, rows }));
        Ok(())
    }

    /// Runs a statement about rows that belong to a locked record.
    pub fn execute(&mut self, statement: SideStatement) {
        self.writes.statements.push(statement);
    }

    /// Writes the history row and the event of an accepted change.
    pub fn record_change(&mut self, change: Change) {
        self.writes.changes.push(change);
    }

    /// Erases free text in all records of a root that was locked with [`LockSet::with_attached`], and the
    /// values in its history, events and stored responses.
    ///
    /// # Errors
    /// `INTERNAL` if a record cannot be serialised as JSON.
    pub fn erase_attached_and_past<R: Record>(&mut self, root_id: Uuid) -> Result<()> {
        let erased = self.snapshot.erase_attached(root_id, self.clock)?;
        self.writes.puts.extend(erased.puts);
        self.writes.changes.extend(erased.changes);
        let mut subjects = erased.subjects;
        subjects.push(ErasedSubject::of::<R>(root_id));
        self.writes.erased.push(ErasedRoot {
            id: root_id,
            subjects,
        });
        Ok(())
    }
}

//! The records that a batch of changes is decided on: locked, read together, and kept up to date with what the
//! changes decided so far have made of them.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Record;
use super::lock_set::{LockSet, Target};
use super::table::{AnyRecord, AnyTable, ErasedAttached, Put, Table};
use crate::core::clock::Clock;
use crate::db::rows::Rows;
use crate::db::{Connection, Tx};
use crate::error::{Error, Result};

/// A registered kind of record.
#[derive(Clone, Copy)]
pub struct Kind {
    new_table: fn() -> Box<dyn AnyTable>,
    /// The name of the kind of roots; none for others.
    pub(super) root_name: Option<&'static str>,
}

impl Kind {
    /// The kind of `R`.
    pub const fn of<R: Record>() -> Self {
        Self {
            new_table: || Box::new(Table::<R>::default()),
            root_name: if R::IS_ROOT { Some(R::NAME) } else { None },
        }
    }
}

/// The records of every kind, in the order in which they are locked.
pub(super) struct Snapshot {
    tables: Vec<Box<dyn AnyTable>>,
}

impl Snapshot {
    /// One without records.
    pub fn empty(kinds: &[Kind]) -> Self {
        Self {
            tables: kinds.iter().map(|kind| (kind.new_table)()).collect(),
        }
    }

    /// Locks and reads what the changes need. What somebody else has locked is left out, and is busy.
    pub async fn load(kinds: &[Kind], tx: &Tx, sets: &[LockSet]) -> Result<Self> {
        let mut snapshot = Self::empty(kinds);
        let tables = &mut snapshot.tables;
        let mut ids = vec![BTreeSet::new(); tables.len()];
        let mut keys = vec![BTreeSet::new(); tables.len()];
        let mut with_root = Vec::new();
        let mut attached = BTreeMap::new();
        for lock in sets.iter().flat_map(|set| &set.0) {
            let table_index = table_index(tables, lock.kind)?;
            match &lock.target {
                Target::Record(id) => {
                    ids[table_index].insert(*id);
                }
                Target::WithRoot(id) | Target::Candidate(id) => {
                    ids[table_index].insert(*id);
                    with_root.push((table_index, *id));
                }
                Target::WithAttached(id) => {
                    ids[table_index].insert(*id);
                    let found = attached_to(tables, tx, *id).await?;
                    for (ids, found) in ids.iter_mut().zip(&found) {
                        ids.extend(found);
                    }
                    attached.insert((table_index, *id), found);
                }
                Target::Key(key) => {
                    keys[table_index].insert(key.clone());
                }
            }
        }
        for (table, keys) in tables.iter_mut().zip(keys) {
            if !keys.is_empty() {
                table.lock_keys(tx, keys).await?;
            }
        }
        for (table_index, mut ids) in ids.into_iter().enumerate() {
            let is_root = tables[table_index].is_root();
            if is_root {
                let roots = with_root.iter();
                ids.extend(roots.flat_map(|(table_index, id)| tables[*table_index].roots_of(*id)));
            }
            if ids.is_empty() {
                continue;
            }
            tables[table_index].lock(tx, ids.clone()).await?;
            if is_root {
                let table = &mut tables[table_index];
                let more: BTreeSet<Uuid> =
                    ids.iter().filter_map(|id| table.refers_to(*id)).collect();
                let more: BTreeSet<Uuid> = more.difference(&ids).copied().collect();
                if !more.is_empty() {
                    table.lock(tx, more).await?;
                }
            }
        }
        for ((table_index, id), before) in attached {
            let mut kinds = tables.iter().zip(&before);
            let is_busy = kinds.any(|(table, ids)| ids.iter().any(|id| table.is_busy(*id)));
            // Nothing is attached to a root that is locked; but something may have been just before.
            if is_busy || attached_to(tables, tx, id).await? != before {
                tables[table_index].set_busy(id);
            }
        }
        Ok(snapshot)
    }

    /// Whether somebody else has locked what a change needs.
    pub fn is_busy(&self, set: &LockSet) -> bool {
        set.0.iter().any(|lock| {
            let Ok(table_index) = table_index(&self.tables, lock.kind) else {
                return false;
            };
            let table = &self.tables[table_index];
            match &lock.target {
                Target::Record(id) | Target::WithAttached(id) if table.is_root() => {
                    is_root_busy(&**table, *id)
                }
                Target::Record(id) | Target::WithAttached(id) => table.is_busy(*id),
                Target::WithRoot(id) => {
                    let mut roots = self.tables.iter().filter(|table| table.is_root());
                    table.is_busy(*id)
                        || roots.any(|roots| {
                            let mut needed = table.roots_of(*id);
                            needed.any(|id| is_root_busy(&**roots, id))
                        })
                }
                // The change does without what is busy.
                Target::Candidate(_) => false,
                Target::Key(key) => table.is_key_busy(key),
            }
        })
    }

    /// The records of a kind that were locked, or created by a change of the same batch, in the order of their ids.
    pub fn all<R: Record>(&self) -> Vec<&R> {
        let records = self.table::<R>().into_iter();
        let records = records.flat_map(|table| table.records.values());
        let mut all: Vec<&R> = records.map(|tracked| &tracked.current).collect();
        all.sort_unstable_by_key(|record| record.id());
        all
    }

    /// A record that was locked, or created by a change of the same batch.
    pub fn get<R: Record>(&self, id: Uuid) -> Option<&R> {
        let tracked = self.table::<R>()?.records.get(&id)?;
        Some(&tracked.current)
    }

    /// The record that has a key that was locked.
    pub fn find<R: Record>(&self, key: &str) -> Option<&R> {
        self.table::<R>()?.keys.get(key)?.as_ref()
    }

    /// Applies a new record or the next version of one.
    pub fn apply(&mut self, put: Put) -> Result<()> {
        let table_index = table_index(&self.tables, put.kind)?;
        self.tables[table_index].put_any(put.record);
        Ok(())
    }

    /// A record of any kind.
    pub fn any_record(&self, id: Uuid) -> Option<&dyn AnyRecord> {
        self.tables.iter().find_map(|table| table.record(id))
    }

    /// The records of a root that was locked with all of them, without free text. The kind locked last comes first.
    pub fn erase_attached(&self, root_id: Uuid, clock: &Clock) -> Result<ErasedAttached> {
        let mut erased = ErasedAttached::default();
        for table in self.tables.iter().rev().filter(|table| !table.is_root()) {
            table.erase_texts(root_id, clock, &mut erased)?;
        }
        Ok(erased)
    }

    /// Erases free text in what is stored beside the records of a root.
    pub async fn erase_related_rows(&self, tx: &Tx, root_id: Uuid) -> Result<()> {
        for table in &self.tables {
            table.erase_related_rows(tx, root_id).await?;
        }
        Ok(())
    }

    /// The rows of all that changed.
    pub async fn write(&mut self, tx: &Tx) -> Result<Vec<Rows>> {
        let mut all = Vec::new();
        // Records refer to those that are locked after them.
        for table in self.tables.iter_mut().rev() {
            all.extend(table.write(tx).await?);
        }
        Ok(all)
    }

    /// A root as it is stored.
    pub async fn stored_root(
        &self,
        db: Connection<'_>,
        id: Uuid,
    ) -> Result<Option<Box<dyn AnyRecord>>> {
        let root = self.tables.iter().find(|table| table.is_root());
        match root {
            Some(table) => table.get(db, id).await,
            None => Ok(None),
        }
    }

    /// A record that is no root, as it is stored, whatever its kind.
    pub async fn stored_attached(
        &self,
        db: Connection<'_>,
        id: Uuid,
    ) -> Result<Option<Box<dyn AnyRecord>>> {
        for table in self.tables.iter().filter(|table| !table.is_root()) {
            if let Some(found) = table.get(db, id).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn table<R: Record>(&self) -> Option<&Table<R>> {
        let mut tables = self.tables.iter();
        tables.find_map(|table| table.as_any().downcast_ref())
    }
}

/// Whether somebody else has locked a root, or the root that is locked with it.
fn is_root_busy(table: &dyn AnyTable, id: Uuid) -> bool {
    let other = table.refers_to(id);
    table.is_busy(id) || other.is_some_and(|id| table.is_busy(id))
}

fn table_index(tables: &[Box<dyn AnyTable>], kind: TypeId) -> Result<usize> {
    let table_index = tables.iter().position(|table| table.kind() == kind);
    table_index.ok_or_else(|| Error::internal("a kind of record is missing in the list of records"))
}

async fn attached_to(
    tables: &[Box<dyn AnyTable>],
    tx: &Tx,
    root_id: Uuid,
) -> Result<Vec<BTreeSet<Uuid>>> {
    let mut attached = Vec::with_capacity(tables.len());
    for table in tables {
        attached.push(table.attached_to(tx, root_id).await?);
    }
    Ok(attached)
}

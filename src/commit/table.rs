//! The records of one kind that a batch of changes is decided on.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::erase::ErasedSubject;
use super::{Change, Record};
use crate::core::clock::Clock;
use crate::core::field_change::FieldChange;
use crate::db::rows::Rows;
use crate::db::{Connection, LockWait, Tx};
use crate::error::Result;

/// A record that is being changed.
pub(super) struct Tracked<R> {
    /// As it is stored; none for a new one.
    pub stored: Option<R>,
    /// As the changes so far have left it.
    pub current: R,
}

/// The records of one kind.
pub(super) struct Table<R> {
    pub records: HashMap<Uuid, Tracked<R>>,
    /// For each key that was locked, the record that has it.
    pub keys: HashMap<String, Option<R>>,
    /// What somebody else has locked.
    busy: BTreeSet<Uuid>,
    busy_keys: BTreeSet<String>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            records: HashMap::new(),
            keys: HashMap::new(),
            busy: BTreeSet::new(),
            busy_keys: BTreeSet::new(),
        }
    }
}

impl<R: Record> Table<R> {
    pub fn put(&mut self, current: R) {
        if let Some(key) = current.key()
            && let Some(holder @ None) = self.keys.get_mut(&key)
        {
            *holder = Some(current.clone());
        }
        match self.records.get_mut(&current.id()) {
            Some(tracked) => tracked.current = current,
            None => {
                self.records.insert(
                    current.id(),
                    Tracked {
                        stored: None,
                        current,
                    },
                );
            }
        }
    }

    /// The records of a root, by id.
    fn attached_to(&self, root_id: Uuid) -> Vec<&R> {
        let all = self.records.values().map(|tracked| &tracked.current);
        let mut attached: Vec<&R> = all.filter(|record| record.root_id() == root_id).collect();
        attached.sort_unstable_by_key(|record| record.id());
        attached
    }
}

/// A new record, or the next version of one.
pub(super) struct Put {
    pub kind: TypeId,
    pub record: Box<dyn Any + Send>,
}

impl Put {
    pub fn of<R: Record>(record: R) -> Self {
        Self {
            kind: TypeId::of::<R>(),
            record: Box::new(record),
        }
    }
}

/// The record that was read for a stored response.
pub(super) trait AnyRecord: Send + Sync {
    fn version(&self) -> i64;
    fn is_erased(&self) -> bool;
    fn long_texts(&self) -> Vec<&str>;
    fn undo(&mut self, change: &FieldChange);
}

impl<R: Record> AnyRecord for R {
    fn version(&self) -> i64 {
        Record::version(self)
    }

    fn is_erased(&self) -> bool {
        Record::is_erased(self)
    }

    fn long_texts(&self) -> Vec<&str> {
        Record::long_texts(self)
    }

    fn undo(&mut self, change: &FieldChange) {
        Record::undo(self, change);
    }
}

/// What became of the records of a root that is erased.
#[derive(Default)]
pub(super) struct ErasedAttached {
    pub puts: Vec<Put>,
    pub changes: Vec<Change>,
    pub subjects: Vec<ErasedSubject>,
}

impl dyn AnyTable {
    /// The roots that a change of a record needs that is locked with its root.
    pub fn roots_of(&self, id: Uuid) -> impl Iterator<Item = Uuid> + use<> {
        self.root_of(id).into_iter().chain(self.refers_to(id))
    }
}

/// A [`Table`] of any kind.
pub(super) trait AnyTable: Send + Sync {
    fn kind(&self) -> TypeId;
    fn is_root(&self) -> bool;
    fn as_any(&self) -> &dyn Any;
    fn put_any(&mut self, record: Box<dyn Any + Send>);
    fn root_of(&self, id: Uuid) -> Option<Uuid>;
    fn refers_to(&self, id: Uuid) -> Option<Uuid>;
    fn is_busy(&self, id: Uuid) -> bool;
    fn is_key_busy(&self, key: &str) -> bool;
    fn set_busy(&mut self, id: Uuid);
    fn record(&self, id: Uuid) -> Option<&dyn AnyRecord>;
    fn get<'a>(
        &self,
        db: Connection<'a>,
        id: Uuid,
    ) -> BoxFuture<'a, Result<Option<Box<dyn AnyRecord>>>>;
    fn lock_keys<'a>(&'a mut self, tx: &'a Tx, keys: BTreeSet<String>)
    -> BoxFuture<'a, Result<()>>;
    fn lock<'a>(&'a mut self, tx: &'a Tx, ids: BTreeSet<Uuid>) -> BoxFuture<'a, Result<()>>;
    fn attached_to<'a>(&self, tx: &'a Tx, root_id: Uuid) -> BoxFuture<'a, Result<BTreeSet<Uuid>>>;
    fn erase_texts(&self, root_id: Uuid, clock: &Clock, erased: &mut ErasedAttached) -> Result<()>;
    fn erase_related_rows<'a>(&self, tx: &'a Tx, root_id: Uuid) -> BoxFuture<'a, Result<()>>;
    fn write<'a>(&mut self, tx: &'a Tx) -> BoxFuture<'a, Result<Vec<Rows>>>;
}

impl<R: Record> AnyTable for Table<R> {
    fn kind(&self) -> TypeId {
        TypeId::of::<R>()
    }

    fn is_root(&self) -> bool {
        R::IS_ROOT
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn put_any(&mut self, record: Box<dyn Any + Send>) {
        // Its kind is this table's: see [`Put`].
        if let Ok(record) = record.downcast() {
            self.put(*record);
        }
    }

    fn root_of(&self, id: Uuid) -> Option<Uuid> {
        self.records
            .get(&id)
            .map(|tracked| tracked.current.root_id())
    }

    fn refers_to(&self, id: Uuid) -> Option<Uuid> {
        self.records
            .get(&id)
            .and_then(|tracked| tracked.current.refers_to())
    }

    fn is_busy(&self, id: Uuid) -> bool {
        self.busy.contains(&id)
    }

    fn is_key_busy(&self, key: &str) -> bool {
        self.busy_keys.contains(key)
    }

    fn set_busy(&mut self, id: Uuid) {
        self.busy.insert(id);
    }

    fn record(&self, id: Uuid) -> Option<&dyn AnyRecord> {
        let tracked = self.records.get(&id)?;
        Some(&tracked.current)
    }

    fn get<'a>(
        &self,
        db: Connection<'a>,
        id: Uuid,
    ) -> BoxFuture<'a, Result<Option<Box<dyn AnyRecord>>>> {
        Box::pin(async move {
            let found = R::get(&db, id).await?;
            Ok(found.map(|record| Box::new(record) as Box<dyn AnyRecord>))
        })
    }

    fn lock_keys<'a>(
        &'a mut self,
        tx: &'a Tx,
        mut keys: BTreeSet<String>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let names = keys.iter().map(|key| format!("{}/{key}", R::KEY));
            let locked = tx.lock_all(names.collect(), LockWait::SkipLocked).await?;
            let busy = keys.iter().zip(locked).filter(|(_, locked)| !locked);
            self.busy_keys = busy.map(|(key, _)| key.clone()).collect();
            keys.retain(|key| !self.busy_keys.contains(key));
            let mut found = R::find_by_keys(tx, keys.clone()).await?;
            let holders = keys.into_iter().map(|key| {
                let holder = found.remove(&key);
                (key, holder)
            });
            self.keys = holders.collect();
            Ok(())
        })
    }

    fn lock<'a>(&'a mut self, tx: &'a Tx, ids: BTreeSet<Uuid>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let locked = R::lock(tx, ids, LockWait::SkipLocked).await?;
            self.busy.extend(locked.busy);
            for record in locked.records {
                let stored = Some(record.clone());
                let tracked = Tracked {
                    stored,
                    current: record,
                };
                self.records.insert(tracked.current.id(), tracked);
            }
            Ok(())
        })
    }

    fn attached_to<'a>(&self, tx: &'a Tx, root_id: Uuid) -> BoxFuture<'a, Result<BTreeSet<Uuid>>> {
        Box::pin(R::attached_to(tx, root_id))
    }

    fn erase_texts(&self, root_id: Uuid, clock: &Clock, erased: &mut ErasedAttached) -> Result<()> {
        for record in Table::attached_to(self, root_id) {
            erased.subjects.push(ErasedSubject::of::<R>(record.id()));
            let time = clock.time_after(record.update_time());
            let Some((after, changes)) = record.without_texts(time) else {
                continue;
            };
            let event = format!("{}.erased", R::NAME);
            erased
                .changes
                .push(Change::of(&after, event, changes).whole(R::NAME, &after)?);
            erased.puts.push(Put::of(after));
        }
        Ok(())
    }

    fn erase_related_rows<'a>(&self, tx: &'a Tx, root_id: Uuid) -> BoxFuture<'a, Result<()>> {
        Box::pin(R::erase_related_rows(tx, root_id))
    }

    fn write<'a>(&mut self, tx: &'a Tx) -> BoxFuture<'a, Result<Vec<Rows>>> {
        // In the order of their creation: what counts them up must agree with it.
        let mut records: Vec<_> = std::mem::take(&mut self.records).into_iter().collect();
        records.sort_unstable_by_key(|(id, _)| *id);
        let (mut created, mut changed) = (Vec::new(), Vec::new());
        for (_, Tracked { stored, current }) in records {
            match stored {
                None => created.push(current),
                Some(stored) if stored.version() != current.version() => {
                    changed.push((stored, current))
                }
                Some(_) => {}
            }
        }
        Box::pin(async move {
            if created.is_empty() && changed.is_empty() {
                return Ok(Vec::new());
            }
            R::write(tx, created, changed).await
        })
    }
}

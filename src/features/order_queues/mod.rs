//! Order queues: the templates of orders, with their steps and actions.
//!
//! An order copies what it needs from its queue when it is created, so a change of a queue never touches an
//! order.

pub mod api;
pub mod errors;
pub mod model;
pub mod store;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::commit::{Change, Decision, LockSet, Mutation, Target, UnitOfWork, check_etag, history};
use crate::core::page::PageInput;
use crate::core::violations::{Reason, Violations};
use crate::db::Db;
use crate::db::select::Part;
use crate::error::Result;
use model::{DEFAULT_QUEUE, OrderQueue, Patch, Step, Template, without_step};

/// The use cases of queues.
#[derive(Clone, Debug)]
pub struct OrderQueues {
    db: Db,
}

/// The input of [`create`].
#[derive(Clone, Debug)]
pub struct NewQueue {
    /// The name.
    pub name: String,
    /// The steps, at least one.
    pub steps: Vec<Step>,
    /// The templates of the actions, each in one of the steps.
    pub actions: Vec<Template>,
    /// Validate without creating.
    pub validate_only: bool,
}

impl OrderQueues {
    /// Creates the use cases for this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Returns a queue.
    ///
    /// # Errors
    /// `ORDER_QUEUE_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<OrderQueue> {
        let found = store::get(self.db.read(), id).await?;
        found.ok_or_else(|| errors::not_found(id))
    }

    /// Returns the queue in which an order can be created: the one with this id, or the default queue.
    ///
    /// # Errors
    /// `ORDER_QUEUE_NOT_FOUND`, `ORDER_QUEUE_ARCHIVED`.
    pub async fn for_new_orders(&self, id: Option<Uuid>) -> Result<OrderQueue> {
        let queue = self.get(id.unwrap_or(DEFAULT_QUEUE)).await?;
        match queue.archive_time {
            Some(_) => Err(errors::archived(&queue)),
            None => Ok(queue),
        }
    }

    /// Lists queues in the order of their creation.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(
        &self,
        include_archived: bool,
        page: PageInput<Uuid>,
    ) -> Result<Part<OrderQueue>> {
        let db = self.db.pages(page.principal).await?;
        store::list(&db, include_archived, page.after, page.limit).await
    }

    /// Lists a queue's changes, newest first.
    ///
    /// # Errors
    /// `ORDER_QUEUE_NOT_FOUND`, and those of [`OrderQueues::list`].
    pub async fn history(&self, id: Uuid, page: PageInput<i64>) -> Result<Part<history::Entry>> {
        self.get(id).await?;
        let db = self.db.pages(page.principal).await?;
        history::list(&db, id, page.after, page.limit).await
    }
}

/// Creates a queue. It fails with `DUPLICATE_ORDER_QUEUE`.
pub fn create(new: NewQueue) -> Mutation<OrderQueue> {
    let locks = lock_name(LockSet::default(), &new.name);
    Mutation::new(
        locks,
        |queue: &OrderQueue| queue.id,
        move |unit| {
            let now = unit.clock.now();
            let nothing = OrderQueue {
                id: unit.clock.new_id(),
                version: 1,
                name: String::new(),
                steps: Vec::new(),
                actions: Vec::new(),
                archive_time: None,
                create_time: now,
                update_time: now,
            };
            let mut queue = nothing.clone();
            let patch = Patch {
                name: Some(new.name.clone()),
                steps: Some(new.steps.clone()),
                actions: Some(new.actions.clone()),
            };
            patch.apply(&mut queue);
            check_name(unit, &queue)?;
            if new.validate_only {
                return Ok(Decision::Preview(queue));
            }
            unit.put(queue.clone());
            let changes = queue.changes_from(&nothing);
            let change = Change::of(&queue, "order_queue.created", changes);
            unit.record_change(change.whole("order_queue", &queue)?);
            Ok(Decision::Commit(queue))
        },
    )
}

/// Updates a queue. It fails with `ORDER_QUEUE_NOT_FOUND`; with `ETAG_MISMATCH`; with `ORDER_QUEUE_DEFAULT`;
/// with `DUPLICATE_ORDER_QUEUE`; with `FIELD_INVALID` if an action belongs to none of the steps.
pub fn update(target: Target, patch: Patch) -> Mutation<OrderQueue> {
    let locks = match &patch.name {
        Some(name) => lock_name(LockSet::default(), name),
        None => LockSet::default(),
    };
    change(
        target,
        locks,
        "order_queue.updated",
        move |unit, queue, _| {
            let before = OrderQueue::name_key(&queue.name);
            let name = queue.name.clone();
            patch.apply(queue);
            if queue.is_default() && queue.name != name {
                return Err(errors::default_queue());
            }
            if OrderQueue::name_key(&queue.name) != before {
                check_name(unit, queue)?;
            }
            let mut violations = Violations::default();
            check_steps(
                &mut violations,
                "order_queue.actions",
                &queue.actions,
                &queue.steps,
            );
            Ok(violations.finish()?)
        },
    )
}

/// Archives a queue. It fails with `ORDER_QUEUE_NOT_FOUND`; with `ETAG_MISMATCH`; with `ORDER_QUEUE_DEFAULT`.
pub fn archive(target: Target) -> Mutation<OrderQueue> {
    let event = "order_queue.archived";
    change(target, LockSet::default(), event, |_, queue, time| {
        if queue.is_default() {
            return Err(errors::default_queue());
        }
        queue.archive_time.get_or_insert(time);
        Ok(())
    })
}

/// Makes an archived queue one for new orders again. It fails with `ORDER_QUEUE_NOT_FOUND`; with
/// `ETAG_MISMATCH`.
pub fn unarchive(target: Target) -> Mutation<OrderQueue> {
    let event = "order_queue.unarchived";
    change(target, LockSet::default(), event, |_, queue, _| {
        queue.archive_time = None;
        Ok(())
    })
}

/// Adds a violation for each action that belongs to none of the steps.
pub fn check_steps(violations: &mut Violations, field: &str, actions: &[Template], steps: &[Step]) {
    for index in without_step(actions, steps) {
        violations.add(
            format_args!("{field}[{index}].step"),
            Reason::ReferenceInvalid,
            "is not a step of the queue: send the key of one, or nothing for the first",
        );
    }
}

/// A change of a queue. `edit` makes it, as of a time.
fn change(
    target: Target,
    locks: LockSet,
    event: &'static str,
    edit: impl Fn(&UnitOfWork<'_>, &mut OrderQueue, DateTime<Utc>) -> Result<()> + Send + 'static,
) -> Mutation<OrderQueue> {
    Mutation::new(
        locks.record::<OrderQueue>(target.id),
        |queue: &OrderQueue| queue.id,
        move |unit| {
            let before = unit.get::<OrderQueue>(target.id);
            let before = before.ok_or_else(|| errors::not_found(target.id))?;
            check_etag(&target.etag, before.version)?;
            let time = unit.clock.time_after(before.update_time);
            let mut after = before.clone();
            edit(unit, &mut after, time)?;
            let changes = after.changes_from(before);
            match (changes.is_empty(), target.validate_only) {
                (_, true) => return Ok(Decision::Preview(after)),
                (true, false) => return Ok(Decision::Commit(after)),
                (false, false) => {}
            }
            after.version += 1;
            after.update_time = time;
            unit.put(after.clone());
            let change = Change::of(&after, event, changes);
            unit.record_change(change.changed("order_queue", before, &after)?);
            Ok(Decision::Commit(after))
        },
    )
}

fn lock_name(locks: LockSet, name: &str) -> LockSet {
    locks.key::<OrderQueue>(OrderQueue::name_key(name))
}

/// Checks that no other queue has the name, which is locked.
fn check_name(unit: &UnitOfWork<'_>, queue: &OrderQueue) -> Result<()> {
    match unit.find::<OrderQueue>(&OrderQueue::name_key(&queue.name)) {
        Some(other) if other.id != queue.id => Err(errors::duplicate(other)),
        Some(_) | None => Ok(()),
    }
}

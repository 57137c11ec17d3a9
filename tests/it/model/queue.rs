//! The model of a queue, whose orders are created while it is updated, archived and unarchived.

use leadsmith_proto::{self as proto, ActionType, OrderAction, OrderQueue};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tonic::Status;

use super::{ADMIN, Etag};
use crate::harness::Caller;
use crate::order_queues;

/// The keys of the steps that a queue can have. It has the first one, the first two, or all.
pub const STEPS: [&str; 3] = ["first", "second", "third"];

/// The template of a MANUAL action.
#[derive(Debug, PartialEq)]
pub struct Template {
    pub key: &'static str,
    /// The index of its step.
    pub step: usize,
    /// The key of its prerequisite; empty for none.
    pub after: &'static str,
    pub automatic: bool,
}

const fn template(key: &'static str, step: usize, after: &'static str) -> Template {
    Template {
        key,
        step,
        after,
        automatic: false,
    }
}

/// The actions that a queue can have.
const TEMPLATES: [&[Template]; 3] = [
    &[template("pack", 0, "")],
    &[
        template("pack", 0, ""),
        template("send", 0, "pack"),
        template("thank", 0, ""),
    ],
    &[
        template("pack", 0, ""),
        Template {
            automatic: true,
            ..template("send", 1, "pack")
        },
        template("thank", 2, ""),
    ],
];

impl Template {
    fn to_message(&self) -> OrderAction {
        let after = (!self.after.is_empty()).then(|| self.after.to_owned());
        OrderAction {
            key: self.key.into(),
            r#type: ActionType::Manual.into(),
            step: STEPS[self.step].into(),
            automatic: self.automatic,
            prerequisites: after.into_iter().collect(),
            ..OrderAction::default()
        }
    }
}

/// The model of the queue.
#[derive(Clone, Debug)]
pub struct ExpectedQueue {
    pub id: String,
    pub version: u64,
    /// No queue of another history has it.
    original_name: String,
    name: String,
    /// How many of [`STEPS`] it has.
    pub steps: usize,
    pub templates: &'static [Template],
    pub is_archived: bool,
}

#[derive(Clone, Debug)]
pub enum QueueChange {
    /// To one of its own names.
    Name(u8),
    /// To the name of another queue.
    NameTaken,
    /// To these many steps, and if given, to these actions, which may belong to more steps.
    Content(usize, Option<usize>),
    Archive,
    Unarchive,
}

pub fn changes() -> impl Strategy<Value = QueueChange> {
    let templates = prop::option::weighted(0.7, 0..TEMPLATES.len());
    prop_oneof![
        2 => (0..2_u8).prop_map(QueueChange::Name),
        1 => Just(QueueChange::NameTaken),
        4 => (1..=STEPS.len(), templates).prop_map(|(steps, of)| QueueChange::Content(steps, of)),
        2 => Just(QueueChange::Archive),
        2 => Just(QueueChange::Unarchive),
    ]
}

impl ExpectedQueue {
    /// Creates the queue. No other one has this name.
    pub async fn create(admin: &Caller, name: &str) -> Self {
        let mut queue = Self {
            id: String::new(),
            version: 1,
            original_name: name.to_owned(),
            name: name.to_owned(),
            steps: STEPS.len(),
            templates: TEMPLATES[2],
            is_archived: false,
        };
        let created = order_queues::create(admin, queue.content()).await;
        queue.id = created.unwrap().id;
        queue
    }

    fn content(&self) -> OrderQueue {
        let actions = self.templates.iter().map(Template::to_message).collect();
        order_queues::new(&self.name, &STEPS[..self.steps], actions)
    }

    /// It with what a change gives it, whether or not that is allowed.
    fn changed(&self, change: &QueueChange) -> Self {
        let mut after = self.clone();
        match change {
            QueueChange::Name(number) => after.name = format!("{} {number}", self.original_name),
            QueueChange::NameTaken => after.name = "Default".to_owned(),
            QueueChange::Content(steps, templates) => {
                after.steps = *steps;
                if let Some(number) = templates {
                    after.templates = TEMPLATES[*number];
                }
            }
            QueueChange::Archive => after.is_archived = true,
            QueueChange::Unarchive => after.is_archived = false,
        }
        after
    }

    /// The model's result of a change: success, or the reason of the error.
    pub fn apply(
        &mut self,
        change: &QueueChange,
        caller: usize,
        etag: Etag,
    ) -> Result<(), &'static str> {
        if caller != ADMIN {
            return Err("ROLE_INSUFFICIENT");
        }
        etag.check()?;
        let mut after = self.changed(change);
        if matches!(change, QueueChange::NameTaken) {
            return Err("DUPLICATE_ORDER_QUEUE");
        }
        let mut templates = after.templates.iter();
        if templates.any(|template| template.step >= after.steps) {
            return Err("FIELD_INVALID");
        }
        // What it already is changes nothing.
        let is_changed = after.content() != self.content() || after.is_archived != self.is_archived;
        after.version += u64::from(is_changed);
        *self = after;
        Ok(())
    }

    pub async fn call(
        &self,
        change: &QueueChange,
        caller: &Caller,
        etag: Etag,
    ) -> Result<(), Status> {
        let etag = etag.at(self.version);
        let id = self.id.clone();
        let mut queues = caller.queues();
        match change {
            QueueChange::Archive => {
                let request = proto::ArchiveOrderQueueRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                queues.archive(request).await?;
            }
            QueueChange::Unarchive => {
                let request = proto::UnarchiveOrderQueueRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                queues.unarchive(request).await?;
            }
            QueueChange::Name(_) | QueueChange::NameTaken | QueueChange::Content(..) => {
                let queue = OrderQueue {
                    id,
                    etag,
                    ..self.changed(change).content()
                };
                let mask: &[&str] = match change {
                    QueueChange::Content(_, None) => &["steps"],
                    QueueChange::Content(_, Some(_)) => &["steps", "actions"],
                    QueueChange::Name(_)
                    | QueueChange::NameTaken
                    | QueueChange::Archive
                    | QueueChange::Unarchive => &["name"],
                };
                order_queues::update(caller, queue, mask).await?;
            }
        }
        Ok(())
    }

    /// Compares the stored queue with the model.
    pub fn check(&self, stored: &OrderQueue) -> Result<(), TestCaseError> {
        let expected = OrderQueue {
            id: self.id.clone(),
            archived: self.is_archived,
            etag: format!("\"{}\"", self.version),
            create_time: stored.create_time,
            update_time: stored.update_time,
            archive_time: stored.archive_time,
            ..self.content()
        };
        prop_assert_eq!(stored, &expected);
        prop_assert_eq!(stored.archive_time.is_some(), self.is_archived);
        Ok(())
    }
}

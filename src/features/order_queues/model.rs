//! The queue, its steps and its templates of actions. Must not depend on messages or on the database.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::field_change::FieldChange;
use crate::core::text;
use crate::core::text_enum::text_enum;

/// The id of the queue `default`, which the migration creates.
pub const DEFAULT_QUEUE: Uuid = Uuid::from_u128(0x7000_8000_0000_0000_0001);
/// The key of the only step of an order that was created by a version without queues.
pub const PROCESSING: &str = "processing";
/// The maximum number of characters of a queue's name.
pub const MAX_NAME: usize = 100;
/// The maximum number of steps of a queue.
pub const MAX_STEPS: usize = 20;
/// The maximum number of actions of a queue or an order.
pub const MAX_ACTIONS: usize = 50;

text_enum! {
    /// The effect of an action.
    pub enum ActionType {
        /// Converts the order's lead.
        ProvisionClient,
        /// Records that somebody did something outside of Leadsmith.
        Manual,
        /// Is done by a backend outside of Leadsmith.
        External,
    }
}

/// A stage that an order passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// A slug, unique in its queue.
    pub key: String,
    /// The display name; may be empty.
    pub name: String,
}

impl Step {
    /// The only step of an order that was created by a version without queues.
    pub fn processing() -> Self {
        Self {
            key: PROCESSING.to_owned(),
            name: "Processing".to_owned(),
        }
    }
}

/// The template of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "order_service.proto describes them")]
pub struct Template {
    pub key: String,
    pub r#type: ActionType,
    pub name: String,
    /// Empty until it is resolved by [`in_steps`]: the first step.
    pub step: String,
    pub automatic: bool,
    pub repeatable: bool,
    pub prerequisites: Vec<String>,
}

/// The places of the templates that name a step that is not one of `steps`. An empty name is the first step.
pub fn without_step(templates: &[Template], steps: &[Step]) -> Vec<usize> {
    let is_known = |key: &str| key.is_empty() || steps.iter().any(|step| step.key == key);
    let unknown = templates.iter().enumerate();
    let unknown = unknown.filter(|(_, template)| !is_known(&template.step));
    unknown.map(|(index, _)| index).collect()
}

/// The templates, each with the key of its step.
pub fn in_steps(mut templates: Vec<Template>, steps: &[Step]) -> Vec<Template> {
    let first = steps.first().map(|step| step.key.as_str());
    for template in &mut templates {
        if template.step.is_empty() {
            first.unwrap_or_default().clone_into(&mut template.step);
        }
    }
    templates
}

/// A cycle of prerequisites, if there is one: the keys from one that depends on the next, to the last, which
/// is the first again.
pub fn find_cycle(templates: &[Template]) -> Option<Vec<String>> {
    // Repeatedly removes the templates without remaining prerequisites. Each of those that remain has a
    // prerequisite that remains, so that following them comes to a cycle.
    let mut left: Vec<&Template> = templates.iter().collect();
    let next_of = |template: &Template, left: &[&Template]| {
        let keys = template.prerequisites.iter();
        let mut found = keys.filter_map(|key| left.iter().position(|other| other.key == *key));
        found.next()
    };
    loop {
        let waiting: Vec<&Template> = left
            .iter()
            .copied()
            .filter(|template| next_of(template, &left).is_some())
            .collect();
        if waiting.len() == left.len() {
            break;
        }
        left = waiting;
    }
    let mut path: Vec<usize> = Vec::new();
    let mut current = (!left.is_empty()).then_some(0)?;
    while !path.contains(&current) {
        path.push(current);
        current = next_of(left[current], &left)?;
    }
    let cycle = path.iter().skip_while(|index| **index != current);
    let keys = cycle
        .chain([&current])
        .map(|index| left[*index].key.clone());
    Some(keys.collect())
}

/// A template of orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderQueue {
    /// A UUIDv7.
    pub id: Uuid,
    /// The version, counted from 1.
    pub version: i64,
    /// The name.
    pub name: String,
    /// The steps, at least one.
    pub steps: Vec<Step>,
    /// The templates of the actions.
    pub actions: Vec<Template>,
    /// When it was archived. `None` if orders can be created in it.
    pub archive_time: Option<DateTime<Utc>>,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of the last change.
    pub update_time: DateTime<Utc>,
}

/// The new values of a queue. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// The name.
    pub name: Option<String>,
    /// The steps.
    pub steps: Option<Vec<Step>>,
    /// The templates of the actions.
    pub actions: Option<Vec<Template>>,
}

impl OrderQueue {
    /// How its name is compared with others: without regard to letter case.
    pub fn name_key(name: &str) -> String {
        text::fold(name)
    }

    /// Whether it is the queue `default`.
    pub fn is_default(&self) -> bool {
        self.id == DEFAULT_QUEUE
    }

    /// The changes of its fields since `before`, for the history. The history of lists has the keys.
    pub fn changes_from(&self, before: &Self) -> Vec<FieldChange> {
        let archived = |queue: &Self| queue.archive_time.is_some().to_string();
        let steps = |queue: &Self| keys(queue.steps.iter().map(|step| &step.key));
        let actions = |queue: &Self| keys(queue.actions.iter().map(|action| &action.key));
        let mut changes = Vec::new();
        let mut note = |field, changed, old_value: String, new_value: String| {
            if changed {
                changes.push(FieldChange::new(field, old_value, new_value));
            }
        };
        let name = self.name != before.name;
        note("name", name, before.name.clone(), self.name.clone());
        note(
            "steps",
            self.steps != before.steps,
            steps(before),
            steps(self),
        );
        note(
            "actions",
            self.actions != before.actions,
            actions(before),
            actions(self),
        );
        let (old_value, new_value) = (archived(before), archived(self));
        note("archived", old_value != new_value, old_value, new_value);
        changes
    }
}

impl Patch {
    /// Sets the values. The actions without a step then belong to the first one.
    pub fn apply(&self, queue: &mut OrderQueue) {
        if let Some(name) = &self.name {
            queue.name.clone_from(name);
        }
        if let Some(steps) = &self.steps {
            queue.steps.clone_from(steps);
        }
        if let Some(actions) = &self.actions {
            queue.actions.clone_from(actions);
        }
        queue.actions = in_steps(std::mem::take(&mut queue.actions), &queue.steps);
    }
}

fn keys<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    keys.map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(key: &str, prerequisites: &[&str]) -> Template {
        Template {
            key: key.to_owned(),
            r#type: ActionType::Manual,
            name: String::new(),
            step: String::new(),
            automatic: false,
            repeatable: false,
            prerequisites: prerequisites.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    #[test]
    fn a_cycle_is_named_from_an_action_to_itself() {
        type Actions<'a> = &'a [(&'a str, &'a [&'a str])];
        let cases: [(Actions<'_>, Option<&str>); 6] = [
            (&[("a", &["a"])], Some("a a")),
            (&[("a", &["b"]), ("b", &["a"])], Some("a b a")),
            (
                &[("a", &["c"]), ("b", &["a"]), ("c", &["b"])],
                Some("a c b a"),
            ),
            // The first leads to the cycle without being part of it, and another depends on it.
            (
                &[
                    ("to", &["free", "x"]),
                    ("free", &[]),
                    ("x", &["y"]),
                    ("y", &["x"]),
                    ("end", &["to"]),
                ],
                Some("x y x"),
            ),
            (
                &[("d", &["b", "c"]), ("c", &["a"]), ("b", &["a"]), ("a", &[])],
                None,
            ),
            (&[], None),
        ];
        for (actions, cycle) in cases {
            let actions: Vec<_> = actions
                .iter()
                .map(|(key, after)| template(key, after))
                .collect();
            let found = find_cycle(&actions).map(|keys| keys.join(" "));
            assert_eq!(found.as_deref(), cycle);
        }
    }

    #[test]
    fn an_action_without_a_step_belongs_to_the_first() {
        let step = |key: &str| Step {
            key: key.to_owned(),
            name: String::new(),
        };
        let steps = [step("first"), step("last")];
        let at = |step: &str| Template {
            step: step.to_owned(),
            ..template("a", &[])
        };
        let given = vec![at(""), at("last"), at("First"), at("first")];
        assert_eq!(without_step(&given, &steps), [2]);
        let steps = in_steps(given, &steps)
            .into_iter()
            .map(|action| action.step);
        assert_eq!(
            steps.collect::<Vec<_>>(),
            ["first", "last", "First", "first"]
        );
    }
}

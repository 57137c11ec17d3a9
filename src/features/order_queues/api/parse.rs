//! Parses queues, their steps and their actions. Orders parse actions of their own with the same functions.

use std::collections::BTreeSet;

use crate::core::bounded::{Echo, listed};
use crate::core::text;
use crate::core::violations::{Reason, Violations};
use crate::features::order_queues::model::{
    ActionType, MAX_ACTIONS, MAX_NAME, MAX_STEPS, Patch, Step, Template, find_cycle,
};
use crate::features::order_queues::{NewQueue, check_steps};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::mask::Fields;
use crate::grpc::read;
use leadsmith_proto as proto;

/// The rule of keys, as a part of a sentence.
const KEY_RULE: &str = "1 to 64 characters of a-z, 0-9 and -";
/// The maximum number of bytes of the keys of a cycle in a message.
const MAX_CYCLE: usize = 128;

/// How else these fields change, as the end of a sentence.
const ARCHIVED: &str = "which only Archive and Unarchive can change: call one of these RPCs";

const FIELDS: Fields = Fields {
    editable: &["name", "steps", "actions"],
    fixed: &["id", "etag", "create_time", "update_time"],
    elsewhere: &[("archived", ARCHIVED), ("archive_time", ARCHIVED)],
};

/// Parses a new queue.
pub(super) fn new_queue(
    violations: &mut Violations,
    queue: Option<proto::OrderQueue>,
    validate_only: bool,
) -> NewQueue {
    let given = queue.unwrap_or_else(|| {
        violations.add("order_queue", Reason::Required, "is required");
        proto::OrderQueue::default()
    });
    let name = name(violations, &given.name);
    let steps = steps(violations, given.steps);
    let actions = actions(violations, "order_queue.actions", given.actions);
    check_steps(violations, "order_queue.actions", &actions, &steps);
    NewQueue {
        name,
        steps,
        actions,
        validate_only,
    }
}

/// Parses the changes of an update.
pub(super) fn patch(
    violations: &mut Violations,
    given: proto::OrderQueue,
    mask: Option<prost_types::FieldMask>,
) -> Patch {
    let named = FIELDS.parse(violations, mask, |field| match field {
        "name" => !text::is_blank(&given.name),
        "steps" => !given.steps.is_empty(),
        _ => !given.actions.is_empty(),
    });
    let is_named = |field| named.contains(&field);
    Patch {
        name: is_named("name").then(|| name(violations, &given.name)),
        steps: is_named("steps").then(|| steps(violations, given.steps)),
        actions: is_named("actions")
            .then(|| actions(violations, "order_queue.actions", given.actions)),
    }
}

fn name(violations: &mut Violations, given: &str) -> String {
    let name = text::name(given);
    let name = name.filter(|name| (1..=MAX_NAME).contains(&name.chars().count()));
    if name.is_none() {
        let reason = match given.chars().count() {
            _ if text::is_blank(given) => Reason::Required,
            length if length > MAX_NAME => Reason::TooLong,
            _ => Reason::CharacterInvalid,
        };
        let problem = format_args!(
            "must be 1 to {MAX_NAME} characters on one line, without control characters and without characters \
             that change the text direction"
        );
        violations.add("order_queue.name", reason, problem);
    }
    name.unwrap_or_default()
}

fn steps(violations: &mut Violations, given: Vec<proto::OrderStep>) -> Vec<Step> {
    let field = "order_queue.steps";
    if given.is_empty() {
        violations.add(field, Reason::Required, "must have at least one element");
    }
    if given.len() > MAX_STEPS {
        let problem = format_args!("must have at most {MAX_STEPS} elements");
        violations.add(field, Reason::TooMany, problem);
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut steps = Vec::with_capacity(given.len());
    for (index, step) in given.into_iter().enumerate() {
        let field = format!("{field}[{index}]");
        check_key(violations, &field, &step.key, &mut seen, "queue");
        steps.push(Step {
            name: read::text(violations, &format!("{field}.name"), &step.name, 200),
            key: step.key,
        });
    }
    steps
}

/// Parses the actions of a queue or an order, except whether their steps exist.
pub fn actions(
    violations: &mut Violations,
    field: &str,
    given: Vec<proto::OrderAction>,
) -> Vec<Template> {
    if given.len() > MAX_ACTIONS {
        let problem = format_args!("must have at most {MAX_ACTIONS} elements");
        violations.add(field, Reason::TooMany, problem);
        return Vec::new();
    }
    let list = field;
    let keys: BTreeSet<String> = given.iter().map(|action| action.key.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut actions = Vec::with_capacity(given.len());
    for (index, action) in given.into_iter().enumerate() {
        let field = format!("{list}[{index}]");
        check_key(violations, &field, &action.key, &mut seen, "list");
        let r#type = action_type(violations, &field, &action);
        let prerequisites = prerequisites(violations, &field, action.prerequisites, &keys);
        actions.push(Template {
            name: read::text(violations, &format!("{field}.name"), &action.name, 200),
            key: action.key,
            r#type,
            step: action.step,
            automatic: action.automatic,
            repeatable: action.repeatable,
            prerequisites,
        });
    }
    if let Some(cycle) = find_cycle(&actions) {
        let (keys, omitted) = listed(&cycle, " -> ", MAX_CYCLE);
        let more = match omitted {
            0 => String::new(),
            omitted => format!(" -> {omitted} more"),
        };
        let problem =
            format_args!("depend on each other in a cycle: {keys}{more}. Remove a prerequisite");
        violations.add(list, Reason::Cycle, problem);
    }
    actions
}

fn action_type(
    violations: &mut Violations,
    field: &str,
    action: &proto::OrderAction,
) -> ActionType {
    let r#type = ActionType::from_wire(action.r#type);
    if r#type.is_none() {
        violations.add(
            format_args!("{field}.type"),
            Reason::ValueUnknown,
            "must be PROVISION_CLIENT, MANUAL or EXTERNAL",
        );
    }
    if r#type == Some(ActionType::External) && action.automatic {
        violations.add(
            format_args!("{field}.automatic"),
            Reason::ValueNotAllowed,
            "must not be set for an EXTERNAL action: its backend runs it",
        );
    }
    // The violation prevents its use.
    r#type.unwrap_or(ActionType::Manual)
}

/// The keys of the prerequisites, without duplicates.
fn prerequisites(
    violations: &mut Violations,
    action: &str,
    mut prerequisites: Vec<String>,
    keys: &BTreeSet<String>,
) -> Vec<String> {
    if prerequisites.len() > MAX_ACTIONS {
        violations.add(
            format_args!("{action}.prerequisites"),
            Reason::TooMany,
            format_args!("must have at most {MAX_ACTIONS} elements"),
        );
        return Vec::new();
    }
    for (index, key) in prerequisites.iter().enumerate() {
        if !keys.contains(key) {
            violations.add(
                format_args!("{action}.prerequisites[{index}]"),
                Reason::ReferenceInvalid,
                format_args!("is {}, which is not an action of this list", Echo(key)),
            );
        }
    }
    prerequisites.sort_unstable();
    prerequisites.dedup();
    prerequisites
}

/// Checks a key, which must be unique among those `seen`.
fn check_key(
    violations: &mut Violations,
    element: &str,
    key: &str,
    seen: &mut BTreeSet<String>,
    scope: &str,
) {
    let field = format_args!("{element}.key");
    if !is_slug(key) {
        let reason = match key {
            "" => Reason::Required,
            _ => Reason::FormatInvalid,
        };
        violations.add(field, reason, format_args!("must be {KEY_RULE}"));
    } else if !seen.insert(key.to_owned()) {
        let problem = format_args!("must be unique in the {scope}");
        violations.add(field, Reason::NotUnique, problem);
    }
}

fn is_slug(key: &str) -> bool {
    (1..=64).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

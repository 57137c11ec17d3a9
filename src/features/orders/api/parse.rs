//! Parses a new order.

use std::collections::BTreeSet;

use crate::core::bounded::Echo;
use crate::core::violations::{Reason, Violations};
use crate::features::orders::NewOrder;
use crate::features::orders::model::{
    Action, ActionState, ActionType, Item, MAX_ACTIONS, MAX_ITEMS, find_cycle,
};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::{money, read};
use leadsmith_proto as proto;

/// Parses the input of Create.
pub(super) fn new_order(
    violations: &mut Violations,
    order: Option<proto::Order>,
    validate_only: bool,
) -> NewOrder {
    let order = order.unwrap_or_else(|| {
        violations.add("order", Reason::Required, "is required");
        proto::Order::default()
    });
    NewOrder {
        lead_id: read::id(violations, "order.lead_id", &order.lead_id),
        opportunity_id: read::optional_id(
            violations,
            "order.opportunity_id",
            &order.opportunity_id,
        ),
        items: items(violations, order.items),
        actions: actions(violations, order.actions),
        validate_only,
    }
}

fn items(violations: &mut Violations, items: Vec<proto::OrderItem>) -> Vec<Item> {
    if items.len() > MAX_ITEMS {
        violations.add(
            "order.items",
            Reason::TooMany,
            format_args!("must have at most {MAX_ITEMS} elements"),
        );
        return Vec::new();
    }
    let mut read = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let field = format!("order.items[{index}]");
        let name = format!("{field}.description");
        let description = read::text(violations, &name, &item.description, 500);
        if description.is_empty() {
            violations.add(name, Reason::Required, "is required");
        }
        if !(1..=1_000_000_000).contains(&item.quantity) {
            violations.add(
                format_args!("{field}.quantity"),
                Reason::OutOfRange,
                "must be from 1 to 1,000,000,000",
            );
        }
        let unit_price = item
            .unit_price
            .map(|price| money::parse(violations, &format!("{field}.unit_price"), price, true));
        read.push(Item {
            description,
            quantity: item.quantity,
            unit_price,
        });
    }
    read
}

fn actions(violations: &mut Violations, actions: Vec<proto::OrderAction>) -> Vec<Action> {
    if actions.is_empty() {
        return vec![Action::provision_client()];
    }
    if actions.len() > MAX_ACTIONS {
        violations.add(
            "order.actions",
            Reason::TooMany,
            format_args!("must have at most {MAX_ACTIONS} elements"),
        );
        return Vec::new();
    }
    let keys: BTreeSet<String> = actions.iter().map(|action| action.key.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut read = Vec::with_capacity(actions.len());
    for (index, action) in actions.into_iter().enumerate() {
        let field = format!("order.actions[{index}]");
        if !is_slug(&action.key) {
            violations.add(
                format_args!("{field}.key"),
                match action.key.as_str() {
                    "" => Reason::Required,
                    _ => Reason::FormatInvalid,
                },
                "must be 1 to 64 characters of a-z, 0-9 and -",
            );
        } else if !seen.insert(action.key.clone()) {
            violations.add(
                format_args!("{field}.key"),
                Reason::NotUnique,
                "must be unique in the order",
            );
        }
        let r#type = ActionType::from_wire(action.r#type).unwrap_or_else(|| {
            violations.add(
                format_args!("{field}.type"),
                Reason::ValueUnknown,
                "must be PROVISION_CLIENT or MANUAL",
            );
            ActionType::Manual
        });
        let prerequisites = prerequisites(violations, &field, action.prerequisites, &keys);
        read.push(Action {
            name: read::text(violations, &format!("{field}.name"), &action.name, 200),
            key: action.key,
            r#type,
            automatic: action.automatic,
            prerequisites,
            state: ActionState::Pending,
        });
    }
    if let Some(key) = find_cycle(&read) {
        let problem = format_args!(
            "depend on each other in a cycle that starts at {}: remove one of its prerequisites",
            Echo(key)
        );
        violations.add("order.actions", Reason::Cycle, problem);
    }
    read
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
                format_args!("is {}, which is not an action of this order", Echo(key)),
            );
        }
    }
    prerequisites.sort_unstable();
    prerequisites.dedup();
    prerequisites
}

fn is_slug(key: &str) -> bool {
    (1..=64).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

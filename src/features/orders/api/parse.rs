//! Parses a new order, and what is said of its actions.

use crate::core::violations::{Reason, Violations};
use crate::features::order_queues::api::parse::actions;
use crate::features::order_queues::model::MAX_ACTIONS;
use crate::features::orders::claims::MAX_CLAIMS;
use crate::features::orders::model::{Claiming, Item, MAX_ITEMS, RunOutcome};
use crate::features::orders::{NewOrder, Report};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::{money, read};
use leadsmith_proto as proto;

/// The maximum number of characters of a note or a reason.
const MAX_NOTE: usize = 1_000;
/// The maximum number of characters of the key of a step or an action.
const MAX_KEY: usize = 64;
/// The maximum number of characters of a reference.
const MAX_REFERENCE: usize = 200;
/// The maximum number of characters of a comment.
const MAX_COMMENT: usize = 4_096;

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
    let lead_id = read::id(violations, "order.lead_id", &order.lead_id);
    let client_id = read::optional_id(violations, "order.client_id", &order.client_id);
    if client_id == Some(lead_id) {
        violations.add(
            "order.client_id",
            Reason::ReferenceInvalid,
            "must not be the lead itself: leave it out to convert the lead to a client of its own",
        );
    }
    NewOrder {
        lead_id,
        client_id,
        opportunity_id: read::optional_id(
            violations,
            "order.opportunity_id",
            &order.opportunity_id,
        ),
        items: items(violations, order.items),
        actions: actions(violations, "order.actions", order.actions),
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

/// Parses what the caller says of a run.
pub(super) fn report(
    violations: &mut Violations,
    outcome: i32,
    note: &str,
    reference: &str,
) -> Report {
    let result = RunOutcome::from_wire(outcome);
    if result.is_none() && outcome != 0 {
        let problem = "must be SUCCEEDED, FAILED or absent";
        violations.add("outcome", Reason::ValueUnknown, problem);
    }
    Report {
        failed: result == Some(RunOutcome::Failed),
        note: read::text(violations, "note", note, MAX_NOTE),
        reference: read::text(violations, "reference", reference, MAX_REFERENCE),
        claim: None,
    }
}

/// Parses the outcome of a claimed action, which has no default.
pub(super) fn report_of_claim(
    violations: &mut Violations,
    outcome: i32,
    note: &str,
    reference: &str,
) -> Report {
    if outcome == 0 {
        let problem = "is required: SUCCEEDED or FAILED";
        violations.add("outcome", Reason::Required, problem);
    }
    report(violations, outcome, note, reference)
}

/// Parses what a worker wants to claim.
pub(super) fn claiming(
    violations: &mut Violations,
    actions: Vec<String>,
    retry_failed: bool,
) -> Claiming {
    if actions.is_empty() {
        let problem = "is required: send the keys of the actions that the worker can do";
        violations.add("actions", Reason::Required, problem);
    } else if actions.len() > MAX_ACTIONS {
        let problem = format_args!("must have at most {MAX_ACTIONS} elements");
        violations.add("actions", Reason::TooMany, problem);
        return Claiming::default();
    }
    let mut keys: Vec<String> = Vec::with_capacity(actions.len());
    for (index, action) in actions.iter().enumerate() {
        let field = format!("actions[{index}]");
        let action = key_filter(violations, &field, action);
        if action.is_empty() {
            let problem = "is empty: send the key of an action";
            violations.add(field, Reason::Required, problem);
        } else if keys.contains(&action) {
            let problem = "is in the list already: send each key once";
            violations.add(field, Reason::NotUnique, problem);
        }
        keys.push(action);
    }
    Claiming {
        actions: keys,
        retry_failed,
    }
}

/// Parses the maximum number of claims; 0 means 1.
pub(super) fn max_claims(violations: &mut Violations, max: i32) -> usize {
    match usize::try_from(max) {
        Ok(0) => 1,
        Ok(max) if max <= MAX_CLAIMS => max,
        _ => {
            let problem = format_args!("must be from 0 to {MAX_CLAIMS}");
            violations.add("max", Reason::OutOfRange, problem);
            1
        }
    }
}

/// Parses the key of an action or a step.
pub(super) fn key(violations: &mut Violations, field: &str, key: String, example: &str) -> String {
    if key.is_empty() {
        let problem = format_args!("is required: send the key, such as {example}");
        violations.add(field, Reason::Required, problem);
    }
    key
}

/// Parses a filter by the key of a step or an action; empty for all. No key has a control character, and the database
/// refuses U+0000.
pub(super) fn key_filter(violations: &mut Violations, field: &str, key: &str) -> String {
    read::text(violations, field, key, MAX_KEY)
}

/// Parses a reason.
pub(super) fn reason(violations: &mut Violations, reason: &str) -> String {
    read::text(violations, "reason", reason, MAX_NOTE)
}

/// Parses the text of a comment.
pub(super) fn text(violations: &mut Violations, text: &str) -> String {
    let comment = read::text(violations, "text", text, MAX_COMMENT);
    if comment.is_empty() {
        violations.add("text", Reason::Required, "is required: send the comment");
    }
    comment
}

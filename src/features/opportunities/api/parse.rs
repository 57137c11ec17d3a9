//! Parses the fields of an opportunity, an update mask and an outcome.

use uuid::Uuid;

use crate::core::text::is_blank;
use crate::core::text_enum::TextEnum as _;
use crate::core::violations::{Reason, Violations};
use crate::features::opportunities::model::{Details, Field, Outcome, Patch, Stage};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::mask::Fields;
use crate::grpc::{money, read};
use leadsmith_proto as proto;

const FIELDS: Fields = Fields {
    editable: &[
        "name",
        "stage",
        "amount",
        "probability",
        "expected_close_date",
        "owner_id",
        "next_step",
        "description",
    ],
    fixed: &[
        "id",
        "etag",
        "create_time",
        "update_time",
        "lead_display_name",
        "lead_state",
    ],
    elsewhere: &[
        (
            "lead_id",
            "which never changes: create another opportunity for another lead",
        ),
        (
            "state",
            "which only Close and Reopen can change: call one of these RPCs",
        ),
        (
            "close",
            "which only Close and Reopen can change: call one of these RPCs",
        ),
    ],
};

/// Parses a new opportunity. Returns the lead's id and the fields.
pub fn new(
    violations: &mut Violations,
    opportunity: Option<proto::Opportunity>,
) -> (Uuid, Details) {
    let mut given = required(violations, opportunity);
    let lead_id = read::id(violations, "opportunity.lead_id", &given.lead_id);
    if given.stage == 0 {
        given.stage = Stage::Contact.to_wire();
    }
    let not_closed = "a new opportunity is open, so send the stage that it has reached";
    let details = values(violations, given, Field::ALL, not_closed);
    (lead_id, details)
}

/// Returns the opportunity of a request, or an empty one if it is absent; the violation prevents its use.
pub fn required(
    violations: &mut Violations,
    opportunity: Option<proto::Opportunity>,
) -> proto::Opportunity {
    opportunity.unwrap_or_else(|| {
        violations.add("opportunity", Reason::Required, "is required");
        proto::Opportunity::default()
    })
}

/// Parses the changes of an update.
pub fn patch(
    violations: &mut Violations,
    given: proto::Opportunity,
    mask: Option<prost_types::FieldMask>,
) -> Patch {
    let named = FIELDS.parse(violations, mask, |field| is_populated(&given, field));
    let mut fields: Vec<Field> = named.into_iter().filter_map(Field::from_text).collect();
    fields.sort_unstable();
    fields.dedup();
    let not_closed = "call Close to close the opportunity";
    let values = values(violations, given, &fields, not_closed);
    Patch { fields, values }
}

fn is_populated(given: &proto::Opportunity, field: &str) -> bool {
    Field::from_text(field).is_some_and(|field| match field {
        Field::Name => !is_blank(&given.name),
        Field::Stage => given.stage != 0,
        Field::Amount => given.amount.is_some(),
        Field::Probability => given.probability.is_some(),
        Field::ExpectedCloseDate => !given.expected_close_date.is_empty(),
        Field::OwnerId => !given.owner_id.is_empty(),
        Field::NextStep => !is_blank(&given.next_step),
        Field::Description => !is_blank(&given.description),
    })
}

/// Parses these fields. Others are not looked at. `not_closed` says what to do instead of setting the stage
/// CLOSED.
fn values(
    violations: &mut Violations,
    given: proto::Opportunity,
    fields: &[Field],
    not_closed: &str,
) -> Details {
    let mut values = Details::default();
    let mut amount = given.amount;
    for field in fields {
        let path = &format!("opportunity.{field}");
        match field {
            Field::Name => values.name = name(violations, path, &given.name),
            Field::Stage => values.stage = stage(violations, path, given.stage, not_closed),
            Field::Amount => {
                let given = amount.take();
                values.amount = given.map(|amount| money::parse(violations, path, amount, false));
            }
            Field::Probability => {
                values.probability = given.probability;
                check_probability(violations, path, given.probability);
            }
            Field::ExpectedCloseDate => {
                let date = read::date(violations, path, &given.expected_close_date);
                values.expected_close_date = date;
            }
            Field::OwnerId => {
                let owner_id = read::optional_id(violations, path, &given.owner_id);
                values.owner_id = owner_id.map(|id| id.to_string()).unwrap_or_default();
            }
            Field::NextStep => {
                values.next_step = read::text(violations, path, &given.next_step, 500);
            }
            Field::Description => {
                values.description = read::text(violations, path, &given.description, 4_096);
            }
        }
    }
    values
}

fn name(violations: &mut Violations, path: &str, given: &str) -> String {
    let name = read::text(violations, path, given, 200);
    if name.is_empty() {
        violations.add(path, Reason::Required, "is required");
    }
    name
}

/// Returns CONTACT if it is invalid; the violation prevents its use.
fn stage(violations: &mut Violations, path: &str, number: i32, not_closed: &str) -> Stage {
    let stage = Stage::from_wire(number);
    match (stage, number) {
        (None, 0) => violations.add(
            path,
            Reason::Required,
            "is required: send the stage that the opportunity has reached",
        ),
        (None, _) => violations.add(path, Reason::ValueUnknown, UNKNOWN),
        (Some(Stage::Closed), _) => violations.add(
            path,
            Reason::ValueNotAllowed,
            format_args!("must not be CLOSED: {not_closed}"),
        ),
        (Some(Stage::Contact | Stage::Meeting | Stage::Negotiation | Stage::Buying), _) => {}
    }
    stage.unwrap_or_default()
}

fn check_probability(violations: &mut Violations, path: &str, given: Option<i32>) {
    if given.is_some_and(|percent| !(0..=100).contains(&percent)) {
        violations.add(path, Reason::OutOfRange, "must be from 0 to 100, or absent");
    }
}

const UNKNOWN: &str = "is not one of the enum's values";

/// Parses the stage of a filter; UNSPECIFIED is none.
pub fn stage_filter(violations: &mut Violations, number: i32) -> Option<Stage> {
    let stage = Stage::from_wire(number);
    if stage.is_none() && number != 0 {
        violations.add("stage", Reason::ValueUnknown, UNKNOWN);
    }
    stage
}

/// Parses an outcome. Returns LOST if it is invalid; the violation prevents its use.
pub fn outcome(violations: &mut Violations, number: i32) -> Outcome {
    let outcome = Outcome::from_wire(number);
    if outcome.is_none() {
        let (reason, problem) = match number {
            0 => (Reason::Required, "is required: send WON or LOST"),
            _ => (Reason::ValueUnknown, UNKNOWN),
        };
        violations.add("outcome", reason, problem);
    }
    outcome.unwrap_or(Outcome::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_can_be_named_in_a_mask() {
        let fields: Vec<&str> = Field::ALL.iter().map(|field| field.as_str()).collect();
        assert_eq!(FIELDS.editable, fields);
    }
}

//! The editable fields of an opportunity, and how an update changes them.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::core::field_change::FieldChange;
use crate::core::money::Money;
use crate::core::text_enum::{TextEnum as _, text_enum};

text_enum! {
    /// The sales stage of an opportunity.
    #[derive(Default)]
    pub enum Stage {
        /// First contact.
        #[default]
        Contact,
        /// A meeting.
        Meeting,
        /// Negotiation.
        Negotiation,
        /// The customer is about to buy.
        Buying,
        /// Won or lost.
        Closed,
    }
}

text_enum! {
    "snake_case"
    /// An editable field. Its text is its path in update masks and in the history.
    pub enum Field {
        /// The name.
        Name,
        /// The stage.
        Stage,
        /// The amount.
        Amount,
        /// The probability.
        Probability,
        /// The expected date of closing.
        ExpectedCloseDate,
        /// The owner.
        OwnerId,
        /// The next step.
        NextStep,
        /// The description.
        Description,
    }
}

/// The editable fields of an opportunity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "opportunity_service.proto describes them")]
pub struct Details {
    pub name: String,
    pub stage: Stage,
    pub amount: Option<Money>,
    pub probability: Option<i32>,
    pub expected_close_date: Option<NaiveDate>,
    pub owner_id: String,
    pub next_step: String,
    pub description: String,
}

impl Details {
    /// The value of a field, as text for the history; empty if there is none.
    fn text_of(&self, field: Field) -> String {
        fn text(value: Option<&impl ToString>) -> String {
            value.map(ToString::to_string).unwrap_or_default()
        }
        match field {
            Field::Name => self.name.clone(),
            Field::Stage => self.stage.to_string(),
            Field::Amount => text(self.amount.as_ref()),
            Field::Probability => text(self.probability.as_ref()),
            Field::ExpectedCloseDate => text(self.expected_close_date.as_ref()),
            Field::OwnerId => self.owner_id.clone(),
            Field::NextStep => self.next_step.clone(),
            Field::Description => self.description.clone(),
        }
    }

    /// The fields that have a value, as changes of a new opportunity.
    pub fn changes_from_nothing(&self) -> Vec<FieldChange> {
        let values = Field::ALL
            .iter()
            .map(|field| (field.as_str(), self.text_of(*field)));
        values
            .filter(|(_, value)| !value.is_empty())
            .map(|(field, value)| FieldChange::new(field, "", value))
            .collect()
    }

    /// The differences from `before`.
    pub fn changes_from(&self, before: &Self) -> Vec<FieldChange> {
        let values = Field::ALL
            .iter()
            .map(|field| (field.as_str(), before.text_of(*field), self.text_of(*field)));
        values
            .filter(|(_, before, after)| before != after)
            .map(|(field, before, after)| FieldChange::new(field, before, after))
            .collect()
    }
}

/// The changes that an update makes.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The fields to set.
    pub fields: Vec<Field>,
    /// Their new values. Other fields are ignored.
    pub values: Details,
}

impl Patch {
    /// The fields after the update.
    pub fn apply(&self, before: &Details) -> Details {
        let (mut after, values) = (before.clone(), &self.values);
        for field in &self.fields {
            match field {
                Field::Name => after.name.clone_from(&values.name),
                Field::Stage => after.stage = values.stage,
                Field::Amount => after.amount.clone_from(&values.amount),
                Field::Probability => after.probability = values.probability,
                Field::ExpectedCloseDate => after.expected_close_date = values.expected_close_date,
                Field::OwnerId => after.owner_id.clone_from(&values.owner_id),
                Field::NextStep => after.next_step.clone_from(&values.next_step),
                Field::Description => after.description.clone_from(&values.description),
            }
        }
        after
    }

    /// Whether the update sets this field.
    pub fn names(&self, field: Field) -> bool {
        self.fields.contains(&field)
    }
}

//! A change of one field of a record, as stored in the history.

use serde::{Deserialize, Serialize};

/// A change of one field. An empty value means that there is none. The stored names must not change,
/// because servers of the previous version also read and write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field's path. Examples: `email`, `address.city`, `custom_fields.tier`.
    pub field: String,
    /// The value before.
    #[serde(rename = "from", alias = "old_value")]
    pub old_value: String,
    /// The value after.
    #[serde(rename = "to", alias = "new_value")]
    pub new_value: String,
}

impl FieldChange {
    /// A change of `field`.
    pub fn new(
        field: impl Into<String>,
        old_value: impl Into<String>,
        new_value: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            old_value: old_value.into(),
            new_value: new_value.into(),
        }
    }
}

//! Whether operators may own records.

use crate::core::violations::{Reason, Violations};

/// Whether an operator may become the owner of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The operator may own records, or the record has no owner.
    Allowed,
    /// The operator is disabled. They remain the owner of the records that they already own.
    Disabled,
}

impl Ownership {
    /// Adds a violation if the new owner of a record is disabled.
    pub fn check(self, violations: &mut Violations, field: &str) {
        if self == Self::Disabled {
            violations.add(
                field,
                Reason::ReferenceInvalid,
                "is the id of a disabled operator: choose an enabled operator",
            );
        }
    }
}

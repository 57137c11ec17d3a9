//! What is wrong with a request, all of it, so that the caller mends it once.

use std::fmt;

use crate::error::{Error, Result};

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request. Example: `lead.address.city`.
    pub field: String,
    /// What is wrong and what would be right, to be read behind the field's name.
    pub description: String,
}

/// Every wrong field of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Notes that a field is wrong.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            description: description.into(),
        });
    }

    /// Goes on only when nothing is wrong.
    ///
    /// # Errors
    /// [`Error::FieldInvalid`] with everything noted.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::FieldInvalid(self))
        }
    }
}

impl<'a> IntoIterator for &'a Violations {
    type Item = &'a Violation;
    type IntoIter = std::slice::Iter<'a, Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for Violation { field, description } in self {
            write!(f, "{separator}{field} {description}")?;
            separator = "; ";
        }
        f.write_str(".")
    }
}

//! The violations of a request: the first invalid fields and the number of all. Callers can correct several
//! fields at once, and a request with many mistakes costs no more than one with a few.

use super::text_enum::text_enum;
use std::fmt::{self, Display, Write};

use super::bounded::bounded;

/// The maximum number of listed violations; others are only counted.
pub const MAX_LISTED: usize = 20;
/// The maximum number of bytes of a field's path.
const MAX_FIELD: usize = 128;
/// The maximum number of bytes of a description.
const MAX_DESCRIPTION: usize = 256;
/// The maximum number of bytes of violations in a message.
const MAX_SENTENCE: usize = 900;

text_enum! {
    /// Why a field is invalid: the values of `FieldViolationReason` without their prefix. `error_reason.proto`
    /// describes them.
    pub enum Reason {
        /// Empty or absent, although it is required.
        Required,
        /// Not in the format of this type of value.
        FormatInvalid,
        /// A text with too many characters or bytes.
        TooLong,
        /// A text with too few characters or bytes.
        TooShort,
        /// A list or map with too many elements.
        TooMany,
        /// A number, an amount or a time outside of the allowed range.
        OutOfRange,
        /// A text with a character that is not allowed.
        CharacterInvalid,
        /// Not one of the known values.
        ValueUnknown,
        /// A known value that is not allowed for this field or together with the others.
        ValueNotAllowed,
        /// An update mask names an unknown field.
        FieldUnknown,
        /// An update mask names an output-only field.
        FieldOutputOnly,
        /// A duplicate of an earlier value in the list, although values must be unique.
        NotUnique,
        /// It refers to something that does not exist or that it must not refer to.
        ReferenceInvalid,
        /// Elements that depend on each other in a cycle.
        Cycle,
        /// There are more violations than those listed.
        More,
    }
}

/// An invalid field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request. Examples: `lead.address.city`,
    /// `lead.custom_fields[tier]`, `order.items[2].quantity`.
    pub field: String,
    /// The reason, for programs.
    pub reason: Reason,
    /// What is wrong and how to correct it, as a text that follows the field's name.
    pub description: String,
}

/// The invalid fields of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    listed: Vec<Violation>,
    count: usize,
}

impl Violations {
    /// Adds a violation. Pass composed descriptions as `format_args!`: they are formatted only if the
    /// violation is listed.
    pub fn add(&mut self, field: impl Display, reason: Reason, description: impl Display) {
        self.count += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(Violation {
                field: bounded(field, MAX_FIELD),
                reason,
                description: bounded(description, MAX_DESCRIPTION),
            });
        }
    }

    /// The number of violations.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first `limit` violations and, if there are more, one with the number of the others.
    pub fn first(&self, limit: usize) -> Vec<Violation> {
        let mut first: Vec<_> = self.listed.iter().take(limit).cloned().collect();
        let more = self.count - first.len();
        if more > 0 {
            first.push(Violation {
                field: String::new(),
                reason: Reason::More,
                description: format!("{}: correct the listed fields first", more_fields(more)),
            });
        }
        first
    }

    /// Returns an error if there are violations.
    ///
    /// # Errors
    /// The violations; as an error of a call, `FIELD_INVALID`.
    pub fn finish(self) -> Result<(), Self> {
        match self.count {
            0 => Ok(()),
            _ => Err(self),
        }
    }
}

fn more_fields(more: usize) -> String {
    match more {
        1 => "1 more field is wrong".to_owned(),
        more => format!("{more} more fields are wrong"),
    }
}

/// A sentence with the first violations, at least one.
impl Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        for (index, violation) in self.listed.iter().enumerate() {
            written += violation.field.len() + violation.description.len() + 3;
            if index > 0 && written > MAX_SENTENCE {
                return write!(f, "; {}.", more_fields(self.count - index));
            }
            let separator = if index > 0 { "; " } else { "" };
            write!(
                f,
                "{separator}{} {}",
                violation.field, violation.description
            )?;
        }
        match self.count - self.listed.len() {
            0 => f.write_char('.'),
            more => write!(f, "; {}.", more_fields(more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_counted_and_not_formatted() {
        struct Once(std::cell::Cell<usize>);
        impl Display for &Once {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.set(self.0.get() + 1);
                f.write_str(&"x".repeat(10_000))
            }
        }
        let once = Once(std::cell::Cell::new(0));
        let mut violations = Violations::default();
        for _ in 0..60_000 {
            violations.add(&once, Reason::TooLong, "is too long");
        }
        assert_eq!(once.0.get(), MAX_LISTED);
        let first = violations.first(MAX_LISTED);
        assert_eq!(first.len(), MAX_LISTED + 1);
        assert!(
            first
                .iter()
                .all(|violation| violation.field.len() <= MAX_FIELD)
        );
        let last = &first[MAX_LISTED];
        assert_eq!((last.field.as_str(), last.reason), ("", Reason::More));
        assert!(last.description.starts_with("59980 more fields are wrong"));
        let sentence = violations.to_string();
        assert!(sentence.len() < 2 * MAX_SENTENCE, "{}", sentence.len());
        assert!(sentence.ends_with("more fields are wrong."), "{sentence}");
    }
}

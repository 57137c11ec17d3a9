//! What is wrong with a request: the first of its wrong fields and the number of all, so that callers
//! can correct several at once and a request full of mistakes costs no more than one with a few.

use std::fmt::{self, Display, Write};

use super::bounded::bounded;
use super::words::words;
use crate::error::{Error, Result};

/// How many wrong fields are listed; the others are only counted.
pub const LISTED: usize = 20;
/// How many bytes the path of a field may have.
const FIELD: usize = 128;
/// How many bytes a description may have.
const DESCRIPTION: usize = 256;
/// How many bytes of violations a message repeats.
const SENTENCE: usize = 900;

words! {
    /// Why a field is wrong: the values of `FieldViolationReason` in `error_reason.proto`, which
    /// describes them, without their prefix.
    pub enum Reason {
        /// Empty or absent, and it must not be.
        Required = "REQUIRED",
        /// Not of the form that such a value has.
        FormatInvalid = "FORMAT_INVALID",
        /// A text with more characters or bytes than allowed.
        TooLong = "TOO_LONG",
        /// A text with fewer characters or bytes than needed.
        TooShort = "TOO_SHORT",
        /// A list or map with more elements than allowed.
        TooMany = "TOO_MANY",
        /// A number, an amount or a time below the least or above the greatest allowed value.
        OutOfRange = "OUT_OF_RANGE",
        /// A text that contains characters it must not contain.
        CharacterInvalid = "CHARACTER_INVALID",
        /// Not one of the values that there are.
        ValueUnknown = "VALUE_UNKNOWN",
        /// A value that exists, but not for this field or not together with the others.
        ValueNotAllowed = "VALUE_NOT_ALLOWED",
        /// An update mask names a field that does not exist.
        FieldUnknown = "FIELD_UNKNOWN",
        /// An update mask names a field that the service alone sets.
        FieldOutputOnly = "FIELD_OUTPUT_ONLY",
        /// The same value stands in the list before, and it must be unique.
        NotUnique = "NOT_UNIQUE",
        /// It names something that does not exist or that it must not name.
        ReferenceInvalid = "REFERENCE_INVALID",
        /// Elements that wait for each other in a circle.
        Cycle = "CYCLE",
        /// Further fields are wrong than are listed.
        More = "MORE",
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request. Examples: `lead.address.city`,
    /// `lead.custom_fields[tier]`, `order.items[2].quantity`.
    pub field: String,
    /// Why it is wrong, for programs.
    pub reason: Reason,
    /// What is wrong and what would be right, to be read behind the field's name.
    pub description: String,
}

/// The wrong fields of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    listed: Vec<Violation>,
    count: usize,
}

impl Violations {
    /// Notes that a field is wrong. Give what has to be put together as `format_args!`: it is
    /// formatted only where the violation is listed.
    pub fn add(&mut self, field: impl Display, reason: Reason, description: impl Display) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(Violation {
                field: bounded(field, FIELD),
                reason,
                description: bounded(description, DESCRIPTION),
            });
        }
    }

    /// How many fields are wrong.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first `limit` violations and, where there are more, one that says how many.
    pub fn first(&self, limit: usize) -> Vec<Violation> {
        let mut first: Vec<_> = self.listed.iter().take(limit).cloned().collect();
        let more = self.count - first.len();
        if more > 0 {
            first.push(Violation {
                field: String::new(),
                reason: Reason::More,
                description: format!("{}: correct the fields listed first", more_fields(more)),
            });
        }
        first
    }

    /// Goes on only when nothing is wrong.
    ///
    /// # Errors
    /// [`Error::FieldInvalid`] with everything noted.
    pub fn finish(self) -> Result<()> {
        if self.count == 0 {
            Ok(())
        } else {
            Err(Error::FieldInvalid(self))
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
            if index > 0 && written > SENTENCE {
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::wire::proto::FieldViolationReason;

    #[test]
    fn the_reasons_are_those_that_the_contract_documents() {
        let prefix = "FIELD_VIOLATION_REASON_";
        let documented: BTreeSet<_> = (1..1_000)
            .filter_map(|number| FieldViolationReason::try_from(number).ok())
            .map(|reason| reason.as_str_name().strip_prefix(prefix).unwrap())
            .collect();
        let ours: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(ours, documented);
    }

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
        assert_eq!(once.0.get(), LISTED);
        let first = violations.first(LISTED);
        assert_eq!(first.len(), LISTED + 1);
        assert!(first.iter().all(|violation| violation.field.len() <= FIELD));
        let last = &first[LISTED];
        assert_eq!((last.field.as_str(), last.reason), ("", Reason::More));
        assert!(last.description.starts_with("59980 more fields are wrong"));
        let sentence = violations.to_string();
        assert!(sentence.len() < 2 * SENTENCE, "{}", sentence.len());
        assert!(sentence.ends_with("more fields are wrong."), "{sentence}");
    }
}

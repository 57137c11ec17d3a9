//! Update masks of records with a few plain fields. Leads parse theirs themselves: it reaches into maps.

use std::fmt::Display;

use crate::core::bounded::Echo;
use crate::core::violations::{Reason, Violations};

/// The maximum number of paths in an update mask: more than any record has fields.
const MAX_PATHS: usize = 64;

/// The fields of a record that an update may name.
pub struct Fields {
    /// Those that it can change. Each is set as a whole.
    pub editable: &'static [&'static str],
    /// Those that only the service sets, or that never change.
    pub fixed: &'static [&'static str],
    /// Further ones that it cannot change, each with the end of a sentence that says what to do instead.
    pub elsewhere: &'static [(&'static str, &'static str)],
}

impl Fields {
    /// Parses a mask. Without one, the fields that `is_populated`.
    pub fn parse(
        &self,
        violations: &mut Violations,
        mask: Option<prost_types::FieldMask>,
        is_populated: impl Fn(&str) -> bool,
    ) -> Vec<&'static str> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        let editable = self.editable.iter().copied();
        if paths.is_empty() {
            return editable.filter(|field| is_populated(field)).collect();
        }
        if paths.len() > MAX_PATHS {
            let problem =
                format_args!("must have at most {MAX_PATHS} elements: list each field once");
            violations.add("update_mask.paths", Reason::TooMany, problem);
            return Vec::new();
        }
        let mut named = Vec::new();
        let mut is_all = false;
        for (index, path) in paths.iter().enumerate() {
            if path == "*" {
                is_all = true;
            } else if let Some(field) = editable.clone().find(|field| field == path) {
                named.push(field);
            } else {
                let field = format_args!("update_mask.paths[{index}]");
                self.refuse(violations, field, path);
            }
        }
        if is_all { editable.collect() } else { named }
    }

    /// Adds a violation that says why a path cannot be updated.
    fn refuse(&self, violations: &mut Violations, field: impl Display, path: &str) {
        let names = joined(self.editable);
        let top = path.split('.').next().unwrap_or_default();
        let echo = Echo(path);
        if let Some((_, instead)) = self.elsewhere.iter().find(|(name, _)| *name == top) {
            let problem = format_args!("is {echo}, {instead}");
            violations.add(field, Reason::FieldOutputOnly, problem);
        } else if self.fixed.contains(&path) {
            let problem = format_args!("is {echo}, which Update cannot change: it changes {names}");
            violations.add(field, Reason::FieldOutputOnly, problem);
        } else if self.editable.contains(&top) {
            let problem =
                format_args!("is {echo}, a part of a field that is set as a whole: name {top}");
            violations.add(field, Reason::FieldUnknown, problem);
        } else {
            let problem = format_args!("is {echo}, which is not a field: name {names}");
            violations.add(field, Reason::FieldUnknown, problem);
        }
    }
}

/// The names as a list in a sentence.
fn joined(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

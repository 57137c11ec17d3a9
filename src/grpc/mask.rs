//! Update masks of records with a few plain fields. Leads parse theirs themselves: it reaches into maps.

use crate::core::bounded::Echo;
use crate::core::violations::{Reason, Violations};

/// The maximum number of paths in an update mask: more than any record has fields.
const MAX_PATHS: usize = 64;

/// The fields of a record that an update may name.
pub struct Fields {
    /// Those that it can change.
    pub editable: &'static [&'static str],
    /// Those that only the service sets, or that never change.
    pub fixed: &'static [&'static str],
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
        for (index, path) in paths.iter().enumerate() {
            if path == "*" {
                return editable.collect();
            }
            if let Some(field) = editable.clone().find(|field| field == path) {
                named.push(field);
                continue;
            }
            let field = format_args!("update_mask.paths[{index}]");
            let names = self.editable.join(" and ");
            if self.fixed.contains(&path.as_str()) {
                let problem = format_args!(
                    "is {}, which Update cannot change: it changes {names}",
                    Echo(path)
                );
                violations.add(field, Reason::FieldOutputOnly, problem);
            } else {
                let problem = format_args!("is {}, which is not a field: name {names}", Echo(path));
                violations.add(field, Reason::FieldUnknown, problem);
            }
        }
        named
    }
}

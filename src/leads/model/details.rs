//! What can be edited of a lead, and how an update edits it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::email;
use crate::changes::FieldChange;
use crate::text::{Limit, fold, is_blank};
use crate::wire::violations::{Reason, Violations};

/// The caller's own fields, by key.
pub type CustomFields = BTreeMap<String, String>;

/// A postal address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "lead.proto describes them")]
pub struct Address {
    pub street: String,
    pub city: String,
    pub region: String,
    pub postal_code: String,
    pub country_code: String,
}

/// What can be edited of a lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "lead.proto describes them")]
pub struct Details {
    pub first_name: String,
    pub last_name: String,
    pub company: String,
    pub email: String,
    pub phone: String,
    pub fax: String,
    pub vat_id: String,
    pub address: Address,
    pub language: String,
    pub owner_id: String,
    pub source: String,
    pub custom_fields: CustomFields,
}

/// A text of a lead: how it is called, how long it may be, and where it is.
pub struct Field {
    /// Its path, as update masks and the history call it.
    pub path: &'static str,
    /// How long it may be.
    pub limit: Limit,
    get: fn(&Details) -> &String,
    get_mut: fn(&mut Details) -> &mut String,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path)
    }
}

impl Field {
    /// Its value.
    pub fn of<'a>(&self, details: &'a Details) -> &'a String {
        (self.get)(details)
    }

    /// Its value, to change it.
    pub fn of_mut<'a>(&self, details: &'a mut Details) -> &'a mut String {
        (self.get_mut)(details)
    }
}

macro_rules! fields {
    ($($path:literal $unit:ident $limit:expr, $($part:ident).+;)+) => {
        &[$(Field {
            path: $path,
            limit: Limit::$unit($limit),
            get: |details| &details.$($part).+,
            get_mut: |details| &mut details.$($part).+,
        },)+]
    };
}

/// Every text of a lead: validation, update masks and the history go by this table.
pub static FIELDS: &[Field] = fields! {
    "first_name" Characters 200, first_name;
    "last_name" Characters 200, last_name;
    "company" Characters 200, company;
    "email" Bytes email::LIMIT, email;
    "phone" Characters 32, phone;
    "fax" Characters 32, fax;
    "vat_id" Characters 32, vat_id;
    "address.street" Characters 500, address.street;
    "address.city" Characters 100, address.city;
    "address.region" Characters 100, address.region;
    "address.postal_code" Characters 20, address.postal_code;
    "address.country_code" Characters 2, address.country_code;
    "language" Characters 35, language;
    "owner_id" Characters 36, owner_id;
    "source" Characters 100, source;
};

/// How many custom fields a lead may have.
pub const CUSTOM_FIELDS: usize = 100;
/// How many characters a custom field's key may have.
pub const CUSTOM_KEY: usize = 64;
/// How many bytes a custom field's value may have.
pub const CUSTOM_VALUE: usize = 4_096;

/// Sets apart the texts a lead is found by, so that no query matches across two of them: it is a
/// control character, which neither a text nor a query can have.
const SEARCH_SEPARATOR: char = '\u{1}';

impl Details {
    fn is_named(&self) -> bool {
        [&self.first_name, &self.last_name, &self.company]
            .iter()
            .any(|name| !is_blank(name))
    }

    /// Notes what is wrong with the details as a whole.
    pub fn check_whole(&self, violations: &mut Violations) {
        if !self.is_named() {
            violations.add(
                "lead",
                Reason::Required,
                "needs a name: give at least one of first_name, last_name and company",
            );
        }
        self.check_custom_count(violations);
    }

    /// Notes when there are too many custom fields. Returns whether their number is within the limit.
    pub fn check_custom_count(&self, violations: &mut Violations) -> bool {
        let within = self.custom_fields.len() <= CUSTOM_FIELDS;
        if !within {
            let problem = format_args!("must have at most {CUSTOM_FIELDS} keys");
            violations.add("lead.custom_fields", Reason::TooMany, problem);
        }
        within
    }

    /// First and last name, with one blank between them.
    pub fn full_name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name)
            .trim()
            .to_owned()
    }

    /// What the lead is called: the full name, or else the company.
    pub fn display_name(&self) -> String {
        let name = self.full_name();
        if name.is_empty() {
            self.company.clone()
        } else {
            name
        }
    }

    /// The email as it is compared, see [`email::key`].
    pub fn email_key(&self) -> String {
        email::key(&self.email)
    }

    /// What the lead is found by, folded.
    pub fn search_text(&self) -> String {
        let texts = [&self.full_name(), &self.company, &self.email, &self.phone];
        let mut all = String::new();
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            if !all.is_empty() {
                all.push(SEARCH_SEPARATOR);
            }
            all.push_str(&fold(text));
        }
        all
    }

    /// How these details differ from `before`.
    pub fn changes_from(&self, before: &Self) -> Vec<FieldChange> {
        let mut found = Vec::new();
        for field in FIELDS {
            let (from, to) = (field.of(before), field.of(self));
            if from != to {
                found.push(FieldChange::new(field.path, from, to));
            }
        }
        let mut keys: Vec<&String> = before.custom_fields.keys().collect();
        keys.extend(self.custom_fields.keys());
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let text = |details: &Self| details.custom_fields.get(key).cloned().unwrap_or_default();
            let (from, to) = (text(before), text(self));
            if from != to {
                let path = format!("custom_fields.{key}");
                found.push(FieldChange::new(path, from, to));
            }
        }
        found
    }
}

/// What an update does to a lead's details.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Which texts to take over.
    pub fields: Vec<&'static Field>,
    /// Which custom fields to take over, or all of them.
    pub custom: CustomPatch,
    /// The new values.
    pub values: Details,
}

/// Which custom fields an update takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomPatch {
    /// All: those not given are removed.
    All,
    /// These: one that is not given is removed.
    Keys(Vec<String>),
}

impl Patch {
    /// The details after the update.
    pub fn apply(&self, before: &Details) -> Details {
        let mut after = before.clone();
        for field in &self.fields {
            field.of_mut(&mut after).clone_from(field.of(&self.values));
        }
        match &self.custom {
            CustomPatch::All => after.custom_fields.clone_from(&self.values.custom_fields),
            CustomPatch::Keys(keys) => {
                for key in keys {
                    match self.values.custom_fields.get(key) {
                        Some(value) => after.custom_fields.insert(key.clone(), value.clone()),
                        None => after.custom_fields.remove(key),
                    };
                }
            }
        }
        after
    }

    /// Whether the update names this field.
    pub fn names(&self, path: &str) -> bool {
        self.fields.iter().any(|field| field.path == path)
    }
}

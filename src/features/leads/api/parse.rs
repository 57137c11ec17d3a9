//! Parses a lead and an update mask.

use std::str::FromStr;

use uuid::Uuid;

use crate::commit::Target;
use crate::core::bounded::{Bare, Echo};
use crate::core::text::{self, Limit};
use crate::core::violations::{Reason, Violations};
use crate::features::leads::model::{
    Address, CustomPatch, Details, FIELDS, Field, MAX_CUSTOM_FIELDS, MAX_CUSTOM_KEY,
    MAX_CUSTOM_VALUE, Mask, Patch, email,
};
use crate::features::leads::{Convert, Join};
use crate::grpc::read;
use leadsmith_proto as proto;

const OUTPUT_ONLY: [&str; 7] = [
    "id",
    "etag",
    "create_time",
    "update_time",
    "deactivation",
    "conversion",
    "erasure",
];

/// Parses the fields of a new lead.
pub fn details(violations: &mut Violations, lead: Option<proto::Lead>) -> Details {
    let Some(lead) = lead else {
        violations.add("lead", Reason::Required, "is required");
        return Details::default();
    };
    let mut details = normalised(lead);
    for field in FIELDS {
        check(violations, field, &mut details);
    }
    if details.custom_fields.len() <= MAX_CUSTOM_FIELDS {
        check_custom(violations, &details, |_| true);
    }
    details.check_whole(violations);
    details
}

/// Parses the changes of an update.
pub fn patch(
    violations: &mut Violations,
    lead: proto::Lead,
    mask: Option<prost_types::FieldMask>,
) -> Patch {
    let values = normalised(lead);
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    let Mask { fields, custom } = if paths.is_empty() {
        populated(&values)
    } else {
        masked(violations, "update_mask", &paths)
    };
    let mut patch = Patch {
        fields,
        custom,
        values,
    };
    for field in &patch.fields {
        check(violations, field, &mut patch.values);
    }
    if patch.values.check_custom_count(violations) {
        check_custom(violations, &patch.values, |key| match &patch.custom {
            CustomPatch::All => true,
            CustomPatch::Keys(keys) => keys.iter().any(|named| named == key),
        });
    }
    patch
}

/// The fields to update if there is no mask: every field that has a value. A text that shows nothing counts
/// as empty.
fn populated(values: &Details) -> Mask {
    let fields = FIELDS
        .iter()
        .filter(|field| !field.of(values).is_empty())
        .collect();
    let keys = values.custom_fields.keys().cloned().collect();
    Mask {
        fields,
        custom: CustomPatch::Keys(keys),
    }
}

/// Parses the fields of a client to overwrite in a conversion; none if the mask is absent.
fn overwrite(violations: &mut Violations, mask: Option<prost_types::FieldMask>) -> Mask {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    masked(violations, "overwrite", &paths)
}

/// Parses the input of Convert.
pub fn convert(
    violations: &mut Violations,
    body: proto::ConvertLeadRequest,
    password: String,
) -> Convert {
    let id = read::id(violations, "id", &body.id);
    let names_client = !body.client_id.is_empty();
    let client_id = read::optional_id(violations, "client_id", &body.client_id);
    if client_id == Some(id) {
        violations.add(
            "client_id",
            Reason::ReferenceInvalid,
            "must not be the lead itself: leave it out to convert the lead to a client of its own",
        );
    }
    let names_fields = body
        .overwrite
        .as_ref()
        .is_some_and(|mask| !mask.paths.is_empty());
    let overwrite = overwrite(violations, body.overwrite);
    if names_fields && !names_client {
        violations.add(
            "overwrite",
            Reason::ValueNotAllowed,
            "must not be set without client_id: there is no client to overwrite",
        );
    }
    Convert {
        change: Target {
            id,
            etag: body.etag,
            validate_only: body.validate_only,
        },
        into: client_id.map(|client_id| Join {
            client_id,
            overwrite,
            current_password: (!password.is_empty()).then(|| password.into()),
        }),
    }
}

/// Parses the paths of the mask `name`.
fn masked(violations: &mut Violations, name: &str, paths: &[String]) -> Mask {
    let mut fields: Vec<&'static Field> = Vec::new();
    let mut keys = Vec::new();
    let mut all_custom = false;
    if paths.len() > MAX_MASK_PATHS {
        violations.add(
            format_args!("{name}.paths"),
            Reason::TooMany,
            format_args!("must have at most {MAX_MASK_PATHS} elements: list each field once, or * for all fields"),
        );
        return Mask::default();
    }
    for (index, path) in paths.iter().enumerate() {
        let field = format_args!("{name}.paths[{index}]");
        match path.as_str() {
            "*" => {
                fields.extend(FIELDS);
                all_custom = true;
            }
            "address" => {
                fields.extend(
                    FIELDS
                        .iter()
                        .filter(|field| field.path.starts_with("address.")),
                );
            }
            "custom_fields" => all_custom = true,
            path => {
                if let Some(key) = path.strip_prefix("custom_fields.") {
                    if is_custom_key(key) {
                        keys.push(key.to_owned());
                    } else {
                        let problem = format_args!("is {}: {CUSTOM_KEY_RULE}", Echo(path));
                        violations.add(field, Reason::FormatInvalid, problem);
                    }
                } else if let Some(field) = FIELDS.iter().find(|field| field.path == path) {
                    fields.push(field);
                } else {
                    let (reason, problem) = problem(path);
                    violations.add(field, reason, format_args!("is {}, {problem}", Echo(path)));
                }
            }
        }
    }
    fields.sort_unstable_by_key(|field| field.path);
    fields.dedup_by_key(|field| field.path);
    let custom = if all_custom {
        CustomPatch::All
    } else {
        CustomPatch::Keys(keys)
    };
    Mask { fields, custom }
}

/// Why a path cannot be updated.
fn problem(path: &str) -> (Reason, &'static str) {
    let top = path.split('.').next().unwrap_or_default();
    if top == "state" {
        (
            Reason::FieldOutputOnly,
            "which only Deactivate, Reactivate, Convert and RevertConversion can change: call one of these RPCs",
        )
    } else if OUTPUT_ONLY.contains(&top) {
        (
            Reason::FieldOutputOnly,
            "which is output only: remove the path",
        )
    } else {
        (
            Reason::FieldUnknown,
            "which is not a field of a lead: use the names in lead.proto, such as address.city",
        )
    }
}

/// Normalises the texts. For custom fields, only the line ends are normalised. A custom field that shows
/// nothing counts as absent.
fn normalised(lead: proto::Lead) -> Details {
    let address = lead.address.unwrap_or_default();
    let custom = lead.custom_fields.into_iter();
    let mut details = Details {
        first_name: lead.first_name,
        last_name: lead.last_name,
        company: lead.company,
        email: lead.email,
        phone: lead.phone,
        fax: lead.fax,
        vat_id: lead.vat_id,
        address: Address {
            street: address.street,
            city: address.city,
            region: address.region,
            postal_code: address.postal_code,
            country_code: address.country_code,
        },
        language: lead.language,
        owner_id: lead.owner_id,
        source: lead.source,
        custom_fields: custom
            .filter(|(_, value)| !text::is_blank(value))
            .map(|(key, value)| (key, text::with_line_feeds(&value)))
            .collect(),
    };
    for field in FIELDS {
        let value = field.of_mut(&mut details);
        *value = text::clean(value);
    }
    details
}

/// Checks one text field, and normalises the spelling of an id.
fn check(violations: &mut Violations, field: &Field, details: &mut Details) {
    let name = format!("lead.{}", field.path);
    let before = violations.count();
    let value = field.of_mut(details);
    read::check_text(violations, &name, value, field.limit);
    if value.is_empty() || violations.count() > before {
        return;
    }
    match field.path {
        "email" => {
            if let Some((reason, problem)) = email::problem(value) {
                violations.add(name, reason, problem);
            }
        }
        "address.country_code" => read::country(violations, &name, value),
        "language" if oxilangtag::LanguageTag::parse(value.as_str()).is_err() => violations.add(
            name,
            Reason::FormatInvalid,
            "must be a BCP 47 language tag, such as pt-BR",
        ),
        "owner_id" => match Uuid::from_str(value) {
            Ok(id) => *value = id.to_string(),
            Err(_) => violations.add(
                name,
                Reason::FormatInvalid,
                "must be an operator's id, a UUID",
            ),
        },
        _ => {}
    }
}

const CUSTOM_KEY_RULE: &str = "the key must be 1 to 64 characters of a-z, 0-9 and _";

/// The maximum number of paths in an update mask: enough for every field of a lead with all its custom
/// fields, and as many custom fields again, to remove them.
const MAX_MASK_PATHS: usize = 256;

fn is_custom_key(key: &str) -> bool {
    (1..=MAX_CUSTOM_KEY).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn check_custom(violations: &mut Violations, details: &Details, used: impl Fn(&str) -> bool) {
    for (key, value) in details.custom_fields.iter().filter(|(key, _)| used(key)) {
        let name = format_args!("lead.custom_fields[{}]", Bare(key));
        if !is_custom_key(key) {
            violations.add(name, Reason::FormatInvalid, CUSTOM_KEY_RULE);
            continue;
        }
        read::check_text(violations, name, value, Limit::Bytes(MAX_CUSTOM_VALUE));
    }
}

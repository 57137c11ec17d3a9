//! What a client gets from a lead, and what a reversal gives back.

use super::super::CustomPatch;
use super::*;

fn details(phone: &str, city: &str, custom: &[(&str, &str)]) -> Details {
    let mut details = Details {
        last_name: "Lovelace".to_owned(),
        phone: phone.to_owned(),
        ..Details::default()
    };
    city.clone_into(&mut details.address.city);
    let custom = custom.iter();
    details.custom_fields = custom
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    details
}

fn outcomes(merge: &Merge) -> Vec<(&str, Outcome)> {
    let outcomes = merge.outcomes.iter();
    outcomes
        .map(|field| (field.field.as_str(), field.outcome))
        .collect()
}

#[test]
fn empty_fields_are_filled_and_others_stay_unless_they_are_named() {
    let lead = details("1", "London", &[("a", "1"), ("b", "2")]);
    let client = details("2", "", &[("a", "9")]);
    let merge = Merge::into_client(&lead, &client, &Mask::default());
    assert_eq!(
        merge.details,
        details("2", "London", &[("a", "9"), ("b", "2")])
    );
    assert_eq!(
        outcomes(&merge),
        [
            ("last_name", Outcome::Kept),
            ("phone", Outcome::Kept),
            ("address.city", Outcome::Carried),
            ("custom_fields.a", Outcome::Kept),
            ("custom_fields.b", Outcome::Carried),
        ]
    );
    assert_eq!(restored(&merge.details, &merge.carried), client);

    let all = Mask {
        fields: FIELDS.iter().collect(),
        custom: CustomPatch::All,
    };
    let merge = Merge::into_client(&lead, &client, &all);
    assert_eq!(merge.details, lead);
    assert_eq!(restored(&merge.details, &merge.carried), client);
}

#[test]
fn a_field_without_a_value_overwrites_nothing() {
    let (lead, client) = (details("", "", &[]), details("2", "Paris", &[("a", "9")]));
    let all = Mask {
        fields: FIELDS.iter().collect(),
        custom: CustomPatch::All,
    };
    let merge = Merge::into_client(&lead, &client, &all);
    assert_eq!(merge.details, client);
    assert_eq!(merge.carried, []);
}

#[test]
fn what_somebody_changed_since_is_not_restored() {
    let lead = details("1", "London", &[("a", "1")]);
    let client = details("", "", &[]);
    let mut merge = Merge::into_client(&lead, &client, &Mask::default());
    "3".clone_into(&mut merge.details.phone);
    let restored = restored(&merge.details, &merge.carried);
    assert_eq!(restored, details("3", "", &[]));
}

#[test]
fn custom_fields_beyond_the_limit_are_dropped_and_named_ones_still_overwrite() {
    let keys: Vec<String> = (0..100).map(|number| format!("k{number:03}")).collect();
    let full: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "x")).collect();
    let client = details("", "", &full);
    let lead = details("", "", &[("k005", "y"), ("new", "z")]);
    let named = Mask {
        fields: Vec::new(),
        custom: CustomPatch::Keys(vec!["k005".to_owned(), "new".to_owned()]),
    };
    let merge = Merge::into_client(&lead, &client, &named);
    assert_eq!(
        outcomes(&merge),
        [
            ("last_name", Outcome::Kept),
            ("custom_fields.k005", Outcome::Carried),
            ("custom_fields.new", Outcome::Dropped),
        ]
    );
    assert_eq!(merge.details.custom_fields.len(), MAX_CUSTOM_FIELDS);
    assert_eq!(merge.details.custom_fields["k005"], "y");
}

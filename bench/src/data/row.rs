//! The rows of a data set, in the schema of the first migrations. They do not use the service's code, because its
//! rules may change after that schema.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat};
use uuid::Uuid;

use super::ids::fnv1a;
use super::{BEGIN, Person, fold, lead_id, state};

/// A value of a row.
pub enum Cell {
    Null,
    Number(i64),
    Id(Uuid),
    Text(String),
}

/// The columns of [`row`].
pub const COLUMNS: &str = "seq, id, version, state, first_name, last_name, company, email, phone, \
                           fax, vat_id, street, city, region, postal_code, country_code, language, \
                           owner_id, source, custom_fields, last_name_key, company_key, email_key, \
                           deactivation_time, deactivation_actor, deactivation_reason, \
                           conversion_time, conversion_actor, create_time, update_time";

/// The items of every order.
pub const ITEMS: &str = r#"[{"description":"Virtual server, per month","quantity":2,"unit_price":{"currency_code":"EUR","units":19,"nanos":900000000}}]"#;

/// A row of `leads`.
pub fn row(number: u64, person: &Person) -> Result<[Cell; 30]> {
    let actor =
        r#"{"id": "018cc251-f400-7000-a800-000000000000", "kind": "OPERATOR", "name": "loader"}"#;
    let state = state(number);
    let created = BEGIN + number as i64;
    let update_time = time(created + (fnv1a(number) >> 30) as i64 % 2_592_000)?;
    let text = |text: &str| Cell::Text(text.to_owned());
    let when = |at: &str, value: &str| match state == at {
        true => Cell::Text(value.to_owned()),
        false => Cell::Null,
    };
    Ok([
        Cell::Number(number as i64),
        Cell::Id(lead_id(number)),
        Cell::Number(1),
        text(state),
        text(&person.first_name),
        text(&person.last_name),
        text(&person.company),
        text(&person.email),
        text(&person.phone),
        text(""),
        text(""),
        text(&person.street),
        text(&person.city),
        text(""),
        text(&person.postal_code),
        text(&person.country_code),
        text(&person.language),
        text(""),
        text(&person.source),
        Cell::Text(serde_json::to_string(&person.custom_fields)?),
        Cell::Text(fold(&person.last_name)),
        Cell::Text(fold(&person.company)),
        Cell::Text(person.email.clone()),
        when("DEACTIVATED", &update_time),
        when("DEACTIVATED", actor),
        when("DEACTIVATED", "No budget this year"),
        when("CONVERTED", &update_time),
        when("CONVERTED", actor),
        Cell::Text(time(created)?),
        Cell::Text(update_time),
    ])
}

/// The actions of an order whose only action is in this state.
pub fn actions(state: &str) -> String {
    format!(
        r#"[{{"key":"provision-client","type":"PROVISION_CLIENT","name":"Provision Client","automatic":false,"prerequisites":[],"state":"{state}"}}]"#
    )
}

/// A time in seconds, in the format that SQLite stores and PostgreSQL parses.
pub fn time(seconds: i64) -> Result<String> {
    let time = DateTime::from_timestamp(seconds, 0).context("a time")?;
    Ok(time.to_rfc3339_opts(SecondsFormat::AutoSi, false))
}

/// All distinct trigrams, hashed to 32 bits (FNV-1a). An array index finds a text by them.
pub fn trigrams(text: &str) -> BTreeSet<i32> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .windows(3)
        .map(|run| {
            let hash = run.iter().fold(0x811c_9dc5_u32, |hash, character| {
                (hash ^ u32::from(*character)).wrapping_mul(0x0100_0193)
            });
            hash.cast_signed()
        })
        .collect()
}

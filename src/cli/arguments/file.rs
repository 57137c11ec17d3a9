//! The configuration file: TOML, with the names of the flags as keys.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::environment::{read_secret, read_text};
use super::{Given, Origin, Settings, is_secret, nearest, validate};
use crate::config::{StartupError, has_secret};

/// The flag that names the file, and so is not a key of it.
const OWN_FLAG: &str = "config";

/// The ending of a key that names the file with a secret.
const FILE_KEY: &str = "-file";

/// The read permission of users that are neither the owner nor of the group.
const OTHERS_READ: u32 = 0o004;

/// Reads the values of a file, and validates each of them.
///
/// # Errors
/// A sentence that names the file, and the line and the key that is wrong.
pub fn read(path: &Path, settings: &Settings) -> Result<BTreeMap<String, Given>, StartupError> {
    let text = read_text(path, "--config")?;
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let place = |at: usize| format!("{}, line {}", path.display(), line(at));
    let table = DeTable::parse(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        // The message does not contain the text, which may be a secret.
        StartupError::settings(format!(
            "{} is not TOML ({}): write NAME = VALUE, with quotes around text",
            place(at),
            error.message()
        ))
    })?;
    let mut given = BTreeMap::new();
    for (key, value) in table.get_ref() {
        let (name, place) = (key.get_ref().as_ref(), place(key.span().start));
        let text = as_text(value.get_ref()).ok_or_else(|| {
            StartupError::settings(format!(
                "{name} in {place} must be a text, a number, true or false: settings have no sections and no lists"
            ))
        })?;
        let plain = name.strip_suffix(FILE_KEY);
        let secret = plain.filter(|plain| settings.get(*plain).is_some_and(is_secret));
        let (name, value) = match secret {
            Some(plain) => (
                plain,
                read_secret(Path::new(text.trim()), &format!("{name} in {place}"))?,
            ),
            None => (name, text),
        };
        let Some(setting) = settings.get(name).filter(|_| name != OWN_FLAG) else {
            return Err(unknown(name, &place, settings));
        };
        validate(setting, &value, &format!("{name} in {place}"))?;
        if secret.is_none() && is_secret(setting) && has_secret(&value) {
            check_permissions(path, name, &place)?;
        }
        let (value, origin) = (value, Origin::File);
        if given
            .insert(name.to_owned(), Given { value, origin })
            .is_some()
        {
            return Err(StartupError::settings(format!(
                "{} has both {name} and {name}{FILE_KEY}: remove one of them",
                path.display()
            )));
        }
    }
    Ok(given)
}

/// A value as the text that a flag would have.
pub fn as_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        // With its prefix, which no setting accepts.
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn unknown(name: &str, place: &str, settings: &Settings) -> StartupError {
    let known = settings
        .keys()
        .map(String::as_str)
        .filter(|name| *name != OWN_FLAG);
    // A flag is written with underscores by mistake at least as often as with a wrong letter.
    let hint = match nearest(&name.replace('_', "-").to_lowercase(), known) {
        Some(nearest) => format!("{nearest} has a similar name"),
        None => "its keys are the flags that leadsmith serve --help lists, without the dashes before them".to_owned(),
    };
    StartupError::settings(format!("{name:?} in {place} is not a setting: {hint}"))
}

/// Refuses a file with a secret that every user of the machine can read.
fn check_permissions(path: &Path, name: &str, place: &str) -> Result<(), StartupError> {
    let mode = path.metadata().map_or(0, |metadata| metadata.mode());
    if mode & OTHERS_READ == 0 {
        return Ok(());
    }
    Err(StartupError::settings(format!(
        "{name} in {place} has a password, and every user of this machine can read the file: run chmod 600 {}, or \
         name a file with the URL by {name}{FILE_KEY}",
        path.display()
    )))
}

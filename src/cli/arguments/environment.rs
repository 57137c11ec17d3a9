//! The environment variables that clap does not read: those that name a file with a secret, and those that nobody
//! knows.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;

use super::{Given, Origin, Settings, is_secret, is_set, nearest, validate};
use crate::config::StartupError;
use crate::core::text::printable;

const PREFIX: &str = "LEADSMITH_";

/// The largest file that is read for a setting, in bytes.
const LARGEST_FILE: u64 = 64 * 1024;

/// The variable of a setting.
pub fn variable(setting: &str) -> String {
    format!("{PREFIX}{}", setting.replace('-', "_").to_uppercase())
}

/// The variable that names the file with a secret.
fn file_variable(setting: &str) -> String {
    format!("{}_FILE", variable(setting))
}

/// The secrets that files contain, which variables name.
///
/// # Errors
/// If both the secret and its file are set, the file cannot be read, or the secret is invalid.
pub fn secrets(settings: &Settings) -> Result<BTreeMap<String, Given>, StartupError> {
    let mut secrets = BTreeMap::new();
    for (name, setting) in settings.iter().filter(|(_, setting)| is_secret(setting)) {
        let (plain, file) = (variable(name), file_variable(name));
        if !is_set(file.as_ref()) {
            continue;
        }
        if is_set(plain.as_ref()) {
            return Err(StartupError::settings(format!(
                "{plain} and {file} are both set: unset one of them"
            )));
        }
        let path = env::var_os(&file).unwrap_or_default();
        let path = path.to_string_lossy();
        let value = read_secret(Path::new(path.trim()), &file)?;
        validate(setting, &value, &format!("{file}, in {}", path.trim()))?;
        secrets.insert(
            name.clone(),
            Given {
                value,
                origin: Origin::Environment,
            },
        );
    }
    Ok(secrets)
}

/// Reads a secret from a file, without the one line end that editors and `echo` add.
pub fn read_secret(path: &Path, setting: &str) -> Result<String, StartupError> {
    let text = read_text(path, setting)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(StartupError::settings(format!(
            "the file {} of {setting} is empty: write the secret into it",
            path.display()
        )));
    }
    Ok(text.to_owned())
}

/// Reads a text file of at most 64 KiB, which may be a pipe.
pub fn read_text(path: &Path, setting: &str) -> Result<String, StartupError> {
    let unreadable = |why: &dyn std::fmt::Display| {
        StartupError::settings(format!(
            "the file {} of {setting} cannot be read ({why}): check its name, its permissions and its content",
            path.display()
        ))
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    let read = opened.take(LARGEST_FILE + 1).read_to_end(&mut bytes);
    if read.map_err(|error| unreadable(&error))? as u64 > LARGEST_FILE {
        return Err(unreadable(&format!(
            "it is larger than {LARGEST_FILE} bytes"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

/// A sentence for each variable that has the prefix and is no setting.
pub fn unknown(settings: &Settings) -> Vec<String> {
    let mut known: Vec<String> = settings.keys().map(|name| variable(name)).collect();
    let secret = settings.iter().filter(|(_, setting)| is_secret(setting));
    known.extend(secret.map(|(name, _)| file_variable(name)));
    let mut unknown: Vec<_> = env::vars_os()
        .filter_map(|(name, _)| OsString::into_string(name).ok())
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
        .filter(|name| !is_of_a_service_link(name))
        .collect();
    unknown.sort();
    let sentence = |name: &String| printable(&sentence(name, &known));
    unknown.iter().map(sentence).collect()
}

fn sentence(name: &str, known: &[String]) -> String {
    let rest = |name: &'_ str| name.strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let names: Vec<String> = known.iter().map(|name| rest(name)).collect();
    match nearest(&rest(name), names.iter().map(String::as_str)) {
        Some(nearest) => format!(
            "the variable {name} is not a setting and has no effect: {PREFIX}{nearest} has a similar name"
        ),
        None => format!(
            "the variable {name} is not a setting and has no effect: leadsmith serve --help lists the settings"
        ),
    }
}

/// Whether Kubernetes sets such a variable for a service whose name begins with `leadsmith`.
fn is_of_a_service_link(name: &str) -> bool {
    let is_port = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(is_port)
}

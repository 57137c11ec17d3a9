//! Renders settings as text for `leadsmith config`. Secrets are hidden here, so that no caller can
//! forget to do so.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// A setting's name and its value as text, with secrets hidden.
pub type Described = (&'static str, String);

/// Whether a database URL contains something that is hidden.
pub fn has_secret(url: &str) -> bool {
    redact_url(&url.into()) != url
}

/// Hides the password and the parameters of a database URL, because both may contain secrets.
pub(super) fn redact_url(url: &SecretString) -> String {
    let url = url.expose_secret();
    let (url, parameters) = match url.split_once('?') {
        Some((url, _)) => (url, "?…"),
        None => (url, ""),
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // The last @ is the separator, because a password may contain an unencoded @.
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user
                .split_once(':')
                .map_or(user.to_owned(), |(name, _)| format!("{name}:…"));
            format!("{scheme}://{user}@{host}{parameters}")
        }
        None => format!("{scheme}://{rest}{parameters}"),
    }
}

/// Where a database is, without user, password and parameters: the file, or `HOST/DATABASE`.
pub fn location(url: &SecretString) -> String {
    let url = url.expose_secret();
    let url = url.split_once('?').map_or(url, |(url, _)| url);
    let (_, rest) = url.split_once(':').unwrap_or(("", url));
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    match url.starts_with("sqlite:") {
        true => rest.to_owned(),
        false => rest
            .rsplit_once('@')
            .map_or(rest, |(_, host)| host)
            .to_owned(),
    }
}

pub(super) fn file(path: &Option<PathBuf>) -> String {
    path.as_ref()
        .map_or_else(String::new, |path| path.display().to_string())
}

pub(super) fn in_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

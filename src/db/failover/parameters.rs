//! The parameters of a PostgreSQL URL.
//!
//! Every parameter has an effect or is refused. The driver would ignore those that it does not know, so a mistyped
//! `sslmode`, or a protection that only libpq has, would silently be missing. This module only checks: the driver reads
//! the values.

use std::borrow::Cow;
use std::fs::File;

use form_urlencoded::Serializer;

use crate::config::StartupError;

/// The parameters that have an effect, with the driver's other names for some of them.
const KNOWN: [(&str, &[&str]); 13] = [
    ("sslmode", &["ssl-mode"]),
    ("sslrootcert", &["ssl-root-cert", "ssl-ca"]),
    ("sslcert", &["ssl-cert"]),
    ("sslkey", &["ssl-key"]),
    ("target_session_attrs", &[]),
    ("host", &[]),
    ("hostaddr", &[]),
    ("port", &[]),
    ("dbname", &[]),
    ("user", &[]),
    ("password", &[]),
    ("application_name", &[]),
    ("options", &[]),
];

/// The other parameters of libpq, which concern security.
const PROTECTIONS: [&str; 15] = [
    "channel_binding",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "require_auth",
    "requirepeer",
    "requiressl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "sslpassword",
];

const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/// How similar a parameter must be to a known one to be taken for it mistyped.
const SIMILAR: f64 = 0.6;

/// The parameters of a URL.
pub struct Parameters {
    /// Those that the driver reads, in the form in which they stand in a URL.
    pub for_driver: String,
    /// Whether they say how the connection is encrypted.
    pub names_ssl_mode: bool,
    /// Whether they say which authorities may have signed the server's certificate.
    pub names_authority: bool,
}

impl Parameters {
    /// Checks what follows the question mark in a URL.
    ///
    /// # Errors
    /// A message that names the wrong parameter. It contains no value of a parameter that may be secret.
    pub fn parse(query: &str) -> Result<Self, StartupError> {
        let mut given: Vec<(&'static str, Cow<'_, str>)> = Vec::new();
        let mut kept = Serializer::new(String::new());
        for (index, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
            let Some(known) = known(&name) else {
                return Err(unknown(query, index + 1, &name));
            };
            if known != "options" && given.iter().any(|(name, _)| *name == known) {
                return Err(refused(format!("has {known} more than once: keep one")));
            }
            if known != "target_session_attrs" {
                kept.append_pair(&name, &value);
            }
            given.push((known, value));
        }
        let parameters = Given(given);
        parameters.check_target()?;
        parameters.check_tls()?;
        Ok(Self {
            for_driver: kept.finish(),
            names_ssl_mode: parameters.value("sslmode").is_some(),
            names_authority: parameters.value("sslrootcert").is_some(),
        })
    }
}

/// The name of a parameter that has an effect.
fn known(name: &str) -> Option<&'static str> {
    if name.starts_with("options[") && name.ends_with(']') {
        return Some("options");
    }
    let known = KNOWN
        .iter()
        .find(|(known, others)| *known == name || others.contains(&name));
    known.map(|(known, _)| *known)
}

fn refused(why: impl std::fmt::Display) -> StartupError {
    StartupError::settings(format!("the database URL {why}"))
}

/// The error for a parameter that has no effect.
fn unknown(query: &str, position: usize, name: &str) -> StartupError {
    if PROTECTIONS.contains(&name) {
        return refused(format!(
            "has the parameter {name}, which Leadsmith does not support, so the connection would lack that protection: \
             remove it, and use sslmode=verify-full"
        ));
    }
    let similarity = |known: &&str| strsim::normalized_damerau_levenshtein(name, known);
    let names = KNOWN.iter().map(|(name, _)| *name);
    let nearest = names
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
        .filter(|known| similarity(known) >= SIMILAR);
    match nearest {
        Some(known) => refused(format!(
            "has the unknown parameter {name}: did you mean {known}?"
        )),
        None if may_show(query, name) => refused(format!(
            "has the parameter {name}, which has no effect in Leadsmith: remove it"
        )),
        None => refused(format!(
            "has a parameter that is unknown, the {position}. after the question mark: remove it, or, if it is a part of \
             a password, percent-encode the ?, & and @ in the password"
        )),
    }
}

/// Whether a name cannot be a part of a password whose special characters were not encoded.
fn may_show(query: &str, name: &str) -> bool {
    let is_name = |character: char| character.is_ascii_lowercase() || character == '_';
    !query.contains('@')
        && !query.contains("password")
        && name.len() <= 40
        && name.chars().all(is_name)
}

struct Given<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl Given<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let given = self.0.iter().find(|(known, _)| *known == name);
        given.map(|(_, value)| value.as_ref())
    }

    fn check_target(&self) -> Result<(), StartupError> {
        match self.value("target_session_attrs") {
            None | Some("read-write" | "primary") => Ok(()),
            Some(_) => Err(refused(
                "must have target_session_attrs=read-write or primary, because the service writes to the database",
            )),
        }
    }

    fn check_tls(&self) -> Result<(), StartupError> {
        let mode = self.value("sslmode");
        if mode.is_some_and(|mode| !SSL_MODES.contains(&mode)) {
            return Err(refused(format!(
                "must have one of these as sslmode: {}",
                SSL_MODES.join(", ")
            )));
        }
        for (name, other) in [("sslcert", "sslkey"), ("sslkey", "sslcert")] {
            if self.value(name).is_some() && self.value(other).is_none() {
                return Err(refused(format!("has {name} without {other}: add it")));
            }
        }
        let unchecked = matches!(mode, Some("disable" | "prefer" | "require"));
        for name in ["sslrootcert", "sslcert", "sslkey"] {
            let Some(file) = self.value(name) else {
                continue;
            };
            if mode == Some("disable") || (unchecked && name == "sslrootcert") {
                return Err(refused(format!(
                    "has {name}, which has no effect with its sslmode: use sslmode=verify-full"
                )));
            }
            // The driver also accepts the certificate itself.
            if !file.starts_with("-----BEGIN")
                && let Err(error) = File::open(file)
            {
                return Err(refused(format!(
                    "names a file by {name} that cannot be read ({error}): check its path and its permissions"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Parameters;

    fn refused(query: &str) -> String {
        let refusal = Parameters::parse(query).err();
        refusal.map_or_else(|| format!("{query} is accepted"), |error| error.to_string())
    }

    #[test]
    fn parameters_without_effect_are_refused_by_name() {
        for (query, why) in [
            (
                "sslmod=verify-full",
                "parameter sslmod: did you mean sslmode?",
            ),
            ("SSLMODE=disable", "a parameter that is unknown, the 1."),
            ("sslrootcrt=/ca", "did you mean sslrootcert?"),
            ("ssl_mode=require", "did you mean sslmode?"),
            (
                "channel_binding=require",
                "the parameter channel_binding, which",
            ),
            ("sslcrl=/x", "the parameter sslcrl, which"),
            (
                "ssl_min_protocol_version=TLSv1.3",
                "the parameter ssl_min_protocol_version",
            ),
            (
                "connect_timeout=3",
                "the parameter connect_timeout, which has no effect",
            ),
            (
                "sslmode=verify_full",
                "one of these as sslmode: disable, prefer",
            ),
            ("sslmode=allow", "one of these as sslmode"),
            ("sslmode=", "one of these as sslmode"),
            ("sslmode=require&sslmode=disable", "sslmode more than once"),
            (
                "sslmode=verify-ca&ssl-mode=disable",
                "sslmode more than once",
            ),
            (
                "sslmode=verify-ca&ssl%6Dode=disable",
                "sslmode more than once",
            ),
            ("sslcert=/c", "sslcert without sslkey"),
            ("sslkey=/k", "sslkey without sslcert"),
            (
                "sslrootcert=/etc/passwd&sslmode=require",
                "sslrootcert, which has no effect",
            ),
            (
                "sslcert=/c&sslkey=/k&sslmode=disable",
                "sslcert, which has no effect",
            ),
            (
                "sslrootcert=/no/such/file",
                "by sslrootcert that cannot be read",
            ),
            (
                "target_session_attrs=standby",
                "target_session_attrs=read-write",
            ),
        ] {
            let error = refused(query);
            assert!(error.contains(why), "{query}: {error}");
        }
    }

    #[test]
    fn what_may_be_a_part_of_a_password_is_not_shown() {
        for query in [
            "hunter=2@db.example/leads",
            "password=abc&hunter=2",
            "Hunter2",
            "hunter%202=x",
        ] {
            let error = refused(query);
            assert!(!error.to_lowercase().contains("hunter"), "{error}");
            assert!(error.contains("percent-encode"), "{error}");
        }
    }

    #[test]
    fn the_driver_gets_the_others() {
        let query = "application_name=a%20b&target_session_attrs=primary&options[search_path]=x&options=-cwork_mem=8MB";
        let parameters = Parameters::parse(query).unwrap();
        let kept = "application_name=a+b&options%5Bsearch_path%5D=x&options=-cwork_mem%3D8MB";
        assert_eq!(parameters.for_driver, kept);
        assert!(!parameters.names_ssl_mode && !parameters.names_authority);
        let parameters = Parameters::parse("ssl-ca=/etc/passwd&sslmode=verify-ca").unwrap();
        assert!(parameters.names_ssl_mode && parameters.names_authority);
        assert_eq!(Parameters::parse("").unwrap().for_driver, "");
    }
}

//! Parsers for the values of settings. Surrounding whitespace is removed, and every number has a range.
//!
//! The parsers know no setting, so that a setting and a flag of a command are parsed in the same way.

use std::ffi::OsStr;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{
    BoolValueParser, EnumValueParser, NonEmptyStringValueParser, PathBufValueParser, PossibleValue,
    TypedValueParser,
};
use clap::{Arg, Command, ValueEnum};
use secrecy::SecretString;

use super::{AdminListen, TracesEndpoint};

/// Removes the spaces and line ends around a value. Files and shells add them, and a database URL with a trailing
/// space would name another database.
#[derive(Clone)]
pub struct Trimmed<P>(P);

impl<P: TypedValueParser> TypedValueParser for Trimmed<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<P::Value, clap::Error> {
        self.0.parse_ref(command, arg, trim(value))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

fn trim(value: &OsStr) -> &OsStr {
    OsStr::from_bytes(value.as_bytes().trim_ascii())
}

/// Whether a value contains only spaces and line ends.
pub fn is_blank(value: &OsStr) -> bool {
    trim(value).is_empty()
}

/// Parses a file name.
pub fn file() -> Trimmed<PathBufValueParser> {
    Trimmed(PathBufValueParser::new())
}

/// Parses any text that is not empty.
pub fn text() -> Trimmed<NonEmptyStringValueParser> {
    Trimmed(NonEmptyStringValueParser::new())
}

/// Parses a text that is never printed.
pub fn secret() -> Trimmed<impl TypedValueParser<Value = SecretString>> {
    Trimmed(NonEmptyStringValueParser::new().map(SecretString::from))
}

/// Parses `true` or `false`.
pub fn boolean() -> Trimmed<BoolValueParser> {
    Trimmed(BoolValueParser::new())
}

/// Parses one of the words of `T`.
pub fn word<T: ValueEnum + Clone + Send + Sync + 'static>() -> Trimmed<EnumValueParser<T>> {
    Trimmed(EnumValueParser::new())
}

/// A parser that calls `parse` without the surrounding whitespace.
fn parser<T: Clone + Send + Sync + 'static>(
    parse: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> Trimmed<impl TypedValueParser<Value = T>> {
    Trimmed(parse)
}

/// Parses a whole number in this range.
pub fn number<N>(range: RangeInclusive<N>) -> Trimmed<impl TypedValueParser<Value = N>>
where
    N: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    parser(move |text| {
        // A number that does not fit into N is out of range too.
        let value = text.parse().ok().filter(|value| range.contains(value));
        value.ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
    })
}

/// Parses a log level.
pub fn level() -> Trimmed<impl TypedValueParser<Value = tracing::Level>> {
    let levels = "error, warn, info, debug or trace";
    parser(move |text| text.parse().map_err(|_| levels.to_owned()))
}

/// Parses an IP address and a port.
pub fn address() -> Trimmed<impl TypedValueParser<Value = SocketAddr>> {
    let wrong = "an IP address and a port, such as 127.0.0.1:50051 or [::]:50051";
    parser(move |text| text.parse().map_err(|_| wrong.to_owned()))
}

/// Parses an IP address and a port, `auto` or `off`.
pub fn admin_listen() -> Trimmed<impl TypedValueParser<Value = AdminListen>> {
    let wrong = "an IP address and a port, such as 127.0.0.1:9464 or [::]:9464, or auto, or off";
    parser(move |text| match text {
        "off" => Ok(AdminListen::Off),
        "auto" => Ok(AdminListen::Auto),
        _ => match text.parse() {
            Ok(address) => Ok(AdminListen::Address(address)),
            Err(_) => Err(wrong.to_owned()),
        },
    })
}

/// Parses the URL of a collector, or `off`. The URL is checked later, because an error here would show it, and a password
/// may have been put into it.
pub fn optional_endpoint() -> Trimmed<impl TypedValueParser<Value = TracesEndpoint>> {
    Trimmed(
        NonEmptyStringValueParser::new().map(|text| match text.as_str() {
            "off" => TracesEndpoint(None),
            _ => TracesEndpoint(Some(text)),
        }),
    )
}

/// Parses a share from 0 to 1.
pub fn share() -> Trimmed<impl TypedValueParser<Value = f64>> {
    parser(|text| {
        let value = text
            .parse()
            .ok()
            .filter(|value| (0.0..=1.0).contains(value));
        value.ok_or_else(|| "a number from 0 to 1, such as 0.01".to_owned())
    })
}

/// Parses a number of seconds, at most one hour. The minimum is still at least a millisecond when it is halved,
/// because PostgreSQL treats a timeout of 0 as no timeout.
pub fn seconds() -> Trimmed<impl TypedValueParser<Value = Duration>> {
    parser(|text| {
        // Not a number is in no range.
        let value = text.parse::<f64>().ok();
        let value = value.filter(|value| (0.01..=3600.0).contains(value));
        let value = value.ok_or("a number of seconds from 0.01 to 3600, such as 2.5")?;
        Ok(Duration::from_secs_f64(value))
    })
}

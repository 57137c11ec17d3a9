//! How the text of a setting becomes its value: without the blanks around it, and within its range.

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

/// Leaves out the spaces and line ends around a value: files and shells add them, and a URL with one
/// behind it would name another database.
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

/// Whether there is nothing in a value but spaces and line ends.
pub fn is_blank(value: &OsStr) -> bool {
    trim(value).is_empty()
}

/// Reads the name of a file.
pub fn file() -> Trimmed<PathBufValueParser> {
    Trimmed(PathBufValueParser::new())
}

/// Reads any text that is not empty.
pub fn text() -> Trimmed<NonEmptyStringValueParser> {
    Trimmed(NonEmptyStringValueParser::new())
}

/// Reads a text that is never shown.
pub fn secret() -> Trimmed<impl TypedValueParser<Value = SecretString>> {
    Trimmed(NonEmptyStringValueParser::new().map(SecretString::from))
}

/// Reads `true` or `false`.
pub fn boolean() -> Trimmed<BoolValueParser> {
    Trimmed(BoolValueParser::new())
}

/// Reads one of the words of `T`.
pub fn word<T: ValueEnum + Clone + Send + Sync + 'static>() -> Trimmed<EnumValueParser<T>> {
    Trimmed(EnumValueParser::new())
}

/// Reads what `read` reads.
fn read<T: Clone + Send + Sync + 'static>(
    read: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> Trimmed<impl TypedValueParser<Value = T>> {
    Trimmed(read)
}

/// Reads a whole number of this range.
pub fn number<N>(range: RangeInclusive<N>) -> Trimmed<impl TypedValueParser<Value = N>>
where
    N: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    read(move |text| {
        // What does not fit into N is out of range too.
        let value = text.parse().ok().filter(|value| range.contains(value));
        value.ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
    })
}

/// Reads a level of the log.
pub fn level() -> Trimmed<impl TypedValueParser<Value = tracing::Level>> {
    let levels = "error, warn, info, debug or trace";
    read(move |text| text.parse().map_err(|_| levels.to_owned()))
}

/// Reads an IP address and a port.
pub fn address() -> Trimmed<impl TypedValueParser<Value = SocketAddr>> {
    let wrong = "an IP address and a port, such as 127.0.0.1:50051 or [::]:50051";
    read(move |text| text.parse().map_err(|_| wrong.to_owned()))
}

/// Reads a number of seconds, at most an hour. The least is what still counts in milliseconds when
/// halved: PostgreSQL takes a time of 0 for no limit at all.
pub fn seconds() -> Trimmed<impl TypedValueParser<Value = Duration>> {
    read(|text| {
        let value: f64 = text
            .parse()
            .map_err(|_| "a number of seconds, such as 2.5".to_owned())?;
        if (0.01..=3600.0).contains(&value) {
            Ok(Duration::from_secs_f64(value))
        } else {
            Err("at least 0.01 and at most 3600 seconds".to_owned())
        }
    })
}

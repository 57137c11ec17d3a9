//! Parses the command line, the environment and the configuration file. A flag takes precedence over a variable, a
//! variable over the file, and the file over a default.
//!
//! What clap does not know (the file, and variables that name a file with a secret) becomes the default of its flag,
//! after it was validated like a value of that flag. This module knows no single setting, so that a new one needs no
//! change here: a setting is a flag with a variable, and a secret is a setting whose variable is hidden.

mod environment;
mod file;
pub mod log_format;
mod origin;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use tracing::Level;

pub use origin::{Origin, Origins};

use super::Cli;
use super::output;
use crate::config::{StartupError, values};
use crate::telemetry::LogLevel;

/// What to do instead of running a command.
#[derive(Debug)]
pub enum Unreadable {
    /// Print the usage error, or the requested help or version.
    Usage(clap::Error),
    /// Print what is wrong with a setting that did not come from a flag.
    Settings(StartupError),
}

impl From<StartupError> for Unreadable {
    fn from(error: StartupError) -> Self {
        Self::Settings(error)
    }
}

/// A value that clap does not read itself.
struct Given {
    value: String,
    origin: Origin,
}

/// The settings of all commands, by the name of their flag without dashes.
type Settings = BTreeMap<String, Arg>;

impl Cli {
    /// Parses the arguments of this process, and the settings that are not given by them.
    ///
    /// # Errors
    /// What to print instead: the requested help or version, or what is wrong.
    pub fn read() -> Result<Self, Unreadable> {
        let settings = settings(&Self::command());
        let command = with_negative_numbers(without_blank_variables(Self::command()));
        // First without the file: the arguments say which file it is, and help must not need one.
        let matches = parse(command.clone())?;
        let mut given = BTreeMap::new();
        if let Some(path) = Self::from_matches(&matches)?.config {
            given = file::read(&path, &settings)?;
        }
        given.extend(environment::secrets(&settings)?);
        let matches = match given.is_empty() {
            true => matches,
            false => parse(with_defaults(command, &given))?,
        };
        let mut cli = Self::from_matches(&matches)?;
        cli.origins = Origins::new(&matches, &settings, &given);
        cli.unknown_variables = environment::unknown(&settings);
        Ok(cli)
    }

    fn from_matches(matches: &ArgMatches) -> Result<Self, Unreadable> {
        Self::from_arg_matches(matches).map_err(|error| Unreadable::Usage(name_variable(error)))
    }
}

/// Where the log level comes from while the program runs.
pub struct LevelSource {
    log: LogLevel,
    /// The configuration file, if it decides about the level.
    file: Option<PathBuf>,
}

impl LevelSource {
    /// `file` is the configuration file.
    pub fn new(log: LogLevel, file: Option<PathBuf>, origins: &Origins) -> Self {
        let decides = match origins.of("log") {
            Origin::Flag | Origin::Environment => false,
            Origin::File | Origin::Default => true,
        };
        Self {
            log,
            file: file.filter(|_| decides),
        }
    }

    /// Applies the level of the configuration file as it is now. A file that cannot be used changes nothing.
    pub fn reload(&self) {
        let Some(file) = &self.file else { return };
        match level_in_file(file) {
            Ok(level) => {
                self.log.set(level);
                tracing::info!(log = %level, "the log level was read from the configuration file again");
            }
            Err(error) => {
                tracing::warn!(%error, "the log level stays: the configuration file cannot be used");
            }
        }
    }
}

/// The log level in a configuration file, or the default.
fn level_in_file(path: &Path) -> Result<Level, StartupError> {
    let given = file::read(path, &settings(&Cli::command()))?;
    // The file was validated, so the value is a level.
    let level = given
        .get("log")
        .and_then(|given| given.value.trim().parse().ok());
    Ok(level.unwrap_or(Level::INFO))
}

fn parse(mut command: Command) -> Result<ArgMatches, Unreadable> {
    let matches = command.try_get_matches_from_mut(env::args_os());
    matches.map_err(|error| Unreadable::Usage(name_variable(error)))
}

/// The settings of a command and of its subcommands.
fn settings(command: &Command) -> Settings {
    let mut found = Settings::new();
    for argument in command.get_arguments() {
        if let (Some(name), Some(_)) = (argument.get_long(), argument.get_env()) {
            found.insert(name.to_owned(), argument.clone());
        }
    }
    for subcommand in command.get_subcommands() {
        found.extend(settings(subcommand));
    }
    found
}

/// Whether the value of a setting must not be shown.
fn is_secret(setting: &Arg) -> bool {
    setting.is_hide_env_values_set()
}

/// Whether the value of a variable is set to more than spaces and line ends: Compose files set variables to empty if
/// they have no value for them.
fn is_set(variable: &std::ffi::OsStr) -> bool {
    env::var_os(variable).is_some_and(|value| !values::is_blank(&value))
}

/// Ignores empty variables.
fn without_blank_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let value = arg.get_env().and_then(env::var_os);
        match value.is_some_and(|value| values::is_blank(&value)) {
            true => arg.env(None),
            false => arg,
        }
    });
    command.mut_subcommands(without_blank_variables)
}

/// Lets a flag have a negative number, so that the error names the range and not an unexpected argument `-1`.
fn with_negative_numbers(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    });
    command.mut_subcommands(with_negative_numbers)
}

fn with_defaults(command: Command, given: &BTreeMap<String, Given>) -> Command {
    let command = command.mut_args(
        |arg| match arg.get_long().and_then(|name| given.get(name)) {
            Some(given) => arg.default_value(given.value.clone()),
            None => arg,
        },
    );
    command.mut_subcommands(|subcommand| with_defaults(subcommand, given))
}

/// Checks a value of a setting. `place` says where it is.
fn validate(setting: &Arg, value: &str, place: &str) -> Result<(), StartupError> {
    let flag = setting.get_long().unwrap_or_default();
    let alone = Command::new("leadsmith").arg(setting.clone().env(None).global(false));
    let arguments = ["leadsmith".to_owned(), format!("--{flag}={value}")];
    let Err(error) = alone.try_get_matches_from(arguments) else {
        return Ok(());
    };
    let why = match (
        std::error::Error::source(&error),
        error.get(ContextKind::ValidValue),
    ) {
        (Some(why), _) => why.to_string(),
        (None, Some(ContextValue::Strings(words))) if !words.is_empty() => {
            format!("one of {}", words.join(", "))
        }
        _ => "a value that is not empty".to_owned(),
    };
    let shown = match is_secret(setting) {
        true => String::new(),
        false => format!(" {value:?}"),
    };
    Err(StartupError::settings(format!(
        "the value{shown} of {place} is invalid: it must be {why}"
    )))
}

/// The known name that was probably meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Settings that belong together begin with the same words, so an equal beginning counts more.
    let similarity = |known: &&str| strsim::jaro_winkler(name, known);
    let nearest = known.max_by(|one, other| similarity(one).total_cmp(&similarity(other)))?;
    (similarity(&nearest) >= 0.8).then_some(nearest)
}

/// Makes a usage error fit to be printed. An invalid value that no argument gave came from the environment: the error
/// then names the variable instead of a flag that the user did not give.
fn name_variable(mut error: clap::Error) -> clap::Error {
    let arguments: Vec<OsString> = env::args_os().collect();
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) {
        let flag = argument.split([' ', '=', '[']).next().unwrap_or_default();
        let is_given = arguments.iter().any(|given| {
            let given = given.to_string_lossy();
            given
                .strip_prefix(flag)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        });
        if !is_given && let Some(name) = flag.strip_prefix("--") {
            let variable = environment::variable(name);
            if env::var_os(&variable).is_some() {
                error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
            }
        }
    }
    output::printable_error(error)
}

//! Parses the command line and the environment.
//!
//! An empty environment variable counts as not set, and an error names the flag or the variable that the value came
//! from. This module knows no single setting, so that a new one needs no change here.

use std::env;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory, FromArgMatches};

use super::Cli;
use crate::config::values;

impl Cli {
    /// Parses the arguments of this process, and the environment variables for those that are not given.
    ///
    /// # Errors
    /// What to print instead: the usage error, or the requested help or version.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = without_blank_variables(Self::command());
        let matches = command.try_get_matches_from_mut(env::args_os());
        let cli = matches.and_then(|matches| Self::from_arg_matches(&matches));
        cli.map_err(|error| name_variable(error, &env::args_os().collect::<Vec<_>>()))
    }
}

/// Ignores empty variables, because Compose files set variables to empty if they have no value for them.
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

/// An invalid value that no argument gave came from the environment. The error then names the variable instead of
/// a flag that the user did not give.
fn name_variable(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let flag = argument.split([' ', '=', '[']).next().unwrap_or_default();
    let is_given = arguments.iter().any(|given| {
        let given = given.to_string_lossy();
        given
            .strip_prefix(flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    if !is_given && let Some(name) = flag.strip_prefix("--") {
        let variable = format!("LEADSMITH_{}", name.replace('-', "_").to_uppercase());
        if env::var_os(&variable).is_some() {
            error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
        }
    }
    error
}

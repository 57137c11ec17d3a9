//! Reads the command line and the environment: an empty variable is one that is not set, and an error
//! names what the value came from.

use std::env;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory, FromArgMatches};

use super::Cli;
use crate::config::values;

impl Cli {
    /// Reads the arguments of this process and the variables that stand for missing ones.
    ///
    /// # Errors
    /// What there is to print instead: what is wrong, or the help or version that was asked for.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = without_blank_variables(Self::command());
        let matches = command.try_get_matches_from_mut(env::args_os());
        let cli = matches.and_then(|matches| Self::from_arg_matches(&matches));
        cli.map_err(|error| name_variable(error, &env::args_os().collect::<Vec<_>>()))
    }
}

/// Composition files set variables they have no value for.
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

/// A wrong value that no argument gave came from the environment: the error names the variable in the
/// place of a flag that nobody used.
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

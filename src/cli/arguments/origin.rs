//! Where the value of each setting came from.

use std::collections::BTreeMap;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::{Given, Settings};

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag,
    /// An environment variable, or the file that a variable names.
    Environment,
    /// The configuration file.
    File,
    /// Nobody set it.
    Default,
}

impl Origin {
    /// Its name in the output of `leadsmith config`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// The origins of the settings of the command that runs.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    pub(super) fn new(
        matches: &ArgMatches,
        settings: &Settings,
        given: &BTreeMap<String, Given>,
    ) -> Self {
        let mut leaf = matches;
        while let Some((_, below)) = leaf.subcommand() {
            leaf = below;
        }
        let mut origins = BTreeMap::new();
        for (name, setting) in settings {
            let id = setting.get_id().as_str();
            // A command that does not have the setting has no source of it.
            let source = leaf
                .try_contains_id(id)
                .ok()
                .and_then(|_| leaf.value_source(id));
            let origin = if source == Some(ValueSource::CommandLine) {
                Origin::Flag
            } else if source == Some(ValueSource::EnvVariable) {
                Origin::Environment
            } else {
                given
                    .get(name)
                    .map_or(Origin::Default, |given| given.origin)
            };
            origins.insert(name.clone(), origin);
        }
        Self(origins)
    }

    /// Where a setting's value came from.
    pub fn of(&self, name: &str) -> Origin {
        self.0.get(name).copied().unwrap_or(Origin::Default)
    }
}

//! `leadsmith completions` and `leadsmith man`: what shells and `man` need, made of the command line's own definition.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::output::{self, Failure};
use crate::config::StartupError;

pub const COMPLETIONS: &str = "\
Examples:
  leadsmith completions bash > /etc/bash_completion.d/leadsmith
  leadsmith completions zsh > /usr/local/share/zsh/site-functions/_leadsmith
  leadsmith completions fish > ~/.config/fish/completions/leadsmith.fish";

pub const MAN: &str = "\
Examples:
  leadsmith man | man -l -
  leadsmith man /usr/local/share/man/man1";

#[derive(Args, Debug)]
pub struct CompletionsSettings {
    /// The shell
    shell: Shell,
}

#[derive(Args, Debug)]
pub struct ManSettings {
    /// The existing folder to write the pages of all commands to
    directory: Option<PathBuf>,
}

pub fn completions(settings: &CompletionsSettings) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        settings.shell,
        &mut Cli::command(),
        "leadsmith",
        &mut script,
    );
    output::show(&String::from_utf8_lossy(&script))
}

pub fn man(settings: &ManSettings) -> Result<(), Failure> {
    let unwritten = |error: std::io::Error, place: String| {
        let sentence =
            format!("the manual cannot be written to {place} ({error}): name an existing folder");
        Failure::from(StartupError::new(sentence))
    };
    if let Some(directory) = &settings.directory {
        let written = clap_mangen::generate_to(Cli::command(), directory);
        return written.map_err(|error| unwritten(error, directory.display().to_string()));
    }
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
    rendered.map_err(|error| unwritten(error, "memory".to_owned()))?;
    output::show(&String::from_utf8_lossy(&page))
}

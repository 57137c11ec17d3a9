//! Asks before something is deleted that cannot be restored.

use std::io::{self, BufRead, IsTerminal, Read, Write as _};

use crate::config::StartupError;

/// The maximum number of bytes that are read as an answer.
const MAX_ANSWER: u64 = 100;

/// Asks on the terminal whether to go on. `what` is one or more sentences.
///
/// # Errors
/// If there is no terminal to ask on, or the answer is not yes.
pub fn ask(what: &str) -> Result<(), StartupError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(StartupError::new(format!(
            "{what} There is no terminal to ask on whether to go on: add --yes if it is what you want"
        )));
    }
    let unreadable = |error| {
        StartupError::new(format!(
            "the answer cannot be read from the terminal: {error}"
        ))
    };
    let mut terminal = io::stderr();
    write!(terminal, "{what} Go on? Type yes: ").map_err(unreadable)?;
    terminal.flush().map_err(unreadable)?;
    let mut answer = String::new();
    let mut input = stdin.lock().take(MAX_ANSWER);
    input.read_line(&mut answer).map_err(unreadable)?;
    if answer.trim() == "yes" {
        return Ok(());
    }
    Err(StartupError::new(
        "nothing was changed, because the answer was not yes",
    ))
}

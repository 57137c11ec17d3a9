//! Passwords on the command line: by prompt or standard input, never by argument, where the shell's
//! history and every user of the machine would see them.

use std::io::{BufRead, IsTerminal};

use secrecy::{ExposeSecret, SecretString};

use crate::config::Refusal;

/// Reads a new password: asked for twice at a terminal, else the first line of standard input.
pub fn new_password() -> Result<SecretString, Refusal> {
    let unreadable = |error| Refusal::new(format!("the password cannot be read: {error}"));
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut line = String::new();
        stdin.lock().read_line(&mut line).map_err(unreadable)?;
        return Ok(line.trim_end_matches(['\r', '\n']).into());
    }
    let first: SecretString = rpassword::prompt_password("New password: ")
        .map_err(unreadable)?
        .into();
    let second: SecretString = rpassword::prompt_password("Once more: ")
        .map_err(unreadable)?
        .into();
    if first.expose_secret() == second.expose_secret() {
        Ok(first)
    } else {
        Err(Refusal::new("the two passwords differ: try again"))
    }
}

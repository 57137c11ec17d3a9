//! Reads passwords from a prompt or from standard input.
//!
//! A password is never read from an argument, because the shell's history and every user of the machine could see it.

use std::io::{BufRead, IsTerminal, Read};

use secrecy::{ExposeSecret, SecretString};

use crate::config::StartupError;

/// The maximum number of bytes that are read from standard input: more than any password has.
const MAX_LINE: u64 = 8_192;

/// Reads a new password. On a terminal it is prompted for twice. Otherwise it is the first line of standard input,
/// without the line end and without the byte order mark that some tools write.
pub fn new_password() -> Result<SecretString, StartupError> {
    if !std::io::stdin().is_terminal() {
        return first_line();
    }
    let first = prompt("New password: ")?;
    let second = prompt("Repeat the new password: ")?;
    if first.expose_secret() == second.expose_secret() {
        Ok(first)
    } else {
        Err(StartupError::new("the two passwords differ: try again"))
    }
}

/// Reads the password of somebody who signs in, from a prompt or as [`new_password`] does.
pub fn password() -> Result<SecretString, StartupError> {
    match std::io::stdin().is_terminal() {
        true => prompt("Password: "),
        false => first_line(),
    }
}

fn prompt(text: &str) -> Result<SecretString, StartupError> {
    let password = rpassword::prompt_password(text).map_err(unreadable)?;
    Ok(password.into())
}

fn first_line() -> Result<SecretString, StartupError> {
    let mut line = String::new();
    let mut input = std::io::stdin().lock().take(MAX_LINE);
    input.read_line(&mut line).map_err(unreadable)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(line.strip_prefix('\u{feff}').unwrap_or(line).into())
}

fn unreadable(error: std::io::Error) -> StartupError {
    StartupError::new(format!("the password cannot be read: {error}"))
}

//! Passwords on the command line: by prompt or standard input, never by argument, where the shell's
//! history and every user of the machine would see them.

use std::io::{BufRead, IsTerminal, Read};

use secrecy::{ExposeSecret, SecretString};

use crate::config::Refusal;

/// How many bytes of standard input are read: more than any password has.
const LINE: u64 = 8_192;

/// Reads a new password: asked for twice at a terminal, else the first line of standard input, without
/// its line end and without the byte order mark that some tools begin with.
pub fn new_password() -> Result<SecretString, Refusal> {
    let unreadable = |error| Refusal::new(format!("the password cannot be read: {error}"));
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut line = String::new();
        let mut input = stdin.lock().take(LINE);
        input.read_line(&mut line).map_err(unreadable)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        return Ok(line.strip_prefix('\u{feff}').unwrap_or(line).into());
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

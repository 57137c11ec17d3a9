//! The setting of new passwords.

use clap::Args;

use super::values;

/// The minimum length of a new password in bytes, unless an administrator lowers it.
pub const MIN_PASSWORD_LENGTH: usize = 15;
/// The lowest minimum that can be set.
const LOWEST: usize = 8;

/// The rules of new passwords that can be set. Passwords that exist are not affected.
#[derive(Args, Clone, Copy, Debug)]
pub struct PasswordSettings {
    /// Bytes that a new password must have, 8 to 15. Less than 15 only if another factor protects signing in
    #[arg(
        long,
        help_heading = "Passwords",
        env = "LEADSMITH_MIN_PASSWORD_LENGTH",
        default_value_t = MIN_PASSWORD_LENGTH,
        value_parser = values::number::<usize>(LOWEST..=MIN_PASSWORD_LENGTH),
        value_name = "BYTES"
    )]
    pub min_password_length: usize,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self {
            min_password_length: MIN_PASSWORD_LENGTH,
        }
    }
}

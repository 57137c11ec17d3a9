//! `leadsmith operator`: the command line of `features/operators`.

use crate::core::text_enum::TextEnum as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use super::console::Console;
use super::output::{Failure, OutputSettings};
use super::{log_command, open, secret};
use crate::auth::operators::Operator;
use crate::auth::passwords::Passwords;
use crate::config::{DatabaseSettings, PasswordSettings};
use crate::core::role::Role;
use crate::core::text::printable;
use crate::db::Db;

pub const EXAMPLES: &str = "\
Examples:
  leadsmith operator create --username ada --role ADMIN
  leadsmith operator set-password --username ada < password.txt
  leadsmith operator list --output json";

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Create an operator; the password is prompted for, or read from standard input
    Create {
        #[command(flatten)]
        output: OutputSettings,
        #[command(flatten)]
        database: DatabaseSettings,
        #[command(flatten)]
        passwords: PasswordSettings,
        /// The username for sign-in; letter case does not matter
        #[arg(long)]
        username: String,
        /// The name for display; the username if not given
        #[arg(long, default_value = "", hide_default_value = true)]
        display_name: String,
        /// The role
        #[arg(long, value_parser = role, value_name = "VIEWER|SALES|ADMIN")]
        role: Role,
    },
    /// List the operators
    List {
        #[command(flatten)]
        output: OutputSettings,
        #[command(flatten)]
        database: DatabaseSettings,
    },
    /// Set an operator's password and end their sessions; the password is prompted for, or read from
    /// standard input
    SetPassword {
        #[command(flatten)]
        operator: OperatorName,
        #[command(flatten)]
        passwords: PasswordSettings,
    },
    /// Give an operator another role
    SetRole {
        #[command(flatten)]
        operator: OperatorName,
        /// The new role
        #[arg(long, value_parser = role, value_name = "VIEWER|SALES|ADMIN")]
        role: Role,
    },
    /// Prevent an operator from signing in and end their sessions
    Disable(OperatorName),
    /// Let a disabled operator sign in again, with the same password
    Enable(OperatorName),
    /// Reset the failed password attempts that lock an operator out
    Unlock(OperatorName),
}

/// Selects one operator of a database.
#[derive(Args, Debug)]
pub struct OperatorName {
    #[command(flatten)]
    database: DatabaseSettings,
    /// The operator's username
    #[arg(long)]
    username: String,
}

/// Parses a role in any letter case.
pub fn role(text: &str) -> Result<Role, String> {
    Role::from_text(&text.to_uppercase()).ok_or_else(|| "VIEWER, SALES or ADMIN".to_owned())
}

/// An operator in the output. The names are part of the interface.
#[derive(Serialize)]
struct Shown<'a> {
    id: Uuid,
    username: &'a str,
    display_name: &'a str,
    role: &'static str,
    /// When the operator was disabled; null for an enabled one.
    disable_time: Option<DateTime<Utc>>,
}

impl<'a> From<&'a Operator> for Shown<'a> {
    fn from(operator: &'a Operator) -> Self {
        Self {
            id: operator.id,
            username: &operator.username,
            display_name: &operator.display_name,
            role: operator.role.as_str(),
            disable_time: operator.disable_time,
        }
    }
}

/// An operator as one line of the list.
fn line(operator: &Operator) -> String {
    let state = match operator.disable_time {
        Some(_) => "disabled",
        None => "enabled",
    };
    format!(
        "{} {:<8} {:<8} {} ({})\n",
        operator.id,
        operator.role.as_str(),
        state,
        printable(&operator.username),
        printable(&operator.display_name)
    )
}

fn log(command: &str, operator: &Operator) {
    let record = Some(("operator", operator.id));
    log_command(command, record, Some(&operator.username));
}

pub async fn run(command: OperatorCommand) -> Result<(), Failure> {
    match command {
        OperatorCommand::Create {
            output,
            database,
            passwords,
            username,
            display_name,
            role,
        } => {
            let db = open(&database).await?;
            let password = secret::new_password()?;
            let console = console(&db, passwords);
            let operator = console
                .create_operator(&username, &display_name, role, password)
                .await?;
            db.close().await;
            log("operator create", &operator);
            let username = printable(&operator.username);
            output.confirm("the operator was created", &Shown::from(&operator), || {
                format!("{} {username} {}\n", operator.id, operator.role)
            })?;
        }
        OperatorCommand::List { output, database } => {
            let db = open(&database).await?;
            let operators = console(&db, PasswordSettings::default())
                .operators()
                .await?;
            db.close().await;
            let shown: Vec<_> = operators.iter().map(Shown::from).collect();
            output.show(&shown, || operators.iter().map(line).collect())?;
        }
        OperatorCommand::SetPassword {
            operator: OperatorName { database, username },
            passwords,
        } => {
            let db = open(&database).await?;
            let console = console(&db, passwords);
            // Before the password is prompted for.
            console.operator(&username).await?;
            let password = secret::new_password()?;
            let operator = console.set_password(&username, password).await?;
            db.close().await;
            log("operator set-password", &operator);
        }
        OperatorCommand::SetRole {
            operator: OperatorName { database, username },
            role,
        } => {
            let db = open(&database).await?;
            let console = console(&db, PasswordSettings::default());
            let operator = console.set_role(&username, role).await?;
            db.close().await;
            log("operator set-role", &operator);
        }
        OperatorCommand::Disable(OperatorName { database, username }) => {
            let db = open(&database).await?;
            let console = console(&db, PasswordSettings::default());
            let operator = console.disable_operator(&username).await?;
            db.close().await;
            log("operator disable", &operator);
        }
        OperatorCommand::Enable(OperatorName { database, username }) => {
            let db = open(&database).await?;
            let console = console(&db, PasswordSettings::default());
            let operator = console.enable_operator(&username).await?;
            db.close().await;
            log("operator enable", &operator);
        }
        OperatorCommand::Unlock(OperatorName { database, username }) => {
            let db = open(&database).await?;
            let console = console(&db, PasswordSettings::default());
            let operator = console.unlock_operator(&username).await?;
            db.close().await;
            log("operator unlock", &operator);
        }
    }
    Ok(())
}

fn console(db: &Db, settings: PasswordSettings) -> Console {
    Console::new(db, Passwords::with_min_length(settings.min_password_length))
}

//! `leadsmith operator`.

use clap::{Args, Subcommand};

use super::output::{self, Failure};
use super::{open, secret};
use crate::auth::passwords::Passwords;
use crate::auth::roles::Role;
use crate::config::DatabaseSettings;
use crate::operators::{self, model::Operator};
use crate::text::printable;

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Create an operator; the password is asked for, or read from standard input
    Create {
        #[command(flatten)]
        database: DatabaseSettings,
        /// What they sign in with; letter case does not matter
        #[arg(long)]
        username: String,
        /// What they are called; the username if not given
        #[arg(long, default_value = "", hide_default_value = true)]
        display_name: String,
        /// What they may do
        #[arg(long, value_parser = role, value_name = "VIEWER|SALES|ADMIN")]
        role: Role,
    },
    /// List the operators
    List(DatabaseSettings),
    /// Set an operator's password, asked for or read from standard input, and end their sessions
    SetPassword(One),
    /// Keep an operator from signing in and end their sessions
    Disable(One),
    /// Forget the wrong passwords that lock an operator out
    Unlock(One),
}

/// One operator of a database.
#[derive(Args, Debug)]
pub struct One {
    #[command(flatten)]
    database: DatabaseSettings,
    /// Which operator
    #[arg(long)]
    username: String,
}

/// Reads a role in any letter case.
pub fn role(text: &str) -> Result<Role, String> {
    Role::from_word(&text.to_uppercase()).ok_or_else(|| "VIEWER, SALES or ADMIN".to_owned())
}

/// An operator, as it is listed.
fn line(operator: &Operator) -> String {
    let state = match operator.disable_time {
        Some(_) => "disabled",
        None => "enabled",
    };
    format!(
        "{} {:<8} {:<8} {} ({})\n",
        operator.id,
        operator.role.word(),
        state,
        printable(&operator.username),
        printable(&operator.display_name)
    )
}

pub async fn run(command: OperatorCommand) -> Result<(), Failure> {
    match command {
        OperatorCommand::Create {
            database,
            username,
            display_name,
            role,
        } => {
            let db = open(&database).await?;
            let password = secret::new_password()?;
            let passwords = Passwords::default();
            let operator =
                operators::create(&db, &passwords, &username, &display_name, role, password)
                    .await?;
            db.close().await;
            let username = printable(&operator.username);
            let line = format!("{} {username} {}\n", operator.id, operator.role);
            output::confirm("the operator was created", &line)?;
        }
        OperatorCommand::List(database) => {
            let db = open(&database).await?;
            let operators = operators::list(&db).await?;
            db.close().await;
            output::show(&operators.iter().map(line).collect::<String>())?;
        }
        OperatorCommand::SetPassword(one) => {
            let db = open(&one.database).await?;
            operators::find(&db, &one.username).await?;
            let password = secret::new_password()?;
            operators::set_password(&db, &Passwords::default(), &one.username, password).await?;
            db.close().await;
        }
        OperatorCommand::Disable(one) => {
            let db = open(&one.database).await?;
            operators::disable(&db, &one.username).await?;
            db.close().await;
        }
        OperatorCommand::Unlock(one) => {
            let db = open(&one.database).await?;
            operators::unlock(&db, &one.username).await?;
            db.close().await;
        }
    }
    Ok(())
}

//! `leadsmith operator`.

use clap::{Args, Subcommand};

use super::{open, secret};
use crate::auth::passwords::Passwords;
use crate::auth::roles::Role;
use crate::config::{DatabaseSettings, Refusal};
use crate::operators;
use crate::text::printable;

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Create an operator; the password is asked for, or read from standard input
    Create {
        #[command(flatten)]
        database: DatabaseSettings,
        /// What they sign in with; letter case does not matter
        #[arg(long, env = "LEADSMITH_USERNAME")]
        username: String,
        /// What they are called; the username if not given
        #[arg(
            long,
            env = "LEADSMITH_DISPLAY_NAME",
            default_value = "",
            hide_default_value = true
        )]
        display_name: String,
        /// What they may do
        #[arg(long, env = "LEADSMITH_ROLE", value_parser = role, value_name = "VIEWER|SALES|ADMIN")]
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
    #[arg(long, env = "LEADSMITH_USERNAME")]
    username: String,
}

/// Reads a role in any letter case.
pub fn role(text: &str) -> Result<Role, String> {
    Role::from_word(&text.to_uppercase()).ok_or_else(|| "VIEWER, SALES or ADMIN".to_owned())
}

pub async fn run(command: OperatorCommand) -> Result<(), Refusal> {
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
            let username = printable(&operator.username);
            println!("{} {username} {}", operator.id, operator.role);
            db.close().await;
        }
        OperatorCommand::List(database) => {
            let db = open(&database).await?;
            for operator in operators::list(&db).await? {
                let state = if operator.disable_time.is_some() {
                    "disabled"
                } else {
                    "enabled"
                };
                println!(
                    "{} {:<8} {:<8} {} ({})",
                    operator.id,
                    operator.role.word(),
                    state,
                    printable(&operator.username),
                    printable(&operator.display_name)
                );
            }
            db.close().await;
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

//! `leadsmith service-account`: the command line of `features/service_accounts`.

use crate::core::text_enum::TextEnum as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use super::console::Console;
use super::operator::role;
use super::output::{self, Failure, OutputSettings};
use super::{log_command, open};
use crate::auth::passwords::Passwords;
use crate::config::{DatabaseSettings, StartupError};
use crate::core::role::Role;
use crate::core::text::printable;
use crate::db::Db;
use crate::features::service_accounts::KeyChange;
use crate::features::service_accounts::model::{Key, ServiceAccount};

pub const EXAMPLES: &str = "\
Examples:
  leadsmith service-account create --name billing --role SALES
  leadsmith service-account create-key --name billing > billing.key
  leadsmith service-account list --output json";

#[derive(Debug, Subcommand)]
pub enum ServiceAccountCommand {
    /// Create a service account
    Create {
        #[command(flatten)]
        output: OutputSettings,
        #[command(flatten)]
        database: DatabaseSettings,
        /// The name of the service account
        #[arg(long)]
        name: String,
        /// The role
        #[arg(long, value_parser = role, value_name = "VIEWER|SALES|ADMIN")]
        role: Role,
    },
    /// List the service accounts, with the ids of their keys
    List {
        #[command(flatten)]
        output: OutputSettings,
        #[command(flatten)]
        database: DatabaseSettings,
    },
    /// Create an API key for a service account and print it; it is shown only once
    CreateKey {
        #[command(flatten)]
        output: OutputSettings,
        #[command(flatten)]
        database: DatabaseSettings,
        /// The name of the service account
        #[arg(long)]
        name: String,
    },
    /// Register the client certificates with a subject alternative name for a service account
    SetCertificate {
        #[command(flatten)]
        database: DatabaseSettings,
        /// The name of the service account
        #[arg(long)]
        name: String,
        /// The subject alternative name, DNS:NAME or URI:NAME; without it, the registration is removed
        #[arg(long, value_name = "DNS:NAME|URI:NAME")]
        certificate_name: Option<String>,
    },
    /// Reject all keys and certificates of a service account
    Disable(AccountName),
    /// Accept the keys and certificates of a disabled service account again
    Enable(AccountName),
    /// Revoke an API key by its id, which create-key and list print
    RevokeKey {
        #[command(flatten)]
        database: DatabaseSettings,
        /// The id of the key
        #[arg(long)]
        id: Uuid,
    },
}

/// Selects one service account of a database.
#[derive(Args, Debug)]
pub struct AccountName {
    #[command(flatten)]
    database: DatabaseSettings,
    /// The name of the service account
    #[arg(long)]
    name: String,
}

/// A new service account in the output. The names of the output are part of the interface.
#[derive(Serialize)]
struct ShownCreated<'a> {
    id: Uuid,
    name: &'a str,
    role: &'static str,
}

/// A service account in the output.
#[derive(Serialize)]
struct Shown<'a> {
    id: Uuid,
    name: &'a str,
    role: &'static str,
    /// When the account was disabled; null for an enabled one.
    disable_time: Option<DateTime<Utc>>,
    /// The registered subject alternative name of client certificates; null if there is none.
    certificate_name: Option<&'a str>,
    keys: Vec<ShownKey>,
}

/// An API key in the output, without its secret.
#[derive(Serialize)]
struct ShownKey {
    id: Uuid,
    create_time: DateTime<Utc>,
    /// When the key was revoked; null for a valid one.
    revoke_time: Option<DateTime<Utc>>,
    /// When the key was last used, up to a minute late; null if it was not.
    last_use_time: Option<DateTime<Utc>>,
}

/// A new API key in the output.
#[derive(Serialize)]
struct ShownSecret<'a> {
    id: Uuid,
    key: &'a str,
}

impl<'a> From<&'a (ServiceAccount, Vec<Key>)> for Shown<'a> {
    fn from((account, keys): &'a (ServiceAccount, Vec<Key>)) -> Self {
        let keys = keys.iter().map(|key| ShownKey {
            id: key.id,
            create_time: key.create_time,
            revoke_time: key.revoke_time,
            last_use_time: key.last_use_time,
        });
        Self {
            id: account.id,
            name: &account.name,
            role: account.role.as_str(),
            disable_time: account.disable_time,
            certificate_name: account.certificate_name.as_deref(),
            keys: keys.collect(),
        }
    }
}

fn log(command: &str, account: &ServiceAccount) {
    let record = Some(("service_account", account.id));
    log_command(command, record, Some(&account.name));
}

fn log_key(command: &str, change: &KeyChange) {
    let record = Some(("api_key", change.key.id));
    log_command(command, record, Some(&change.account.name));
}

pub async fn run(command: ServiceAccountCommand) -> Result<(), Failure> {
    match command {
        ServiceAccountCommand::Create {
            output,
            database,
            name,
            role,
        } => {
            let db = open(&database).await?;
            let account = console(&db).create_account(&name, role).await?;
            db.close().await;
            log("service-account create", &account);
            let created = ShownCreated {
                id: account.id,
                name: &account.name,
                role: role.as_str(),
            };
            output.confirm("the service account was created", &created, || {
                format!("{} {} {role}\n", account.id, printable(&account.name))
            })?;
        }
        ServiceAccountCommand::List { output, database } => {
            let db = open(&database).await?;
            let accounts = console(&db).accounts().await?;
            db.close().await;
            let shown: Vec<_> = accounts.iter().map(Shown::from).collect();
            output.show(&shown, || accounts.iter().map(lines).collect())?;
        }
        ServiceAccountCommand::CreateKey {
            output,
            database,
            name,
        } => {
            let db = open(&database).await?;
            let created = create_key(&console(&db), &name, output).await;
            db.close().await;
            created?;
        }
        ServiceAccountCommand::SetCertificate {
            database,
            name,
            certificate_name,
        } => {
            let db = open(&database).await?;
            let console = console(&db);
            let account = console
                .set_certificate(&name, certificate_name.as_deref())
                .await?;
            db.close().await;
            log("service-account set-certificate", &account);
        }
        ServiceAccountCommand::Disable(AccountName { database, name }) => {
            let db = open(&database).await?;
            let account = console(&db).disable_account(&name).await?;
            db.close().await;
            log("service-account disable", &account);
        }
        ServiceAccountCommand::Enable(AccountName { database, name }) => {
            let db = open(&database).await?;
            let account = console(&db).enable_account(&name).await?;
            db.close().await;
            log("service-account enable", &account);
        }
        ServiceAccountCommand::RevokeKey { database, id } => {
            let db = open(&database).await?;
            let revoked = console(&db).revoke_key(id).await?;
            db.close().await;
            log_key("service-account revoke-key", &revoked);
        }
    }
    Ok(())
}

/// Creates a key and prints it. If it cannot be printed, it is revoked, because nobody has seen it.
async fn create_key(
    console: &Console,
    name: &str,
    output: OutputSettings,
) -> Result<(), StartupError> {
    if output::is_discarded() {
        return Err(StartupError::new(
            "standard output is closed or /dev/null, and the key is shown only once: redirect it to a place that \
             stores the key",
        ));
    }
    let (created, key) = console.create_key(name).await?;
    log_key("service-account create-key", &created);
    let id = created.key.id;
    output::note(&format!(
        "The key's id, for revoking it: {id}. The key is shown only once:"
    ));
    let key = key.expose();
    let text = output.render(&ShownSecret { id, key }, || format!("{key}\n"));
    let printed = match text {
        Ok(text) => output::print(&text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let Err(error) = printed else {
        return Ok(());
    };
    Err(StartupError::new(match console.revoke_key(id).await {
        Ok(revoked) => {
            log_key("service-account revoke-key", &revoked);
            format!(
                "the key cannot be printed ({error}) and was revoked: create another key with a writable standard \
                 output"
            )
        }
        Err(refusal) => format!(
            "the key {id} cannot be printed ({error}) and could not be revoked ({refusal}): run \
                 leadsmith service-account revoke-key --id {id}"
        ),
    }))
}

/// An account, followed by its keys.
fn lines((account, keys): &(ServiceAccount, Vec<Key>)) -> String {
    let certificate = printable(account.certificate_name.as_deref().unwrap_or_default());
    let state = match account.disable_time {
        Some(_) => "disabled",
        None => "enabled",
    };
    let line = format!(
        "{} {:<8} {state:<8} {} {certificate}",
        account.id,
        account.role.as_str(),
        printable(&account.name)
    );
    let mut lines = format!("{}\n", line.trim_end());
    let day = |time: &DateTime<Utc>| time.format("%Y-%m-%d");
    for key in keys {
        let revoked = key.revoke_time.as_ref();
        let revoked = revoked.map(|time| format!(", revoked {}", day(time)));
        let revoked = revoked.unwrap_or_default();
        let line = format!("  key {} of {}{revoked}\n", key.id, day(&key.create_time));
        lines.push_str(&line);
    }
    lines
}

fn console(db: &Db) -> Console {
    Console::new(db, Passwords::default())
}

//! `leadsmith service-account`.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use uuid::Uuid;

use super::open;
use super::operator::role;
use crate::auth::roles::Role;
use crate::config::{DatabaseSettings, Refusal};
use crate::service_accounts::{self, ServiceAccount};
use crate::text::{nfc, printable};

#[derive(Debug, Subcommand)]
pub enum ServiceAccountCommand {
    /// Create a service account
    Create {
        #[command(flatten)]
        database: DatabaseSettings,
        /// What it is called
        #[arg(long, env = "LEADSMITH_NAME")]
        name: String,
        /// What it may do
        #[arg(long, env = "LEADSMITH_ROLE", value_parser = role, value_name = "VIEWER|SALES|ADMIN")]
        role: Role,
    },
    /// List the service accounts, with the ids of their keys
    List(DatabaseSettings),
    /// Create an API key of a service account and print it, this once
    CreateKey {
        #[command(flatten)]
        database: DatabaseSettings,
        /// Which service account
        #[arg(long, env = "LEADSMITH_NAME")]
        name: String,
    },
    /// Have client certificates with a subject alternative name stand for a service account
    SetCertificate {
        #[command(flatten)]
        database: DatabaseSettings,
        /// Which service account
        #[arg(long, env = "LEADSMITH_NAME")]
        name: String,
        /// The subject alternative name, DNS:NAME or URI:NAME; without it, none stands for the account
        /// any more
        #[arg(
            long,
            env = "LEADSMITH_CERTIFICATE_NAME",
            value_name = "DNS:NAME|URI:NAME"
        )]
        certificate_name: Option<String>,
    },
    /// Revoke an API key, by the id that was printed with it and is listed
    RevokeKey {
        #[command(flatten)]
        database: DatabaseSettings,
        /// Which key
        #[arg(long, env = "LEADSMITH_ID")]
        id: Uuid,
    },
}

pub async fn run(command: ServiceAccountCommand) -> Result<(), Refusal> {
    match command {
        ServiceAccountCommand::Create {
            database,
            name,
            role,
        } => {
            let db = open(&database).await?;
            let id = service_accounts::create(&db, &name, role).await?;
            println!("{id} {} {role}", printable(&nfc(name.trim())));
            db.close().await;
        }
        ServiceAccountCommand::List(database) => {
            let db = open(&database).await?;
            service_accounts::list(&db).await?.iter().for_each(print);
            db.close().await;
        }
        ServiceAccountCommand::CreateKey { database, name } => {
            let db = open(&database).await?;
            let (id, key) = service_accounts::create_key(&db, &name).await?;
            eprintln!("The key's id, for revoking it: {id}. The key is shown this once:");
            println!("{}", key.expose());
            db.close().await;
        }
        ServiceAccountCommand::SetCertificate {
            database,
            name,
            certificate_name,
        } => {
            let db = open(&database).await?;
            service_accounts::set_certificate(&db, &name, certificate_name.as_deref()).await?;
            db.close().await;
        }
        ServiceAccountCommand::RevokeKey { database, id } => {
            let db = open(&database).await?;
            service_accounts::revoke_key(&db, id).await?;
            db.close().await;
        }
    }
    Ok(())
}

/// An account, and its keys below it.
fn print(account: &ServiceAccount) {
    let certificate = printable(account.certificate_name.as_deref().unwrap_or_default());
    let line = format!(
        "{} {:<8} {} {certificate}",
        account.id,
        account.role.word(),
        printable(&account.name)
    );
    println!("{}", line.trim_end());
    let day = |time: &DateTime<Utc>| time.format("%Y-%m-%d");
    for key in &account.keys {
        let revoked = key.revoke_time.as_ref();
        let revoked = revoked.map(|time| format!(", revoked {}", day(time)));
        let revoked = revoked.unwrap_or_default();
        println!("  key {} of {}{revoked}", key.id, day(&key.create_time));
    }
}

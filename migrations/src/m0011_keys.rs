//! The keys by which emails and usernames are compared, and the index that finds duplicate leads by email
//! and state.
//!
//! The computation of the keys is frozen here. If the service changes it, another migration is needed.

use std::collections::HashSet;

use crate::schema::*;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, Statement, Value};
use unicode_normalization::UnicodeNormalization;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The number of leads that are read at once.
const BATCH: usize = 500;

const LOCKED: [&str; 2] = ["leads", "operators"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        set_email_keys(manager, email_key).await?;
        run(
            manager,
            &[
                "CREATE INDEX leads_email_state ON leads (email_key, state, seq) WHERE email_key <> ''",
                "DROP INDEX leads_email",
                "ALTER TABLE operators ADD COLUMN username_key TEXT",
            ],
        )
        .await?;
        set_username_keys(manager).await?;
        run(
            manager,
            &["CREATE UNIQUE INDEX operators_by_username_key ON operators (username_key)"],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        run(
            manager,
            &[
                "DROP INDEX operators_by_username_key",
                "ALTER TABLE operators DROP COLUMN username_key",
                "CREATE INDEX leads_email ON leads (email_key, create_time) WHERE email_key <> ''",
                "DROP INDEX leads_email_state",
            ],
        )
        .await?;
        set_email_keys(manager, email_key_before).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Recomputes the keys of all emails whose key may have changed: those with non-ASCII characters or with
/// Punycode.
async fn set_email_keys(manager: &SchemaManager<'_>, key: fn(&str) -> String) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let backend = manager.get_database_backend();
    let (parameter, unusual) = match postgres(manager) {
        true => (
            "$1",
            "octet_length(email) <> char_length(email) OR email ILIKE '%xn--%'",
        ),
        false => (
            "?",
            "length(CAST(email AS BLOB)) <> length(email) OR email LIKE '%xn--%'",
        ),
    };
    let sql = format!(
        "SELECT seq, email, email_key FROM leads WHERE seq > {parameter} AND ({unusual}) \
         ORDER BY seq LIMIT {BATCH}"
    );
    let mut last = 0_i64;
    loop {
        let find = Statement::from_sql_and_values(backend, &sql, [last.into()]);
        let rows = db.query_all_raw(find).await?;
        let mut changed: Vec<Value> = Vec::new();
        for row in &rows {
            last = row.try_get_by_index(0)?;
            let (email, now): (String, String) =
                (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
            let key = key(&email);
            if key != now {
                changed.extend([last.into(), key.into()]);
            }
        }
        if !changed.is_empty() {
            let pairs: Vec<String> = (1..=changed.len())
                .step_by(2)
                .map(|number| match postgres(manager) {
                    true => format!("(${number}, ${})", number + 1),
                    false => "(?, ?)".to_owned(),
                })
                .collect();
            let sql = format!(
                "UPDATE leads SET email_key = v.column2 FROM (VALUES {}) AS v WHERE seq = v.column1",
                pairs.join(", ")
            );
            db.execute_raw(Statement::from_sql_and_values(backend, sql, changed))
                .await?;
        }
        if rows.len() < BATCH {
            return Ok(());
        }
    }
}

/// Gives each operator a key. If several have the same key, the oldest operator gets it. The others are
/// found by the exact spelling of their usernames, as before.
async fn set_username_keys(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let backend = manager.get_database_backend();
    let sql = "SELECT id, username FROM operators ORDER BY create_time, id";
    let rows = db
        .query_all_raw(Statement::from_string(backend, sql))
        .await?;
    let update = match postgres(manager) {
        true => "UPDATE operators SET username_key = $1 WHERE id = $2",
        false => "UPDATE operators SET username_key = ? WHERE id = ?",
    };
    let mut given = HashSet::new();
    for row in rows {
        let id: Value = row
            .try_get_by_index::<sea_orm_migration::sea_orm::prelude::Uuid>(0)?
            .into();
        let username: String = row.try_get_by_index(1)?;
        let key = fold(&username);
        if given.insert(key.clone()) {
            db.execute_raw(Statement::from_sql_and_values(
                backend,
                update,
                [key.into(), id],
            ))
            .await?;
        }
    }
    Ok(())
}

/// Unicode's canonical caseless matching.
fn fold(text: &str) -> String {
    let decomposed: String = text.nfd().collect();
    let folded = unicase::UniCase::unicode(decomposed).to_folded_case();
    folded.nfc().collect()
}

/// The folded local part and the domain as in DNS.
fn email_key(email: &str) -> String {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return fold(email);
    };
    let ascii = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::EMPTY,
        Hyphens::Allow,
        DnsLength::Ignore,
    );
    let domain = match ascii {
        Ok(ascii) if !domain.starts_with('[') => ascii.into_owned(),
        _ => fold(domain),
    };
    format!("{}@{domain}", fold(local))
}

/// The key before this migration.
fn email_key_before(email: &str) -> String {
    email.nfc().collect::<String>().to_lowercase()
}

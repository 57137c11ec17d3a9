//! Makes the texts that leads are found by again: without accents, with the digits of phone numbers joined, and with
//! `last, first` (see [`crate::search_text`]).
//!
//! Older programs work on the result: they find what they look for unless it has an accent or a phone number's
//! separators, and what they write is made again by a newer program. So on PostgreSQL this migration runs beside
//! them, a batch at a time, each in a transaction of its own. If it is stopped, the next run goes on where it was.
//! SQLite has one writer and an index of its own, so there it is one transaction.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};
use unicode_normalization::UnicodeNormalization;

use crate::m0010_search_index;
use crate::schema::*;
use crate::search_index::SEPARATOR;
use crate::search_text::{Fields, IS_OUTDATED_ON_POSTGRES, IS_OUTDATED_ON_SQLITE, trigrams};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The number of leads of a batch.
const BATCH: usize = 500;
/// How often PostgreSQL's texts are gone through.
const PASSES: usize = 3;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let outdated = match postgres(manager) {
            true => IS_OUTDATED_ON_POSTGRES,
            false => IS_OUTDATED_ON_SQLITE,
        };
        make_again(manager, outdated, |lead| lead.text(), trigrams).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let current = match postgres(manager) {
            true => format!("text <> '' AND NOT ({IS_OUTDATED_ON_POSTGRES})"),
            false => format!("text <> '' AND NOT ({IS_OUTDATED_ON_SQLITE})"),
        };
        make_again(manager, &current, text_before, trigrams_before).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }
}

/// Makes every text again that meets the condition.
async fn make_again(
    manager: &SchemaManager<'_>,
    condition: &str,
    text: fn(&Fields<'_>) -> String,
    trigrams: fn(&str) -> Vec<i32>,
) -> Result<(), DbErr> {
    if postgres(manager) {
        // Again, because an older program may have written some meanwhile. The service finds the others.
        for _ in 0..PASSES {
            if on_postgres(manager, condition, text, trigrams).await? == 0 {
                break;
            }
        }
        return Ok(());
    }
    let tx = manager.begin().await?;
    let db = tx.get_connection();
    let (mut last, mut total) = (0, 0);
    loop {
        let rows = batch(db, condition, last).await?;
        for row in &rows {
            let (seq, made) = (row.try_get_by_index(0)?, made(row, text)?);
            last = seq;
            let sql = "UPDATE lead_search SET text = ? WHERE seq = ?";
            let values = [made.into(), seq.into()];
            let update = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
            db.execute_raw(update).await?;
        }
        total += rows.len();
        if rows.len() < BATCH {
            break;
        }
    }
    if total > 0 {
        run(
            &tx,
            &["DELETE FROM search_pending", "DELETE FROM search_index"],
        )
        .await?;
        m0010_search_index::fill(db).await?;
    }
    tx.commit().await
}

/// Makes the texts once, from the first to the last, and returns their number.
async fn on_postgres(
    manager: &SchemaManager<'_>,
    condition: &str,
    text: fn(&Fields<'_>) -> String,
    trigrams: fn(&str) -> Vec<i32>,
) -> Result<usize, DbErr> {
    let (mut last, mut total) = (0, 0);
    loop {
        let tx = manager.begin().await?;
        let db = tx.get_connection();
        let rows = batch(db, condition, last).await?;
        let (mut places, mut values): (Vec<String>, Vec<Value>) = Default::default();
        for row in &rows {
            let (seq, stored): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            last = seq;
            let made = made(row, text)?;
            let numbers: Vec<String> = trigrams(&made).iter().map(ToString::to_string).collect();
            let first = values.len() + 1;
            places.push(format!(
                "(${}::bigint, ${}, ${}, ${}::integer[])",
                first,
                first + 1,
                first + 2,
                first + 3
            ));
            let array = format!("{{{}}}", numbers.join(","));
            values.extend([seq.into(), stored.into(), made.into(), array.into()]);
        }
        if !rows.is_empty() {
            // Not where an older program has written another text since.
            let sql = format!(
                "UPDATE lead_search AS s SET text = v.made, trigrams = v.trigrams \
                 FROM (VALUES {}) AS v (seq, stored, made, trigrams) \
                 WHERE s.seq = v.seq AND s.text = v.stored",
                places.join(", ")
            );
            let update = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            db.execute_raw(update).await?;
        }
        tx.commit().await?;
        total += rows.len();
        if rows.len() < BATCH {
            return Ok(total);
        }
    }
}

/// The next leads after the number `last` whose texts meet the condition: the number, the text, and the fields.
async fn batch(
    db: &impl ConnectionTrait,
    condition: &str,
    last: i64,
) -> Result<Vec<QueryResult>, DbErr> {
    let backend = db.get_database_backend();
    let parameter = match backend == DbBackend::Postgres {
        true => "$1",
        false => "?",
    };
    let sql = format!(
        "SELECT s.seq, s.text, l.first_name, l.last_name, l.company, l.email, l.phone \
         FROM (SELECT seq, text FROM lead_search WHERE seq > {parameter} AND {condition} ORDER BY seq LIMIT {BATCH}) \
         AS s JOIN leads AS l ON l.seq = s.seq ORDER BY s.seq"
    );
    db.query_all_raw(Statement::from_sql_and_values(backend, sql, [last.into()]))
        .await
}

fn made(row: &QueryResult, text: fn(&Fields<'_>) -> String) -> Result<String, DbErr> {
    let field = |index| row.try_get_by_index::<String>(index);
    let fields = [field(2)?, field(3)?, field(4)?, field(5)?, field(6)?];
    let [first_name, last_name, company, email, phone] = &fields;
    Ok(text(&Fields {
        first_name,
        last_name,
        company,
        email,
        phone,
    }))
}

/// The text before this migration: the folded fields, each as it is.
fn text_before(lead: &Fields<'_>) -> String {
    let name = format!("{} {}", lead.first_name, lead.last_name);
    let texts = [name.trim(), lead.company, lead.email, lead.phone];
    let texts = texts.into_iter().filter(|text| !text.is_empty());
    let folded: Vec<String> = texts.map(fold).collect();
    folded.join(&SEPARATOR.to_string())
}

/// Unicode's canonical caseless matching.
fn fold(text: &str) -> String {
    let decomposed: String = text.nfd().collect();
    let folded = unicase::UniCase::unicode(decomposed).to_folded_case();
    folded.nfc().collect()
}

/// The trigrams before this migration: also those with a separator.
fn trigrams_before(text: &str) -> Vec<i32> {
    crate::search_text::trigrams_where(text, |_| true)
}

//! Replaces FTS5 on SQLite by `search_index`, whose updates cost as much as what changes, and which deletes
//! immediately (see [`crate::search_index`]). PostgreSQL keeps its array index.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::schema::*;
use crate::search_index::{BLOCK_BITS, BLOCKS, Changes, Sets, Texts, WRITE, block_of, written};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The number of sets that are written at once.
const SETS: usize = 4_096;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if postgres(manager) {
            return Ok(());
        }
        run(
            manager,
            &[
                "CREATE TABLE lead_texts (seq integer PRIMARY KEY NOT NULL, text text NOT NULL)",
                "INSERT INTO lead_texts (seq, text) SELECT rowid, text FROM lead_search ORDER BY rowid",
                "DROP TABLE lead_search",
                "ALTER TABLE lead_texts RENAME TO lead_search",
                "CREATE TABLE search_index (key integer PRIMARY KEY NOT NULL, blocks blob NOT NULL)",
                // Leads whose texts are not in the index yet, with the text that the index has for them.
                "CREATE TABLE search_pending (seq integer PRIMARY KEY NOT NULL, indexed text NOT NULL, \
                 current text NOT NULL)",
            ],
        )
        .await?;
        fill(manager.get_connection()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if postgres(manager) {
            return Ok(());
        }
        run(
            manager,
            &[
                "DROP TABLE search_pending",
                "DROP TABLE search_index",
                "ALTER TABLE lead_search RENAME TO lead_texts",
                "CREATE VIRTUAL TABLE lead_search USING fts5(text, tokenize = 'trigram case_sensitive 1')",
                "INSERT INTO lead_search (lead_search, rank) VALUES ('secure-delete', 1)",
                "INSERT INTO lead_search (rowid, text) SELECT seq, text FROM lead_texts ORDER BY seq",
                "DROP TABLE lead_texts",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Fills an empty `search_index` from `lead_search`, segment by segment.
pub async fn fill(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let newest = "SELECT coalesce(max(seq), -1) FROM lead_search";
    let newest = Statement::from_string(DbBackend::Sqlite, newest);
    let newest: i64 = match db.query_one_raw(newest).await? {
        Some(row) => row.try_get_by_index(0)?,
        None => -1,
    };
    let leads = (BLOCKS as i64) << BLOCK_BITS;
    let mut from = 0;
    while from <= newest {
        let sql = "SELECT seq, text FROM lead_search WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
        let values = [from.into(), (from + leads).into()];
        let texts = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        let mut texts_of = Vec::with_capacity(BLOCKS);
        for row in db.query_all_raw(texts).await? {
            let (seq, text): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            texts_of.push((block_of(seq), text));
        }
        let mut changes = Changes::default();
        for block in texts_of.chunk_by(|one, other| one.0 == other.0) {
            let number = block.first().map_or(0, |(number, _)| *number);
            let texts = block.iter().map(|(_, text)| Texts {
                indexed: "",
                current: text,
            });
            changes.block(number, &texts.collect::<Vec<_>>());
        }
        write(db, &changes.apply(&Sets::new())).await?;
        from += leads;
    }
    Ok(())
}

async fn write(db: &impl ConnectionTrait, sets: &Sets) -> Result<(), DbErr> {
    let sets: Vec<_> = sets.iter().collect();
    for sets in sets.chunks(SETS) {
        let (places, bytes) = written(sets.iter().copied());
        let values = [places.into(), bytes.into()];
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, WRITE, values);
        db.execute_raw(statement).await?;
    }
    Ok(())
}

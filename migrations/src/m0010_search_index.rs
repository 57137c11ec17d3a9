//! Search on SQLite moves from FTS5 to `search_index`, which is updated at the cost of what changes and
//! deletes at once (see [`crate::search_index`]). PostgreSQL keeps its array index.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::schema::*;
use crate::search_index::{Changes, MEMBERS, Node, Sets, WRITE, sets_parameter};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// How many sets are written at once.
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
                "CREATE TABLE search_index (key integer PRIMARY KEY NOT NULL, members blob NOT NULL)",
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

/// Fills an empty `search_index` from `lead_search`, leaf by leaf. The level above is small and is written
/// last.
pub async fn fill(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let mut branches = Sets::new();
    let mut from = 0;
    loop {
        // At least the rest of a leaf; what is behind it comes again.
        let sql = "SELECT seq, text FROM lead_search WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
        let values = [from.into(), (MEMBERS as i64).into()];
        let texts = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        let mut changes = Changes::default();
        let mut filled = None;
        for row in db.query_all_raw(texts).await? {
            let (seq, text): (i64, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            let (leaf, _) = Node::of_lead(seq);
            if *filled.get_or_insert(leaf) == leaf {
                changes.text(seq, "", &text);
            }
        }
        let Some(leaf) = filled else {
            return write(db, &branches).await;
        };
        let (sets, above) = changes.apply(&Sets::new());
        write(db, &sets).await?;
        let (changed, _) = above.apply(&branches);
        branches.extend(changed);
        from = leaf.member(MEMBERS);
    }
}

async fn write(db: &impl ConnectionTrait, sets: &Sets) -> Result<(), DbErr> {
    let sets: Vec<_> = sets.iter().collect();
    for sets in sets.chunks(SETS) {
        let parameter = sets_parameter(sets.iter().copied());
        let statement =
            Statement::from_sql_and_values(DbBackend::Sqlite, WRITE, [parameter.into()]);
        db.execute_raw(statement).await?;
    }
    Ok(())
}

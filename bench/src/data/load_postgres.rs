//! Loads PostgreSQL: COPY into tables without keys and indexes, which are recreated afterwards.

use anyhow::{Context, Result};
use sea_orm::sqlx::postgres::PgPoolCopyExt;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use super::{
    COLUMNS, Cell, ITEMS, actions, lead_id, order_id, ordered, orders, person, progress, row, time,
    trigrams,
};
use crate::data::BEGIN;
use crate::storage::Storage;

/// How much text is sent at once.
const CHUNK: usize = 1 << 20;
const TABLES: &str = "('leads', 'lead_search', 'orders')";

/// Fills those of the tables `leads`, `lead_search` and `orders` that exist.
pub async fn load(storage: &Storage, leads: u64) -> Result<()> {
    let db = storage.connect().await?;
    let restore = strip(&db).await?;
    let sql = format!("COPY leads ({COLUMNS}) FROM STDIN");
    copy(&db, &sql, leads, |lines, number| {
        lead_line(lines, number, leads)
    })
    .await?;
    if has(&db, "lead_search").await? {
        let sql = "COPY lead_search (seq, text, trigrams) FROM STDIN";
        copy(&db, sql, leads, |lines, number| {
            search_line(lines, number, leads);
            Ok(())
        })
        .await?;
    }
    if has(&db, "orders").await? {
        let sql = "COPY orders (id, lead_id, version, state, items, actions, create_time, \
                   update_time) FROM STDIN";
        copy(&db, sql, orders(leads), |lines, number| {
            order_line(lines, number - 1, leads)
        })
        .await?;
    }
    eprintln!("  indexes");
    // A dedicated session, because the settings are only for this load.
    let mut all = String::from("SET maintenance_work_mem = '1GB'; SET statement_timeout = 0;");
    for statement in restore {
        all.push_str(&statement);
        all.push(';');
    }
    // If the column has no sequence, the first argument is NULL, and setval has no effect.
    all.push_str("SELECT setval(pg_get_serial_sequence('leads', 'seq'), max(seq)) FROM leads");
    db.execute_unprepared(&all).await?;
    db.close().await?;
    Ok(())
}

async fn has(db: &DatabaseConnection, table: &str) -> Result<bool> {
    let sql = format!("SELECT to_regclass('{table}') IS NOT NULL");
    let row = db
        .query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await?;
    Ok(row.context("no row")?.try_get_by_index(0)?)
}

/// Drops the keys and indexes and returns the statements that recreate them.
async fn strip(db: &DatabaseConnection) -> Result<Vec<String>> {
    // Foreign keys are dropped first and recreated last.
    let constraints = format!(
        "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
                format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
                       pg_get_constraintdef(oid))
           FROM pg_constraint WHERE conrelid::regclass::text IN {TABLES} AND contype IN ('p', 'u', 'f')
          ORDER BY contype = 'f' DESC"
    );
    let indexes = format!(
        "SELECT format('DROP INDEX %I', indexname), indexdef FROM pg_indexes
          WHERE schemaname = 'public' AND tablename IN {TABLES}"
    );
    let mut restore = Vec::new();
    for sql in [constraints, indexes] {
        let rows = db
            .query_all_raw(Statement::from_string(DbBackend::Postgres, sql))
            .await?;
        for row in rows {
            let drop: String = row.try_get_by_index(0)?;
            db.execute_unprepared(&drop).await?;
            restore.push(row.try_get_by_index(1)?);
        }
    }
    restore.sort_by_key(|statement: &String| statement.contains("FOREIGN KEY"));
    Ok(restore)
}

/// Copies `count` rows, one per line, numbered from 1.
async fn copy(
    db: &DatabaseConnection,
    sql: &str,
    count: u64,
    line: impl Fn(&mut String, u64) -> Result<()>,
) -> Result<()> {
    let pool = db.get_postgres_connection_pool();
    let mut copy = pool.copy_in_raw(sql).await?;
    let mut lines = String::with_capacity(CHUNK + CHUNK / 8);
    for number in 1..=count {
        line(&mut lines, number)?;
        lines.push('\n');
        if lines.len() >= CHUNK {
            copy.send(lines.as_bytes()).await?;
            lines.clear();
        }
        progress("copied", number, count);
    }
    copy.send(lines.as_bytes()).await?;
    copy.finish().await?;
    Ok(())
}

// COPY would interpret tabs and backslashes, but no text of the data set contains any.

fn lead_line(lines: &mut String, number: u64, leads: u64) -> Result<()> {
    for (index, cell) in row(number, &person(number, leads))?.iter().enumerate() {
        if index > 0 {
            lines.push('\t');
        }
        match cell {
            Cell::Null => lines.push_str("\\N"),
            Cell::Number(number) => lines.push_str(&number.to_string()),
            Cell::Id(id) => lines.push_str(&id.to_string()),
            Cell::Text(text) => lines.push_str(text),
        }
    }
    Ok(())
}

fn search_line(lines: &mut String, number: u64, leads: u64) {
    let text = person(number, leads).search_text();
    lines.push_str(&format!("{number}\t{text}\t{{"));
    for (index, trigram) in trigrams(&text).into_iter().enumerate() {
        if index > 0 {
            lines.push(',');
        }
        lines.push_str(&trigram.to_string());
    }
    lines.push('}');
}

fn order_line(lines: &mut String, index: u64, leads: u64) -> Result<()> {
    let number = ordered(index, leads);
    let (id, lead) = (order_id(number), lead_id(number));
    let (actions, time) = (actions("PENDING"), time(BEGIN)?);
    lines.push_str(&format!(
        "{id}\t{lead}\t1\tPROCESSING\t{ITEMS}\t{actions}\t{time}\t{time}"
    ));
    Ok(())
}

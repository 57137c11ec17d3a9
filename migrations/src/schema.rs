//! The column types of the schema, so that all migrations define them in the same way.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// A UUID: 16 bytes on SQLite, `uuid` on PostgreSQL.
pub fn id(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).uuid().not_null().take()
}

/// Text that may be empty but not NULL. The service checks its maximum number of characters.
pub fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

/// Text that is ordered by its bytes on both databases, independent of the locale.
pub fn sort_key(manager: &SchemaManager, name: &'static str) -> ColumnDef {
    let mut column = text(name);
    if postgres(manager) {
        column.extra("COLLATE \"C\"");
    }
    column
}

/// A time in UTC, with microseconds.
pub fn time(name: &'static str) -> ColumnDef {
    ColumnDef::new(name)
        .timestamp_with_time_zone()
        .not_null()
        .take()
}

pub fn integer(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

pub fn flag(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().take()
}

pub fn json(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).json_binary().not_null().take()
}

pub fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).binary().not_null().take()
}

/// The same column, but nullable.
pub fn optional(mut column: ColumnDef) -> ColumnDef {
    column.null().take()
}

/// An auto-increment primary key.
pub fn sequence(name: &'static str) -> ColumnDef {
    ColumnDef::new(name)
        .big_integer()
        .not_null()
        .auto_increment()
        .primary_key()
        .take()
}

pub fn postgres(manager: &SchemaManager) -> bool {
    manager.get_database_backend() == DbBackend::Postgres
}

pub async fn create(
    manager: &SchemaManager<'_>,
    table: &'static str,
    columns: impl IntoIterator<Item = ColumnDef>,
) -> Result<(), DbErr> {
    let mut statement = Table::create();
    statement.table(table);
    for mut column in columns {
        statement.col(&mut column);
    }
    manager.create_table(statement).await
}

/// On PostgreSQL, locks these tables until the migration ends. A running service of the previous version
/// also locks tables. A migration that takes a lock on a table and a stronger one later, or locks tables in
/// another order, would deadlock with it. So all tables are locked first, in the service's order.
pub async fn lock_tables(manager: &SchemaManager<'_>, tables: &[&str]) -> Result<(), DbErr> {
    if !postgres(manager) {
        return Ok(());
    }
    let sql = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", "));
    run(manager, &[&sql]).await
}

/// Runs statements that are the same on both databases, or that the caller chose by [`postgres`].
pub async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        manager
            .get_connection()
            .execute_unprepared(statement)
            .await?;
    }
    Ok(())
}

pub async fn drop_tables(
    manager: &SchemaManager<'_>,
    tables: &[&'static str],
) -> Result<(), DbErr> {
    for table in tables {
        manager
            .drop_table(Table::drop().table(*table).take())
            .await?;
    }
    Ok(())
}

//! What each migration means for programs that do not know it, in the code and in the database.
//!
//! A program that is older than a schema does not know the newest migrations, so what they do to it must be in the
//! database: the table `schema_compatibility` has a row for each applied migration since the one that creates the
//! table. The row is written and deleted in the transaction of its migration, if the migration has one. The service
//! reads the table when it meets a migration that it does not know.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, Statement, Value};

/// The table: `migration` is the name of a migration, `requires` the name of another one, or NULL. A program that
/// does not know the migration works on the schema if `requires` is NULL, or a migration that it knows.
pub const TABLE: &str = "schema_compatibility";

/// The migration that creates the table. Older ones have no row: a program that reads the table knows them.
const CREATED_BY: &str = "m0016_compatibility";

/// A migration that only adds: the programs that worked on the schema before it also work on it afterwards.
pub fn expand<M: MigrationTrait + 'static>(migration: M) -> Box<dyn MigrationTrait> {
    let requires = None;
    Box::new(Marked {
        migration,
        requires,
    })
}

/// A migration that removes or changes what older programs use. Only programs that know the migration with the name
/// `requires` work on the schema afterwards. It is the expansion whose replacement is completed, or the migration
/// itself if no earlier program was prepared for it.
pub fn contract<M: MigrationTrait + 'static>(
    migration: M,
    requires: &'static str,
) -> Box<dyn MigrationTrait> {
    let requires = Some(requires);
    Box::new(Marked {
        migration,
        requires,
    })
}

/// A migration that also writes and deletes its row of [`TABLE`].
struct Marked<M> {
    migration: M,
    requires: Option<&'static str>,
}

impl<M: MigrationTrait> MigrationName for Marked<M> {
    fn name(&self) -> &str {
        self.migration.name()
    }
}

#[async_trait::async_trait]
impl<M: MigrationTrait> MigrationTrait for Marked<M> {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.migration.up(manager).await?;
        if self.name() < CREATED_BY {
            return Ok(());
        }
        // A migration without a transaction may have been stopped after this and before it was listed.
        let insert = format!(
            "INSERT INTO {TABLE} (migration, requires) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        );
        execute(manager, &insert, [self.name().into(), self.requires.into()]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if self.name() >= CREATED_BY {
            let delete = format!("DELETE FROM {TABLE} WHERE migration = $1");
            execute(manager, &delete, [self.name().into()]).await?;
        }
        self.migration.down(manager).await
    }

    fn use_transaction(&self) -> Option<bool> {
        self.migration.use_transaction()
    }
}

async fn execute<const N: usize>(
    manager: &SchemaManager<'_>,
    sql: &str,
    values: [Value; N],
) -> Result<(), DbErr> {
    let statement = Statement::from_sql_and_values(manager.get_database_backend(), sql, values);
    manager.get_connection().execute_raw(statement).await?;
    Ok(())
}

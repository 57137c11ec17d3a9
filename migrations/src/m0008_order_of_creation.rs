//! Adds a sequence number to each opportunity, order and run. The database assigns it in the transaction
//! that inserts the row, so lists are in the order of creation even if the servers' clocks differ.
//!
//! Also adds a primary key to the only table without one: PostgreSQL refuses UPDATE and DELETE on a
//! published table without a replica identity.

use crate::schema::*;
use crate::{m0003_opportunities, m0004_orders};
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// A table whose rows get numbers.
struct Numbered {
    name: &'static str,
    columns: fn() -> Vec<ColumnDef>,
    /// The indexes by id that are replaced by indexes by number: name, columns, condition.
    indexes: &'static [(&'static str, &'static str, &'static str)],
}

const TABLES: [Numbered; 3] = [
    Numbered {
        name: "opportunities",
        columns: m0003_opportunities::columns,
        indexes: &[
            ("opportunities_state", "state", ""),
            ("opportunities_lead", "lead_id", ""),
            ("opportunities_owner", "owner_id", " WHERE owner_id <> ''"),
        ],
    },
    Numbered {
        name: "orders",
        columns: m0004_orders::columns,
        indexes: &[
            ("orders_state", "state", ""),
            ("orders_lead", "lead_id", ""),
        ],
    },
    Numbered {
        name: "action_runs",
        columns: m0004_orders::run_columns,
        indexes: &[("action_runs_order", "order_id", "")],
    },
];

impl Numbered {
    /// Adds the number. Existing rows are numbered by their ids, which contain the time of creation.
    async fn up(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        let name = self.name;
        if postgres(manager) {
            // The default also serves servers of the previous version, which do not know the number.
            let statements = [
                format!("ALTER TABLE {name} ADD COLUMN seq bigint"),
                format!(
                    "UPDATE {name} SET seq = n.seq FROM (SELECT id, row_number() OVER (ORDER BY id) \
                     AS seq FROM {name}) AS n WHERE n.id = {name}.id"
                ),
                format!("CREATE SEQUENCE {name}_seq_seq OWNED BY {name}.seq"),
                format!(
                    "SELECT setval('{name}_seq_seq', \
                     (SELECT coalesce(max(seq), 0) + 1 FROM {name}), FALSE)"
                ),
                format!(
                    "ALTER TABLE {name} ALTER COLUMN seq SET NOT NULL, \
                     ALTER COLUMN seq SET DEFAULT nextval('{name}_seq_seq')"
                ),
            ];
            for statement in statements {
                run(manager, &[&statement]).await?;
            }
            for (index, _, _) in self.indexes {
                run(manager, &[&format!("DROP INDEX {index}")]).await?;
            }
        } else {
            let mut columns = vec![sequence("seq")];
            for mut column in (self.columns)() {
                // The number replaces the id as primary key.
                if column.get_column_name() == "id" {
                    column = id("id").unique_key().take();
                }
                columns.push(column);
            }
            self.rebuild(manager, columns).await?;
        }
        self.create_indexes(manager, "seq", "_seq").await
    }

    async fn down(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        if postgres(manager) {
            // This also drops the indexes on it.
            let sql = format!("ALTER TABLE {} DROP COLUMN seq", self.name);
            run(manager, &[&sql]).await?;
        } else {
            self.rebuild(manager, (self.columns)()).await?;
        }
        self.create_indexes(manager, "id", "").await
    }

    /// SQLite cannot change a primary key. So the table is created again with these columns, and its rows
    /// are copied in the order of their ids.
    async fn rebuild(
        &self,
        manager: &SchemaManager<'_>,
        columns: Vec<ColumnDef>,
    ) -> Result<(), DbErr> {
        let name = self.name;
        let kept: Vec<String> = (self.columns)()
            .iter()
            .map(ColumnDef::get_column_name)
            .collect();
        let kept = kept.join(", ");
        let rename = format!("ALTER TABLE {name} RENAME TO {name}_before");
        run(manager, &[&rename]).await?;
        create(manager, name, columns).await?;
        let copy =
            format!("INSERT INTO {name} ({kept}) SELECT {kept} FROM {name}_before ORDER BY id");
        let drop = format!("DROP TABLE {name}_before");
        run(manager, &[&copy, &drop]).await
    }

    async fn create_indexes(
        &self,
        manager: &SchemaManager<'_>,
        by: &str,
        suffix: &str,
    ) -> Result<(), DbErr> {
        for (index, column, condition) in self.indexes {
            let table = self.name;
            let sql =
                format!("CREATE INDEX {index}{suffix} ON {table} ({column}, {by}){condition}");
            run(manager, &[&sql]).await?;
        }
        Ok(())
    }
}

/// In the order in which the service locks them.
const LOCKED: [&str; 4] = [
    "idempotency_records",
    "orders",
    "opportunities",
    "action_runs",
];

const KEY_ON_POSTGRES: &[&str] =
    &["ALTER TABLE idempotency_records ADD PRIMARY KEY USING INDEX idempotency_records_request"];

const KEY_ON_POSTGRES_DOWN: &[&str] = &[
    "ALTER TABLE idempotency_records DROP CONSTRAINT idempotency_records_request",
    "ALTER TABLE idempotency_records ALTER COLUMN principal_id SET NOT NULL, \
     ALTER COLUMN request_id SET NOT NULL",
    "CREATE UNIQUE INDEX idempotency_records_request ON idempotency_records (principal_id, request_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        if postgres(manager) {
            run(manager, KEY_ON_POSTGRES).await?;
        }
        for table in TABLES {
            table.up(manager).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        for table in TABLES {
            table.down(manager).await?;
        }
        if postgres(manager) {
            run(manager, KEY_ON_POSTGRES_DOWN).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

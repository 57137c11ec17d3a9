//! The data sets. Each lead is generated from its number, so that every id and text can be computed wherever it is
//! needed, also by pgbench.
//!
//! Rows are written in the schema of the first migrations, which no later change alters. Each build of the service
//! migrates its own copy, as in an upgrade. So builds with different schemas are measured on the same content, and
//! the loader needs to know only one schema.

mod ids;
mod load_postgres;
mod load_sqlite;
mod people;
mod row;

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use migrations::Migrator;
use migrations::sea_orm_migration::MigratorTrait as _;

pub use ids::{BEGIN, STRIDE, lead_id, open_number, order_id, shuffled, state};
pub use people::{Person, code, fold, person, phone};
pub use row::{COLUMNS, Cell, ITEMS, actions, row, time, trigrams};

use crate::program::Program;
use crate::setting::Setting;
use crate::storage::{Database, Storage};

/// A version of the content. Increase it when the loader changes, so that old data sets are not reused.
const FORMAT: u32 = 2;
/// The number of migrations of that schema: those of the oldest build that can be compared.
const LOADED_AT: u32 = 5;
/// How many service accounts call, because limits per principal assume more than one caller.
const ACCOUNTS: usize = 4;
/// The maximum number of orders in a data set.
const ORDERS: u64 = 200_000;

/// How many of this many leads are OPEN.
pub fn open(leads: u64) -> u64 {
    leads / 10 * 9
}

/// How many orders a data set of this many leads has. The order at `index` belongs to the lead `shuffled(open - 1
/// - index)`: these are the leads that Convert uses last.
pub fn orders(leads: u64) -> u64 {
    open(leads).min(ORDERS)
}

/// The number of the lead that the order at `index` belongs to.
pub fn ordered(index: u64, leads: u64) -> u64 {
    shuffled(open(leads) - 1 - index, open(leads))
}

/// A database that a build of the service has migrated, and the keys for calling a service on it.
#[derive(Clone)]
pub struct DataSet {
    pub storage: Storage,
    pub leads: u64,
    pub keys: Vec<String>,
    pub program: Program,
}

impl DataSet {
    /// The data set of this size for a build. It is prepared if it does not exist yet.
    pub async fn ready(
        setting: &Setting,
        program: &Program,
        database: Database,
        leads: u64,
    ) -> Result<Self> {
        let name = format!("{}_{leads}", program.role());
        let storage = setting.storage(database, &name)?;
        let mark = Mark::new(setting, database, &name);
        let keys = match mark.read(&storage).await? {
            Some(keys) => keys.lines().map(str::to_owned).collect(),
            None => {
                let base = base(setting, database, leads).await?;
                eprintln!("migrating {leads} leads in {database} by {program}");
                let begin = Instant::now();
                base.copy_to(&storage).await?;
                program.command(&storage, &["migrate", "up"])?;
                storage.analyze().await?;
                let keys = accounts(program, &storage)?;
                mark.write(&keys.join("\n"))?;
                eprintln!("migrated in {:.0} s", begin.elapsed().as_secs_f64());
                keys
            }
        };
        Ok(Self {
            storage,
            leads,
            keys,
            program: program.clone(),
        })
    }

    /// A copy that may be changed. It replaces an earlier copy.
    pub async fn copy(&self) -> Result<Self> {
        Ok(Self {
            storage: self.storage.copy().await?,
            ..self.clone()
        })
    }

    /// How many leads are OPEN.
    pub fn open(&self) -> u64 {
        open(self.leads)
    }
}

/// Creates the service accounts and returns the key of each.
fn accounts(program: &Program, storage: &Storage) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for index in 0..ACCOUNTS {
        let name = format!("bench-{index}");
        let account = [
            "service-account",
            "create",
            "--role",
            "SALES",
            "--name",
            &name,
        ];
        program.command(storage, &account)?;
        let key = ["service-account", "create-key", "--name", &name];
        keys.push(program.command(storage, &key)?.trim().to_owned());
    }
    Ok(keys)
}

/// The loaded leads and orders, from which the data set of every build is copied.
async fn base(setting: &Setting, database: Database, leads: u64) -> Result<Storage> {
    loaded(setting, database, "base", leads, async |storage| {
        let db = storage.connect().await?;
        Migrator::up(&db, Some(LOADED_AT)).await?;
        Ok(db.close().await?)
    })
    .await
}

/// A database with the leads and orders, in the tables that `schema` creates. It is loaded if it does not exist
/// yet.
pub async fn loaded(
    setting: &Setting,
    database: Database,
    kind: &str,
    leads: u64,
    schema: impl AsyncFnOnce(&Storage) -> Result<()>,
) -> Result<Storage> {
    let name = format!("{kind}_{leads}");
    let storage = setting.storage(database, &name)?;
    let mark = Mark::new(setting, database, &name);
    if mark.read(&storage).await?.is_some() {
        return Ok(storage);
    }
    eprintln!("loading {leads} leads into {database} ({kind}), only once");
    let begin = Instant::now();
    storage.create().await?;
    schema(&storage).await?;
    match &storage {
        Storage::Sqlite(file) => load_sqlite::load(file, leads)?,
        Storage::Postgres(..) => load_postgres::load(&storage, leads).await?,
    }
    storage.analyze().await?;
    mark.write("")?;
    eprintln!("loaded in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(storage)
}

/// A marker file: the database is complete. It contains the keys for calling a service on it.
struct Mark(PathBuf);

impl Mark {
    fn new(setting: &Setting, database: Database, name: &str) -> Self {
        let file = format!("{database}_{name}_v{FORMAT}.key");
        Self(setting.folder.join(file))
    }

    /// The content of the marker, if the database exists too. Otherwise the marker is removed, because the
    /// database will be recreated.
    async fn read(&self, storage: &Storage) -> Result<Option<String>> {
        match fs::read_to_string(&self.0) {
            Ok(keys) if storage.exists().await? => return Ok(Some(keys)),
            Ok(_) => fs::remove_file(&self.0)?,
            Err(_) => {}
        }
        Ok(None)
    }

    fn write(&self, keys: &str) -> Result<()> {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.0)
            .and_then(|mut file| std::io::Write::write_all(&mut file, keys.as_bytes()))
            .with_context(|| format!("{} cannot be written", self.0.display()))
    }
}

/// Prints the progress of loading many rows.
fn progress(what: &str, done: u64, all: u64) {
    if done.is_multiple_of(1_000_000) && all > 1_000_000 {
        eprintln!("  {what}: {done} of {all}");
    }
}

//! The data sets: leads made from their number alone, so that every id and every text can be computed
//! again wherever it is needed, by pgbench too.
//!
//! Rows are written at the schema of the first migrations, which no later change alters. Each build of
//! the service gets a copy that it migrates itself, as it would at a user's: so builds with different
//! schemas are measured on the same content, and the loader knows one schema only.

mod ids;
mod load_postgres;
mod load_sqlite;
mod people;
mod row;

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use migrations::Migrator;
use migrations::sea_orm_migration::MigratorTrait as _;

pub use ids::{BEGIN, STRIDE, lead_id, open_number, order_id, shuffled, state};
pub use people::{Person, code, fold, person, phone};
pub use row::{COLUMNS, Cell, ITEMS, actions, row, time, trigrams};

use crate::place::{Database, Place};
use crate::service::Program;
use crate::setting::Setting;

/// Changes with what is loaded, so that an old data set is not taken for a new one.
const FORMAT: u32 = 2;
/// The migrations at whose schema rows are written: those of the oldest build that can be compared.
const LOADED_AT: u32 = 5;
/// How many service accounts call: limits for each principal are meant for more than one caller.
const ACCOUNTS: usize = 4;
/// How many orders a data set has at most.
const ORDERS: u64 = 200_000;

/// How many of so many leads are OPEN.
pub fn open(leads: u64) -> u64 {
    leads / 10 * 9
}

/// How many orders a data set of so many leads has. The order at `index` is that of the lead
/// `shuffled(open - 1 - index)`: the leads that Convert takes last.
pub fn orders(leads: u64) -> u64 {
    open(leads).min(ORDERS)
}

/// The number of the lead that the order at `index` belongs to.
pub fn ordered(index: u64, leads: u64) -> u64 {
    shuffled(open(leads) - 1 - index, open(leads))
}

/// A database that a build of the service has migrated, and the keys to call a service on it with.
#[derive(Clone)]
pub struct DataSet {
    pub place: Place,
    pub leads: u64,
    pub keys: Vec<String>,
    pub program: Program,
}

impl DataSet {
    /// The data set of this size for a build, prepared unless it is there already.
    pub async fn ready(
        setting: &Setting,
        program: &Program,
        database: Database,
        leads: u64,
    ) -> Result<Self> {
        let name = format!("{}_{leads}", program.role());
        let place = setting.place(database, &name)?;
        let mark = Mark::new(setting, database, &name);
        let keys = match mark.read(&place).await? {
            Some(keys) => keys.lines().map(str::to_owned).collect(),
            None => {
                let base = base(setting, database, leads).await?;
                eprintln!("migrating {leads} leads in {database} by {program}");
                let begin = Instant::now();
                base.copy_to(&place).await?;
                program.command(&place, &["migrate", "up"])?;
                place.analyze().await?;
                let keys = accounts(program, &place)?;
                mark.write(&keys.join("\n"))?;
                eprintln!("migrated in {:.0} s", begin.elapsed().as_secs_f64());
                keys
            }
        };
        Ok(Self {
            place,
            leads,
            keys,
            program: program.clone(),
        })
    }

    /// A copy to change. An earlier copy is replaced.
    pub async fn copy(&self) -> Result<Self> {
        Ok(Self {
            place: self.place.copy().await?,
            ..self.clone()
        })
    }

    /// How many leads are OPEN.
    pub fn open(&self) -> u64 {
        open(self.leads)
    }
}

/// Creates the service accounts and returns the key of each.
fn accounts(program: &Program, place: &Place) -> Result<Vec<String>> {
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
        program.command(place, &account)?;
        let key = ["service-account", "create-key", "--name", &name];
        keys.push(program.command(place, &key)?.trim().to_owned());
    }
    Ok(keys)
}

/// The leads and orders as they were loaded, from which every build's data set is copied.
async fn base(setting: &Setting, database: Database, leads: u64) -> Result<Place> {
    loaded(setting, database, "base", leads, async |place| {
        let db = place.connect().await?;
        Migrator::up(&db, Some(LOADED_AT)).await?;
        Ok(db.close().await?)
    })
    .await
}

/// A database with the leads and orders, loaded into the tables that `schema` makes, unless it is
/// there already.
pub async fn loaded(
    setting: &Setting,
    database: Database,
    kind: &str,
    leads: u64,
    schema: impl AsyncFnOnce(&Place) -> Result<()>,
) -> Result<Place> {
    let name = format!("{kind}_{leads}");
    let place = setting.place(database, &name)?;
    let mark = Mark::new(setting, database, &name);
    if mark.read(&place).await?.is_some() {
        return Ok(place);
    }
    eprintln!("loading {leads} leads into {database} ({kind}), this once");
    let begin = Instant::now();
    place.create().await?;
    schema(&place).await?;
    match &place {
        Place::Sqlite(file) => load_sqlite::load(file, leads)?,
        Place::Postgres(..) => load_postgres::load(&place, leads).await?,
    }
    place.analyze().await?;
    mark.write("")?;
    eprintln!("loaded in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(place)
}

/// A file that says that a database is complete, and holds the keys to call a service on it with.
struct Mark(PathBuf);

impl Mark {
    fn new(setting: &Setting, database: Database, name: &str) -> Self {
        let file = format!("{database}_{name}_v{FORMAT}.key");
        Self(setting.folder.join(file))
    }

    /// What it holds, if the database is there too. Otherwise the mark is removed, because the database
    /// is about to be made.
    async fn read(&self, place: &Place) -> Result<Option<String>> {
        match fs::read_to_string(&self.0) {
            Ok(keys) if place.exists().await? => return Ok(Some(keys)),
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

/// Forgets the data sets that a build has migrated: another one takes its role.
pub fn forget(folder: &Path, role: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".key") && name.contains(&format!("_{role}_")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Prints how far the load of many rows is.
fn progress(what: &str, done: u64, all: u64) {
    if done.is_multiple_of(1_000_000) && all > 1_000_000 {
        eprintln!("  {what}: {done} of {all}");
    }
}

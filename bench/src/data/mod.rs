//! The data set: leads as a sales desk has them, made from their number alone, so that every id and
//! every text can be computed again wherever it is needed, by pgbench too.

mod load_postgres;
mod load_sqlite;
pub mod orders;
mod people;

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat};
use leadsmith::leads::model::{Details, fold};
use uuid::Uuid;

pub use people::{code, details, phone};

use crate::place::{Database, Place};
use crate::service::Program;
use crate::setting::Setting;

/// Changes with what is loaded, so that no old data set is taken for a new one.
const FORMAT: u32 = 1;
/// When the first lead was created: 2024-01-01, in seconds.
pub const BEGIN: i64 = 1_704_067_200;
/// The service account that calls.
const ACCOUNT: &str = "bench";

/// A loaded database and the key to call a service on it with.
#[derive(Clone)]
pub struct DataSet {
    pub place: Place,
    pub leads: u64,
    pub key: String,
}

impl DataSet {
    /// The data set of this size, loaded unless it is there already.
    pub async fn ready(setting: &Setting, database: Database, leads: u64) -> Result<Self> {
        let name = format!("leads_{leads}_v{FORMAT}");
        let place = setting.place(database, &name)?;
        let mark = setting.folder.join(format!("{database}_{name}.key"));
        if let Ok(key) = fs::read_to_string(&mark)
            && place.exists().await?
        {
            return Ok(Self { place, leads, key });
        }
        eprintln!("loading {leads} leads into {database}, this once");
        let begin = std::time::Instant::now();
        place.create().await?;
        let program = Program::build()?;
        program.command(&place, &["migrate", "up"])?;
        match &place {
            Place::Sqlite(file) => load_sqlite::load(file, leads)?,
            Place::Postgres(..) => load_postgres::load(&place, leads).await?,
        }
        let account = ["service-account", "create", "--role", "SALES", "--name"];
        program.command(&place, &[&account[..], &[ACCOUNT]].concat())?;
        let key = ["service-account", "create-key", "--name", ACCOUNT];
        let key = program.command(&place, &key)?.trim().to_owned();
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&mark)
            .and_then(|mut file| std::io::Write::write_all(&mut file, key.as_bytes()))
            .with_context(|| format!("{} cannot be written", mark.display()))?;
        eprintln!("loaded in {:.0} s", begin.elapsed().as_secs_f64());
        Ok(Self { place, leads, key })
    }

    /// A copy for what changes data. The one before it is gone.
    pub async fn copy(&self) -> Result<Self> {
        Ok(Self {
            place: self.place.copy().await?,
            ..self.clone()
        })
    }

    /// How many leads are OPEN.
    pub fn open(&self) -> u64 {
        self.leads / 10 * 9
    }
}

/// The id of the lead with this number: in the order of time as the service's are, and random behind
/// that. The same is computed by [`crate::limits::pgbench`].
pub fn lead_id(number: u64) -> Uuid {
    id_at(BEGIN as u64 * 1_000 + number * 1_000, number)
}

/// The id of an order of this lead.
pub fn order_id(number: u64) -> Uuid {
    id_at(BEGIN as u64 * 1_000 + number * 1_000 + 500, number)
}

fn id_at(milliseconds: u64, number: u64) -> Uuid {
    let hash = fnv1a(number);
    let high = milliseconds << 16 | 0x7000 | hash >> 40 & 0xfff;
    let low = 0xa800_0000_0000_0000 | hash & ((1 << 56) - 1);
    Uuid::from_u64_pair(high, low)
}

/// pgbench's `hash_fnv1a(number, 0)`.
fn fnv1a(number: u64) -> u64 {
    number
        .to_le_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// Of ten leads nine are OPEN; the tenth is CONVERTED, or each tenth time DEACTIVATED.
pub fn state(number: u64) -> &'static str {
    match (number % 10, number % 100) {
        (0, 0) => "DEACTIVATED",
        (0, _) => "CONVERTED",
        _ => "OPEN",
    }
}

/// The number of the OPEN lead at `index`, from 0.
pub fn open_number(index: u64) -> u64 {
    index / 9 * 10 + index % 9 + 1
}

/// The number of the OPEN lead that comes at `turn`, from 0, when each comes once and in no order.
pub fn shuffled(turn: u64, open: u64) -> u64 {
    open_number(turn * STRIDE % open)
}

/// A prime that divides no number of leads.
pub const STRIDE: u64 = 7_368_787;

/// A value of a row.
pub enum Cell {
    Null,
    Number(i64),
    Id(Uuid),
    Text(String),
}

/// The columns of [`row`].
pub const COLUMNS: &str = "seq, id, version, state, first_name, last_name, company, email, phone, \
                           fax, vat_id, street, city, region, postal_code, country_code, language, \
                           owner_id, source, custom_fields, last_name_key, company_key, email_key, \
                           deactivation_time, deactivation_actor, deactivation_reason, \
                           conversion_time, conversion_actor, create_time, update_time";

/// A row of `leads`.
pub fn row(number: u64, details: &Details) -> Result<[Cell; 30]> {
    let actor =
        r#"{"id": "018cc251-f400-7000-a800-000000000000", "kind": "OPERATOR", "name": "loader"}"#;
    let state = state(number);
    let created = BEGIN + number as i64;
    let update_time = time(created + (fnv1a(number) >> 30) as i64 % 2_592_000)?;
    let text = |text: &str| Cell::Text(text.to_owned());
    let when = |at: &str, value: &str| match state == at {
        true => Cell::Text(value.to_owned()),
        false => Cell::Null,
    };
    Ok([
        Cell::Number(number as i64),
        Cell::Id(lead_id(number)),
        Cell::Number(1),
        text(state),
        text(&details.first_name),
        text(&details.last_name),
        text(&details.company),
        text(&details.email),
        text(&details.phone),
        text(&details.fax),
        text(&details.vat_id),
        text(&details.address.street),
        text(&details.address.city),
        text(&details.address.region),
        text(&details.address.postal_code),
        text(&details.address.country_code),
        text(&details.language),
        text(&details.owner_id),
        text(&details.source),
        Cell::Text(serde_json::to_string(&details.custom_fields)?),
        Cell::Text(fold(&details.last_name)),
        Cell::Text(fold(&details.company)),
        Cell::Text(details.email_key()),
        when("DEACTIVATED", &update_time),
        when("DEACTIVATED", actor),
        when("DEACTIVATED", "No budget this year"),
        when("CONVERTED", &update_time),
        when("CONVERTED", actor),
        Cell::Text(time(created)?),
        Cell::Text(update_time),
    ])
}

/// A time as SQLite has it and PostgreSQL reads it.
fn time(seconds: i64) -> Result<String> {
    let time = DateTime::from_timestamp(seconds, 0).context("a time")?;
    Ok(time.to_rfc3339_opts(SecondsFormat::AutoSi, false))
}

/// Tells how far the load of many rows is.
fn progress(what: &str, done: u64, all: u64) {
    if done.is_multiple_of(1_000_000) && all > 1_000_000 {
        eprintln!("  {what}: {done} of {all}");
    }
}

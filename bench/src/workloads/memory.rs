//! The service's memory: idle, under a mixed load, and whether it grows during the load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::create::Create;
use super::get::Get;
use super::search::Search;
use super::update::{Field, Update};
use crate::load;
use crate::process;
use crate::row::{Bar, Kind, Row, Spread};
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed, data_sets};

/// The limit of the memory before the first call, in MiB.
const IDLE: f64 = 40.0;
/// The limit of the memory at any time, in MiB.
pub const LOADED: f64 = 150.0;
/// The limit of the ratio of the memory in the last part of the load to that in the first part after the warm-up.
const GROWTH: f64 = 1.1;
/// The number of parts of the load. The first is the warm-up.
const PARTS: usize = 5;

pub async fn measure(setting: &Setting, database: Database, minutes: f64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let (tested, leads) = (setting.tested(), setting.leads);
    let data = data_sets(setting, tested, database, leads, Access::Changes).await?;
    let bed = Testbed::on(setting, data).await?;
    let service = bed.tested().service.id();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (idle, _) = process::memory(service)?;
    rows.push(Row {
        memory: Some(idle),
        bar: Some(Bar::at_most(IDLE, " MiB", idle)),
        ..bed.row(Kind::Memory, "Memory, idle", 0)
    });
    let time = Duration::from_secs_f64(minutes * 60.0);
    let (samples, calls) = tokio::try_join!(watch(service, time), load(&bed, time))?;
    let (memory, peak) = process::memory(service)?;
    let in_flight = bed.setting.in_flight * 2;
    rows.push(Row {
        rate: Some(Spread::of(&[calls as f64 / time.as_secs_f64()])),
        memory: Some(memory),
        peak: Some(peak),
        bar: Some(Bar::at_most(LOADED, " MiB", peak)),
        ..bed.row(Kind::Memory, "Memory, full load", in_flight)
    });
    let part = (samples.len() / PARTS).max(1);
    let mut parts = samples.chunks(part).map(|part| Spread::of(part).median);
    let (early, late) = (
        parts.nth(1).unwrap_or(0.0),
        parts.nth(PARTS - 3).unwrap_or(0.0),
    );
    let growth = late / early;
    rows.push(Row {
        ratio: Some(Spread::of(&[growth])),
        memory: Some(late),
        bar: Some(Bar::at_most(GROWTH, " ×", growth)),
        ..bed.row(Kind::Memory, "Memory, growth", in_flight)
    });
    bed.end().await?;
    Ok(rows)
}

/// Samples of the memory, five per second.
async fn watch(service: u32, time: Duration) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let mut samples = Vec::new();
    while begin.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(200)).await;
        samples.push(process::memory(service)?.0);
    }
    Ok(samples)
}

/// A mixed load with twice as many calls in flight as elsewhere. Returns the number of successful calls.
async fn load(bed: &Testbed<'_>, time: Duration) -> Result<u64> {
    let (callers, leads) = (&bed.tested().service.callers, bed.tested().data.leads);
    let search = Arc::new(Search::selective(&mut bed.tested().caller(), leads).await?);
    let get = Arc::new(Get { leads });
    let update = Arc::new(Update {
        leads,
        field: Field::Phone,
    });
    let create = Arc::new(Create {
        leads,
        request_id: true,
    });
    let half = (bed.setting.in_flight / 2).max(1);
    let runs = tokio::try_join!(
        load::closed(callers, &get, half, time),
        load::closed(callers, &update, half, time),
        load::closed(callers, &create, half, time),
        load::closed(callers, &search, half, time),
    )?;
    Ok(runs.0.calls() + runs.1.calls() + runs.2.calls() + runs.3.calls())
}

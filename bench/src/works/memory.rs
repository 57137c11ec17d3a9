//! The service's memory: idle, under load of every kind at once, and whether it grows meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::create::Create;
use super::get::Get;
use super::search::Search;
use super::update::Update;
use crate::data::DataSet;
use crate::load;
use crate::measure::Bed;
use crate::process;
use crate::report::{Bar, Row, Spread};
use crate::setting::Setting;

/// How many MiB it may have before anybody calls.
const IDLE: f64 = 40.0;
/// How many MiB the service may ever have.
pub const LOADED: f64 = 150.0;
/// How much more the last part of the load may have than the first after the warm-up.
const GROWTH: f64 = 1.1;
/// Into how many parts the load is cut; the first is the warm-up.
const PARTS: usize = 5;

pub async fn measure(setting: &Setting, minutes: f64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let bed = Bed::start(setting, data.copy().await?).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (idle, _) = process::memory(bed.service.id())?;
        rows.push(Row {
            memory: Some(idle),
            bar: Some(Bar::at_most(IDLE, " MiB", idle)),
            ..bed.row("Memory, idle", 0)
        });
        let time = Duration::from_secs_f64(minutes * 60.0);
        let (samples, calls) = tokio::try_join!(watch(&bed, time), load(&bed, time))?;
        let (memory, peak) = process::memory(bed.service.id())?;
        let in_flight = bed.setting.in_flight * 2;
        rows.push(Row {
            rate: Some(Spread::of(&[calls as f64 / time.as_secs_f64()])),
            memory: Some(memory),
            peak: Some(peak),
            bar: Some(Bar::at_most(LOADED, " MiB", peak)),
            ..bed.row("Memory, full load", in_flight)
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
            ..bed.row(&format!("Memory, after {minutes} min"), in_flight)
        });
        bed.end().await?;
    }
    Ok(rows)
}

/// The memory, each fifth of a second.
async fn watch(bed: &Bed<'_>, time: Duration) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let mut samples = Vec::new();
    while begin.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(200)).await;
        samples.push(process::memory(bed.service.id())?.0);
    }
    Ok(samples)
}

/// Twice as many in flight as elsewhere, of every kind. How many were answered.
async fn load(bed: &Bed<'_>, time: Duration) -> Result<u64> {
    let callers = &bed.service.callers;
    let (leads, open) = (bed.data.leads, bed.data.open());
    let selective = Search::selective(&mut callers[0].clone(), leads).await?;
    let get = Arc::new(Get { leads });
    let update = Arc::new(Update { open });
    let create = Arc::new(Create {
        leads,
        request_id: true,
    });
    let search = Arc::new(selective);
    let half = (bed.setting.in_flight / 2).max(1);
    let runs = tokio::try_join!(
        load::closed(callers, &get, half, time),
        load::closed(callers, &update, half, time),
        load::closed(callers, &create, half, time),
        load::closed(callers, &search, half, time),
    )?;
    Ok(runs.0.calls() + runs.1.calls() + runs.2.calls() + runs.3.calls())
}

//! How calls grow with the number of leads: the p50 of one caller at a time, all sizes in turns.

use std::sync::Arc;

use anyhow::Result;

use super::get::Get;
use super::list::List;
use super::search::Search;
use super::update::Update;
use crate::data::DataSet;
use crate::load::Work;
use crate::measure::Bed;
use crate::place::Database;
use crate::report::{Bar, Row, Spread};
use crate::setting::Setting;

/// How much more a call may take on the largest data set than on the smallest.
const BAR: f64 = 1.3;

pub async fn measure(setting: &Setting, sizes: &[u64]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        rows.extend(reads(setting, database, sizes).await?);
        rows.extend(updates(setting, database, sizes).await?);
    }
    Ok(rows)
}

async fn reads(setting: &Setting, database: Database, sizes: &[u64]) -> Result<Vec<Row>> {
    let mut beds = Vec::new();
    for size in sizes {
        let data = DataSet::ready(setting, database, *size).await?;
        beds.push(Bed::start(setting, data).await?);
    }
    let (mut gets, mut lists, mut searches) = (Vec::new(), Vec::new(), Vec::new());
    for bed in &beds {
        let mut caller = bed.service.callers[0].clone();
        let leads = bed.data.leads;
        gets.push(Arc::new(Get { leads }));
        lists.push(Arc::new(List::newest(&mut caller).await?));
        searches.push(Arc::new(Search::selective(&mut caller, leads).await?));
    }
    let mut rows = compare(&beds, "Get", &gets).await?;
    rows.extend(compare(&beds, "List", &lists).await?);
    rows.extend(compare(&beds, "Search", &searches).await?);
    Ok(rows)
}

async fn updates(setting: &Setting, database: Database, sizes: &[u64]) -> Result<Vec<Row>> {
    let mut beds = Vec::new();
    let mut works = Vec::new();
    for size in sizes {
        let data = DataSet::ready(setting, database, *size).await?;
        works.push(Arc::new(Update { open: data.open() }));
        beds.push(Bed::start(setting, data.copy().await?).await?);
    }
    let rows = compare(&beds, "Update", &works).await?;
    for bed in beds {
        bed.end().await?;
    }
    Ok(rows)
}

/// The p50 of each size, by that of the first.
async fn compare<W: Work>(beds: &[Bed<'_>], name: &str, works: &[Arc<W>]) -> Result<Vec<Row>> {
    let mut times = vec![Vec::new(); beds.len()];
    let mut ratios = vec![Vec::new(); beds.len()];
    let mut p99 = vec![Vec::new(); beds.len()];
    for (bed, work) in beds.iter().zip(works) {
        bed.serve(work, 1).await?; // a warm-up
    }
    for _ in 0..beds.first().map_or(0, |bed| bed.setting.rounds) {
        let mut first = None;
        for (index, (bed, work)) in beds.iter().zip(works).enumerate() {
            let run = bed.serve(work, 1).await?;
            let p50 = run.quantile(0.5);
            times[index].push(p50);
            p99[index].push(run.quantile(0.99));
            ratios[index].push(p50 / *first.get_or_insert(p50));
        }
    }
    let smallest = beds.first().map_or(0, |bed| bed.data.leads);
    let rows = beds.iter().enumerate().map(|(index, bed)| {
        let ratio = Spread::of(&ratios[index]);
        Row {
            limit: Some(Spread::of(&times[0])),
            bar: (index > 0).then(|| Bar::at_most(BAR, &format!(" × {smallest}"), ratio.median)),
            ratio: Some(ratio),
            p50: Some(Spread::of(&times[index]).median),
            p99: Some(Spread::of(&p99[index]).median),
            ..bed.row(&format!("Growth: {name}"), 1)
        }
    });
    Ok(rows.collect())
}

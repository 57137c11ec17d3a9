//! How calls grow with the number of leads: the p50 of one caller, with all sizes alternately. Updates of a
//! searched field and of another field are also compared with each other.

use anyhow::Result;

use super::get::Get;
use super::list::List;
use super::search::Search;
use super::update::{self, Field, Update};
use crate::load::Workload;
use crate::row::{Bar, Kind, Row, Spread};
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed, Workloads, data_sets};

/// The limit of the ratio of a call's time on a larger data set to that on the smallest.
const BAR: f64 = 1.3;

pub async fn measure(setting: &Setting, database: Database, sizes: &[u64]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    rows.extend(reads(setting, database, sizes).await?);
    rows.extend(updates(setting, database, sizes).await?);
    Ok(rows)
}

/// The tested build on a data set of each size.
async fn beds<'a>(
    setting: &'a Setting,
    database: Database,
    sizes: &[u64],
    access: Access,
) -> Result<Vec<Testbed<'a>>> {
    let mut beds = Vec::new();
    for size in sizes {
        let data = data_sets(setting, setting.tested(), database, *size, access).await?;
        beds.push(Testbed::on(setting, data).await?);
    }
    Ok(beds)
}

async fn reads(setting: &Setting, database: Database, sizes: &[u64]) -> Result<Vec<Row>> {
    let beds = beds(setting, database, sizes, Access::Reads).await?;
    let (mut gets, mut lists, mut searches) = (Vec::new(), Vec::new(), Vec::new());
    for bed in &beds {
        let leads = bed.tested().data.leads;
        gets.push(bed.workloads(async |_| Ok(Get { leads })).await?);
        let list = bed.workloads(async |side| List::newest(&mut side.caller()).await);
        lists.push(list.await?);
        let search = bed.workloads(async |side| Search::selective(&mut side.caller(), leads).await);
        searches.push(search.await?);
    }
    let [gets] = Growth::measure(&beds, [&gets]).await?;
    let [lists] = Growth::measure(&beds, [&lists]).await?;
    let [searches] = Growth::measure(&beds, [&searches]).await?;
    let mut rows = gets.rows(&beds, "Get");
    rows.extend(lists.rows(&beds, "List"));
    rows.extend(searches.rows(&beds, "Search"));
    Ok(rows)
}

async fn updates(setting: &Setting, database: Database, sizes: &[u64]) -> Result<Vec<Row>> {
    let beds = beds(setting, database, sizes, Access::Changes).await?;
    let (mut searched, mut others) = (Vec::new(), Vec::new());
    for bed in &beds {
        let leads = bed.tested().data.leads;
        for (workloads, field) in [(&mut searched, Field::Phone), (&mut others, Field::Fax)] {
            workloads.push(bed.workloads(async |_| Ok(Update { leads, field })).await?);
        }
    }
    let [searched, others] = Growth::measure(&beds, [&searched, &others]).await?;
    let mut rows = searched.rows(&beds, "Update, phone");
    rows.extend(others.rows(&beds, "Update, fax"));
    rows.extend(searched.compared_with(&others, &beds, "Update, phone beside fax"));
    for bed in beds {
        bed.end().await?;
    }
    Ok(rows)
}

/// The times of each size, one per round.
struct Growth {
    p50: Vec<Vec<f64>>,
    p99: Vec<Vec<f64>>,
}

impl Growth {
    /// Measures several series of workloads in the same rounds. Each series has one workload per size.
    async fn measure<W: Workload, const N: usize>(
        beds: &[Testbed<'_>],
        series: [&[Workloads<W>]; N],
    ) -> Result<[Self; N]> {
        let mut growths = series.map(|_| Self {
            p50: vec![Vec::new(); beds.len()],
            p99: vec![Vec::new(); beds.len()],
        });
        for workloads in series {
            for (bed, work) in beds.iter().zip(workloads) {
                bed.serve(work, 1).await?; // a warm-up
            }
        }
        for _ in 0..beds.first().map_or(0, |bed| bed.setting.rounds) {
            for (index, bed) in beds.iter().enumerate() {
                for (growth, workloads) in growths.iter_mut().zip(series) {
                    let run = bed.serve(&workloads[index], 1).await?;
                    growth.p50[index].push(run.quantile(0.5));
                    growth.p99[index].push(run.quantile(0.99));
                }
            }
        }
        Ok(growths)
    }

    /// Each size compared with the first.
    fn rows(&self, beds: &[Testbed<'_>], name: &str) -> Vec<Row> {
        let smallest = beds.first().map_or(0, |bed| bed.tested().data.leads);
        let unit = format!(" × {smallest}");
        let row = |(index, bed): (usize, &Testbed<'_>)| {
            let row = self.compared(index, &self.p50[0], bed, name);
            let ratio = row.ratio.filter(|_| index > 0);
            Row {
                bar: ratio.map(|ratio| Bar::at_most(BAR, &unit, ratio.median)),
                ..row
            }
        };
        beds.iter().enumerate().map(row).collect()
    }

    /// Each size compared with another workload of the same size.
    fn compared_with(&self, other: &Self, beds: &[Testbed<'_>], name: &str) -> Vec<Row> {
        let row = |(index, bed): (usize, &Testbed<'_>)| {
            let row = self.compared(index, &other.p50[index], bed, name);
            Row {
                bar: row
                    .ratio
                    .map(|ratio| Bar::at_most(update::SEARCHED, " × fax", ratio.median)),
                ..row
            }
        };
        beds.iter().enumerate().map(row).collect()
    }

    fn compared(&self, index: usize, with: &[f64], bed: &Testbed<'_>, name: &str) -> Row {
        let ratios: Vec<f64> = self.p50[index]
            .iter()
            .zip(with)
            .map(|(a, b)| a / b)
            .collect();
        Row {
            limit: Some(Spread::of(with)),
            ratio: Some(Spread::of(&ratios)),
            p50: Some(Spread::of(&self.p50[index]).median),
            p99: Some(Spread::of(&self.p99[index]).median),
            ..bed.row(Kind::Growth, &format!("Growth: {name}"), 1)
        }
    }
}

//! What was measured, as JSON, as tables for people and as a chart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::setting::Setting;
use crate::{chart, table};

/// The median of several measurements and how far they lie apart.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2));
        Self {
            median: (low + high) / 2.0,
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
        }
    }
}

/// What a measurement is meant to reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bar {
    /// In words.
    pub text: String,
    /// The number in it.
    pub value: f64,
    /// Whether more is better.
    pub at_least: bool,
    pub passed: bool,
}

impl Bar {
    pub fn at_least(value: f64, unit: &str, measured: f64) -> Self {
        Self {
            text: format!("≥ {value}{unit}"),
            value,
            at_least: true,
            passed: measured >= value,
        }
    }

    pub fn at_most(value: f64, unit: &str, measured: f64) -> Self {
        Self {
            text: format!("≤ {value}{unit}"),
            value,
            at_least: false,
            passed: measured <= value,
        }
    }
}

/// What a row tells, which decides its columns and units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Calls per second, many in flight.
    Rate,
    /// The p50 of one caller, in microseconds.
    Time,
    /// The p50 of one caller beside that of a smaller data set, in microseconds.
    Growth,
    /// Resident memory, in MiB.
    Memory,
}

/// The same work measured on another build, in the same rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Against {
    /// Its rate, or its p50 where the row tells times.
    pub other: Spread,
    /// How many times as fast the tested build is: the ratio of each round's rates or times.
    pub speed: Spread,
}

/// A row of the tables. Rates are per second, times in microseconds, memory in MiB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub kind: Kind,
    pub work: String,
    pub database: String,
    pub leads: u64,
    pub in_flight: usize,
    pub rate: Option<Spread>,
    /// The echo server alone: a rate, or a p50 where one caller calls.
    pub echo: Option<Spread>,
    /// The database alone, likewise.
    pub database_alone: Option<Spread>,
    /// L, or the time that the work is compared with.
    pub limit: Option<Spread>,
    /// What was measured, divided by the limit.
    pub ratio: Option<Spread>,
    pub bar: Option<Bar>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// Processor time of the service for each call.
    pub cpu: Option<f64>,
    /// Processor time of PostgreSQL for each call.
    pub database_cpu: Option<f64>,
    pub memory: Option<f64>,
    /// The most memory that the service has had.
    pub peak: Option<f64>,
    pub against: Option<Against>,
}

impl Row {
    pub fn new(kind: Kind, work: &str, database: &str, leads: u64, in_flight: usize) -> Self {
        Self {
            kind,
            work: work.to_owned(),
            database: database.to_owned(),
            leads,
            in_flight,
            rate: None,
            echo: None,
            database_alone: None,
            limit: None,
            ratio: None,
            bar: None,
            p50: None,
            p99: None,
            cpu: None,
            database_cpu: None,
            memory: None,
            peak: None,
            against: None,
        }
    }

    /// Whether another row is of the same measurement.
    fn is_of(&self, other: &Self) -> bool {
        let key = |row: &Self| {
            (
                row.work.clone(),
                row.database.clone(),
                row.leads,
                row.in_flight,
            )
        };
        key(self) == key(other)
    }
}

/// Where PERFORMANCE.md has the tables.
const BEGIN: &str = "<!-- The tables, written by `bench --save` -->\n";
const END: &str = "<!-- End of the tables -->\n";

/// What was measured so far.
pub struct Report {
    folder: PathBuf,
    /// The document that shows the tables.
    document: Option<PathBuf>,
    rows: Vec<Row>,
    failures: usize,
}

impl Report {
    /// Results go into the repository if they are to be saved, and to the data sets otherwise.
    pub fn new(setting: &Setting, save: bool) -> Self {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let (folder, document) = match save {
            true => (
                Path::new(root).join("bench/results"),
                Some(Path::new(root).join("PERFORMANCE.md")),
            ),
            false => (setting.folder.join("results"), None),
        };
        Self {
            folder,
            document,
            rows: Vec::new(),
            failures: 0,
        }
    }

    /// Adds the rows of a work, prints them and writes what there is. A work that could not be measured
    /// is reported at once and counted.
    pub fn add(&mut self, measured: Result<Vec<Row>>) -> Result<()> {
        match measured {
            Ok(rows) => {
                println!("{}", table::tables(&rows));
                self.rows.extend(rows);
                self.write()
            }
            Err(error) => {
                eprintln!("bench: {error:#}");
                self.failures += 1;
                Ok(())
            }
        }
    }

    /// Writes the results. Rows of other measurements stay, so that one work can be measured again.
    fn write(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let json = self.folder.join("table.json");
        let before = fs::read_to_string(&json).unwrap_or_else(|_| "[]".to_owned());
        // Rows of an older format are measured again, or gone.
        let mut rows: Vec<Row> = serde_json::from_str(&before).unwrap_or_default();
        for row in &self.rows {
            match rows.iter_mut().find(|other| other.is_of(row)) {
                Some(other) => other.clone_from(row),
                None => rows.push(row.clone()),
            }
        }
        let tables = table::tables(&rows);
        fs::write(self.folder.join("table.md"), &tables)?;
        fs::write(json, serde_json::to_string_pretty(&rows)? + "\n")?;
        fs::write(self.folder.join("chart.svg"), chart::draw(&rows))?;
        if let Some(document) = &self.document {
            let text = fs::read_to_string(document)?;
            let text = replaced(&text, &tables)
                .with_context(|| format!("{} has no place for tables", document.display()))?;
            fs::write(document, text)?;
        }
        Ok(())
    }

    /// Says where the results are.
    ///
    /// # Errors
    /// When a work could not be measured.
    pub fn finish(&self) -> Result<()> {
        ensure!(
            self.failures == 0,
            "{} could not be measured",
            self.failures
        );
        eprintln!("written to {}", self.folder.display());
        Ok(())
    }
}

/// A document with these tables in place of those it has.
fn replaced(document: &str, tables: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, Spread, replaced};

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 3.0]);
        assert!((spread.median - 2.5).abs() < f64::EPSILON);
        assert!((spread.min - 1.0).abs() < f64::EPSILON);
        assert!((spread.max - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_tables_of_a_document_are_replaced_and_the_rest_stays() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let expected = format!("before\n{BEGIN}\nnew\n{END}after\n");
        assert_eq!(replaced(&document, "new"), Some(expected));
        assert_eq!(replaced("no tables", "new"), None);
    }
}

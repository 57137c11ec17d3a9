//! What was measured: as a table for people and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::setting::Setting;

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

/// What is demanded of a measurement.
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

/// A row of the table. Rates are per second, times in microseconds, memory in MiB.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub work: String,
    pub database: String,
    pub leads: u64,
    pub in_flight: usize,
    pub rate: Option<Spread>,
    /// The echo server alone: a rate, or a p50 where one caller calls at a time.
    pub echo: Option<Spread>,
    /// The database alone, likewise.
    pub database_alone: Option<Spread>,
    /// L, or the time that stands for it.
    pub limit: Option<Spread>,
    /// What was measured by its limit.
    pub ratio: Option<Spread>,
    pub bar: Option<Bar>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// Processor time of the service for each call.
    pub cpu: Option<f64>,
    /// Processor time of PostgreSQL for each call.
    pub database_cpu: Option<f64>,
    pub memory: Option<f64>,
    /// The most memory the service ever had.
    pub peak: Option<f64>,
}

impl Row {
    pub fn new(work: &str, database: &str, leads: u64, in_flight: usize) -> Self {
        Self {
            work: work.to_owned(),
            database: database.to_owned(),
            leads,
            in_flight,
            ..Self::default()
        }
    }

    /// Whether it tells of the same as another.
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

const HEADINGS: [&str; 14] = [
    "Work",
    "Database",
    "Leads",
    "In flight",
    "Rate /s",
    "L",
    "Ratio",
    "Bar",
    "",
    "p50 µs",
    "p99 µs",
    "CPU µs",
    "DB CPU µs",
    "Memory (peak) MiB",
];

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let mut widths = [0; 14];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            // Names stand left, numbers right.
            let _ = match column {
                0 | 1 | 8 => write!(text, "| {cell}{pad} "),
                _ => write!(text, "| {pad}{cell} "),
            };
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                let end = if matches!(column, 0 | 1 | 8) {
                    "-"
                } else {
                    ":"
                };
                let _ = write!(text, "|{dashes}{end}");
            }
            text.push_str("|\n");
        }
    }
    text
}

fn cells(row: &Row) -> [String; 14] {
    let number = |value: Option<f64>| value.map(rounded).unwrap_or_default();
    let spread = |spread: Option<Spread>| {
        spread.map_or_else(String::new, |spread| {
            let off = (spread.max - spread.min) / spread.median / 2.0 * 100.0;
            format!("{} ±{off:.0}%", rounded(spread.median))
        })
    };
    let memory = match (row.memory, row.peak) {
        (Some(memory), Some(peak)) => format!("{memory:.0} ({peak:.0})"),
        (memory, peak) => number(memory.or(peak)),
    };
    [
        row.work.clone(),
        row.database.clone(),
        row.leads.to_string(),
        row.in_flight.to_string(),
        spread(row.rate),
        spread(row.limit),
        row.ratio
            .map(|ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max))
            .unwrap_or_default(),
        row.bar
            .as_ref()
            .map(|bar| bar.text.clone())
            .unwrap_or_default(),
        row.bar
            .as_ref()
            .map(|bar| if bar.passed { "pass" } else { "MISS" })
            .unwrap_or_default()
            .to_owned(),
        number(row.p50),
        number(row.p99),
        number(row.cpu),
        number(row.database_cpu),
        memory,
    ]
}

/// Three digits, and all of a large number.
fn rounded(value: f64) -> String {
    let digits = match value.abs() {
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// Where the results go.
pub fn folder(setting: &Setting, save: bool) -> PathBuf {
    match save {
        true => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/results")),
        false => setting.folder.join("results"),
    }
}

/// What was measured so far.
pub struct Report {
    folder: PathBuf,
    rows: Vec<Row>,
    failures: usize,
}

impl Report {
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            rows: Vec::new(),
            failures: 0,
        }
    }

    /// Adds the rows of a work, and prints and writes what there is; tells a failure at once.
    pub fn add(&mut self, measured: Result<Vec<Row>>) -> Result<()> {
        match measured {
            Ok(rows) => {
                println!("{}", table(&rows));
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

    /// Writes the table, the JSON and the chart. Rows of other works that are there already stay, so
    /// that one work can be measured again.
    fn write(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let json = self.folder.join("table.json");
        let before = fs::read_to_string(&json).unwrap_or_else(|_| "[]".to_owned());
        let mut rows: Vec<Row> = serde_json::from_str(&before)?;
        for row in &self.rows {
            match rows.iter_mut().find(|other| other.is_of(row)) {
                Some(other) => other.clone_from(row),
                None => rows.push(row.clone()),
            }
        }
        fs::write(self.folder.join("table.md"), table(&rows))?;
        fs::write(json, serde_json::to_string_pretty(&rows)? + "\n")?;
        fs::write(self.folder.join("chart.svg"), crate::chart::draw(&rows))?;
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

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 3.0]);
        assert!((spread.median - 2.5).abs() < f64::EPSILON);
        assert!((spread.min - 1.0).abs() < f64::EPSILON);
        assert!((spread.max - 4.0).abs() < f64::EPSILON);
    }
}

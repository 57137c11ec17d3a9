//! The results of measurements, as rows of the tables.

use serde::{Deserialize, Serialize};

/// The median, minimum and maximum of several measurements.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `values` must not be empty.
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

/// The target value of a measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bar {
    /// The target as text.
    pub text: String,
    /// The target as a number.
    pub value: f64,
    /// Whether a larger value is better.
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

/// The kind of a row, which determines its columns and units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Calls per second, with many calls in flight.
    Rate,
    /// The p50 of one caller, in microseconds.
    Time,
    /// The p50 of one caller, compared with that on a smaller data set, in microseconds.
    Growth,
    /// Resident memory, in MiB.
    Memory,
}

/// The same workload on another build, measured in the same rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Against {
    /// The other build's rate, or its p50 in rows of times.
    pub other: Spread,
    /// How many times as fast the tested build is: the ratio of the rates or times in each round.
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
    /// The echo server alone: a rate, or a p50 for a single caller.
    pub echo: Option<Spread>,
    /// The database alone: likewise.
    pub database_alone: Option<Spread>,
    /// L, or the time that the workload is compared with.
    pub limit: Option<Spread>,
    /// The measured value divided by the limit.
    pub ratio: Option<Spread>,
    pub bar: Option<Bar>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// Processor time of the service per call.
    pub cpu: Option<f64>,
    /// Processor time of PostgreSQL per call.
    pub database_cpu: Option<f64>,
    pub memory: Option<f64>,
    /// The peak memory of the service.
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
    pub fn is_of(&self, other: &Self) -> bool {
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

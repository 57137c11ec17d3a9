//! The figures of a measurement, one value of each per round, with their median and spread.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::Run;
use crate::row::{Against, Spread};

/// The result of a build in one round.
pub struct RoundResult {
    pub run: Run,
    /// Processor time per call in microseconds, of the service and of PostgreSQL.
    cpu: f64,
    database_cpu: f64,
}

impl RoundResult {
    /// A run with the values of [`crate::testbed::Side::cpu`] before and after it.
    pub fn new(run: Run, before: (Duration, Duration), after: (Duration, Duration)) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / run.calls() as f64;
        Self {
            cpu: each(after.0.saturating_sub(before.0)),
            database_cpu: each(after.1.saturating_sub(before.1)),
            run,
        }
    }
}

/// Figures, each with one value per round.
#[derive(Default)]
pub struct Samples(BTreeMap<&'static str, Vec<f64>>);

impl Samples {
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    /// The rates of a round.
    pub fn add_rates(&mut self, turns: &[RoundResult]) {
        let rates: Vec<f64> = turns.iter().map(|turn| turn.run.rate()).collect();
        self.add("rate", rates[0]);
        self.add("p50", turns[0].run.quantile(0.5));
        self.add("p99", turns[0].run.quantile(0.99));
        self.add("cpu", turns[0].cpu);
        self.add("database_cpu", turns[0].database_cpu);
        if let Some(other) = rates.get(1) {
            self.add("other", *other);
            self.add("speed", rates[0] / other);
        }
    }

    /// The p50 of a round, and the time that it is compared with.
    pub fn add_time(&mut self, run: &Run, limit: f64) {
        let p50 = run.quantile(0.5);
        self.add("p50", p50);
        self.add("p99", run.quantile(0.99));
        self.add("limit", limit);
        self.add("ratio", p50 / limit);
    }

    /// The same for every build.
    pub fn add_times(&mut self, turns: &[RoundResult], limit: f64) {
        self.add_time(&turns[0].run, limit);
        if let Some(other) = turns.get(1).map(|turn| turn.run.quantile(0.5)) {
            self.add("other", other);
            self.add("speed", other / turns[0].run.quantile(0.5));
        }
    }

    /// The median and spread of a figure; none if no round had it.
    pub fn spread(&self, name: &str) -> Option<Spread> {
        self.0.get(name).map(|values| Spread::of(values))
    }

    pub fn median(&self, name: &str) -> Option<f64> {
        self.spread(name).map(|spread| spread.median)
    }

    /// The comparison with the other build.
    pub fn against(&self) -> Option<Against> {
        let (other, speed) = (self.spread("other")?, self.spread("speed")?);
        Some(Against { other, speed })
    }
}

/// L: the rate if each call takes the time of an echo plus the time of the database work.
pub fn combined(echo: f64, database: f64) -> f64 {
    1.0 / (1.0 / echo + 1.0 / database)
}

#[cfg(test)]
mod tests {
    use super::{Samples, combined};

    #[test]
    fn the_limit_is_the_time_of_both_together() {
        assert!((combined(60_000.0, 30_000.0) - 20_000.0).abs() < 1e-6);
    }

    #[test]
    fn a_comparison_is_the_median_of_the_ratios_of_the_rounds() {
        let mut samples = Samples::default();
        for (other, speed) in [(100.0, 1.5), (200.0, 0.5), (50.0, 1.0)] {
            samples.add("other", other);
            samples.add("speed", speed);
        }
        let against = samples.against();
        let medians = against.map(|against| (against.other.median, against.speed.median));
        assert_eq!(medians, Some((100.0, 1.0)));
        assert!(Samples::default().against().is_none());
    }
}

//! What a dashboard shows, and the rules by which it is computed from counted rows. Must not depend on messages or on the
//! database.

mod money;
mod period;
mod zone;

use chrono::{DateTime, Duration, Utc};
use uuid::Uuid;

use crate::core::money::Money;
use crate::features::leads::model::LeadState;
use crate::features::opportunities::model::Stage;

pub use money::Sum;
pub use period::{Conversions, Count, MAX_DAYS, Period, PeriodError};
pub use zone::{Span, Zone};

/// The maximum number of sources, and of owners, that are listed.
pub const MAX_RATES: usize = 100;
/// The maximum number of pairs of a queue and a step that are listed.
pub const MAX_STEPS: usize = 1_000;

/// The stages of open opportunities.
pub const OPEN_STAGES: [Stage; 4] = [
    Stage::Contact,
    Stage::Meeting,
    Stage::Negotiation,
    Stage::Buying,
];

/// The figures of the sales desk, and what they are of.
#[derive(Clone, Debug, PartialEq)]
pub struct Dashboard {
    /// When they were read.
    pub read_time: DateTime<Utc>,
    /// The period.
    pub period: Period,
    /// Whose leads and opportunities were counted; `None` for those of everybody.
    pub owner_id: Option<Uuid>,
    /// What was counted.
    pub figures: Figures,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// How many leads are in each state.
    pub leads: Vec<(LeadState, u64)>,
    /// The open opportunities in each of [`OPEN_STAGES`].
    pub opportunities: Vec<InStage>,
    /// The conversions in the period.
    pub conversions: Conversions,
    /// The median time from the creation of a lead to its conversion; `None` without conversions.
    pub median: Option<Duration>,
    /// The conversion rates of the sources.
    pub sources: Rates<String>,
    /// The conversion rates of the owners.
    pub owners: Rates<Owner>,
    /// The orders in progress.
    pub orders: Vec<InStep>,
    /// How many orders are in progress in steps that are not listed.
    pub other_orders: u64,
}

/// The open opportunities in a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InStage {
    /// The stage.
    pub stage: Stage,
    /// How many there are.
    pub opportunities: u64,
    /// How many of them have no amount.
    pub without_amount: u64,
    /// Their amounts by currency.
    pub amounts: Vec<Amounts>,
}

/// The amounts in one currency of open opportunities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// Their sum.
    pub amount: Money,
    /// Their sum, weighted with the probabilities.
    pub weighted: Money,
    /// How many opportunities have an amount in this currency.
    pub opportunities: u64,
    /// How many of them have no probability.
    pub without_probability: u64,
}

/// How many leads of a cohort were converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// How many leads there are.
    pub leads: u64,
    /// How many of them are converted.
    pub converted: u64,
}

impl Converted {
    /// The part that was converted, from 0 to 1; 0 without leads.
    pub fn rate(self) -> f64 {
        match self.leads {
            0 => 0.0,
            leads => self.converted as f64 / leads as f64,
        }
    }

    fn without(self, others: Self) -> Self {
        Self {
            leads: self.leads.saturating_sub(others.leads),
            converted: self.converted.saturating_sub(others.converted),
        }
    }
}

/// Conversion rates by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates<K> {
    /// The largest ones, at most [`MAX_RATES`], those with the most leads first.
    pub listed: Vec<(K, Converted)>,
    /// The others together; `None` if there are none.
    pub others: Option<Converted>,
}

impl<K: Ord + Default> Rates<K> {
    /// The rates of these keys, which are the largest ones in the order of their leads. `with_key` are all leads with a
    /// key, `all` also those without, which get the default key.
    pub fn new(largest: Vec<(K, Converted)>, with_key: Converted, all: Converted) -> Self {
        let without_key = all.without(with_key);
        let mut listed = largest;
        if without_key.leads > 0 {
            listed.push((K::default(), without_key));
        }
        listed.sort_by(|(key, one), (other_key, other)| {
            other.leads.cmp(&one.leads).then_with(|| key.cmp(other_key))
        });
        listed.truncate(MAX_RATES);
        let shown = listed
            .iter()
            .fold(Converted::default(), |sum, (_, one)| Converted {
                leads: sum.leads + one.leads,
                converted: sum.converted + one.converted,
            });
        let others = all.without(shown);
        Self {
            listed,
            others: (others.leads > 0).then_some(others),
        }
    }
}

/// The owner of leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The operator's id; empty for leads without an owner.
    pub id: String,
    /// The display name, or the username if there is none.
    pub name: String,
}

/// The orders in progress in a step of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InStep {
    /// The queue's id.
    pub queue_id: Uuid,
    /// The queue's name.
    pub queue_name: String,
    /// The key of the step.
    pub step: String,
    /// The display name of the step.
    pub step_name: String,
    /// The place of the step in the queue; `None` if the queue does not have it any more.
    pub place: Option<usize>,
    /// How many orders there are.
    pub orders: u64,
    /// When the oldest of them was created.
    pub oldest: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_counted_together() {
        let of = |leads, converted| Converted { leads, converted };
        let key = |index: u64| format!("source {index:03}");
        let largest: Vec<_> = (0..100)
            .map(|index| (key(index), of(1_000 - index, 10)))
            .collect();
        let with_key = largest.iter().fold(of(0, 0), |sum, (_, one)| {
            of(sum.leads + one.leads, sum.converted + 10)
        });
        // 7 leads of sources that are too small to be listed, and 950 without a source.
        let with_key = of(with_key.leads + 7, with_key.converted + 2);
        let all = of(with_key.leads + 950, with_key.converted + 90);
        let rates = Rates::new(largest, with_key, all);
        assert_eq!(rates.listed.len(), MAX_RATES);
        assert_eq!(rates.listed[50], (String::new(), of(950, 90)));
        assert_eq!(rates.listed[51], (key(50), of(950, 10)));
        // The smallest one made room for the leads without a source.
        assert_eq!(rates.others, Some(of(7 + 901, 2 + 10)));
    }

    #[test]
    fn a_rate_without_leads_is_zero() {
        assert_eq!(Converted::default().rate(), 0.0);
        assert_eq!(
            Converted {
                leads: 4,
                converted: 3
            }
            .rate(),
            0.75
        );
        let none = Rates::<String>::new(Vec::new(), Converted::default(), Converted::default());
        assert_eq!(
            none,
            Rates {
                listed: Vec::new(),
                others: None
            }
        );
    }
}

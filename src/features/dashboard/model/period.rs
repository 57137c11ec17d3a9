//! The period of a dashboard, and its conversions by day, week and month.

use chrono::{Datelike as _, Days, NaiveDate};

use super::zone::{Span, Zone, days, spans};

/// The maximum number of days of a period.
pub const MAX_DAYS: usize = 366;
/// The number of days of a period whose first day is not given.
const DEFAULT_DAYS: u64 = 30;

/// Days of a time zone, from the first to the last one, at most [`MAX_DAYS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// The time zone.
    pub zone: Zone,
    /// The first day.
    pub first: NaiveDate,
    /// The last day, which belongs to it.
    pub last: NaiveDate,
}

/// Why days are no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeriodError {
    /// The last day is before the first one.
    Reversed,
    /// It has more than [`MAX_DAYS`] days.
    TooLong,
}

impl Period {
    /// The period with these days. By default the last day is today, and there are 30 days.
    ///
    /// # Errors
    /// If the days are no period.
    pub fn new(
        zone: Zone,
        first: Option<NaiveDate>,
        last: Option<NaiveDate>,
        today: NaiveDate,
    ) -> Result<Self, PeriodError> {
        let last = last.unwrap_or(today);
        let first = first.unwrap_or_else(|| {
            let first = last.checked_sub_days(Days::new(DEFAULT_DAYS - 1));
            first.unwrap_or(last).max(earliest())
        });
        if first > last {
            return Err(PeriodError::Reversed);
        }
        if last.signed_duration_since(first).num_days() >= MAX_DAYS as i64 {
            return Err(PeriodError::TooLong);
        }
        Ok(Self { zone, first, last })
    }

    /// When its days are.
    pub fn spans(&self) -> Vec<Span> {
        spans(&self.zone, self.first, self.last)
    }
}

/// The first day that a date can be.
fn earliest() -> NaiveDate {
    NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or(NaiveDate::MIN)
}

/// The conversions of a day, a week or a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The first day that is counted.
    pub first: NaiveDate,
    /// The last day that is counted.
    pub last: NaiveDate,
    /// Whether the week or month has more days.
    pub is_partial: bool,
    /// How many leads were converted.
    pub conversions: u64,
}

/// The conversions of a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversions {
    /// All of them.
    pub total: u64,
    /// Those of each day.
    pub by_day: Vec<Count>,
    /// Those of each week, from Monday to Sunday.
    pub by_week: Vec<Count>,
    /// Those of each month.
    pub by_month: Vec<Count>,
}

impl Conversions {
    /// Sums up the conversions of each day, which are counted by their place in the period.
    pub fn new(period: &Period, of_day: impl Fn(usize) -> u64) -> Self {
        let by_day = days(period.first, period.last).into_iter().enumerate();
        let by_day: Vec<Count> = by_day
            .map(|(index, day)| Count {
                first: day,
                last: day,
                is_partial: false,
                conversions: of_day(index),
            })
            .collect();
        Self {
            total: by_day.iter().map(|count| count.conversions).sum(),
            by_week: grouped(&by_day, |day| day.iso_week()),
            by_month: grouped(&by_day, |day| (day.year(), day.month())),
            by_day,
        }
    }
}

/// The sums of the days that follow each other and have the same key.
fn grouped<K: PartialEq>(by_day: &[Count], key: impl Fn(NaiveDate) -> K) -> Vec<Count> {
    let groups = by_day.chunk_by(|one, next| key(one.first) == key(next.first));
    let sum = |days: &[Count]| {
        let (first, last) = (days.first()?.first, days.last()?.last);
        let continues =
            |beside: Option<NaiveDate>, day| beside.is_some_and(|beside| key(beside) == key(day));
        Some(Count {
            first,
            last,
            is_partial: continues(first.pred_opt(), first) || continues(last.succ_opt(), last),
            conversions: days.iter().map(|day| day.conversions).sum(),
        })
    };
    groups.filter_map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn period(first: &str, last: &str) -> Result<Period, PeriodError> {
        let given = |text: &str| (!text.is_empty()).then(|| day(text));
        let zone = Zone::named("").unwrap();
        Period::new(zone, given(first), given(last), day("2026-11-28"))
    }

    fn shown(counts: &[Count]) -> Vec<(String, String, bool, u64)> {
        let shown = counts.iter().map(|count| {
            let (first, last) = (count.first.to_string(), count.last.to_string());
            (first, last, count.is_partial, count.conversions)
        });
        shown.collect()
    }

    #[test]
    fn a_period_is_the_last_thirty_days_by_default() {
        for (first, last, expected) in [
            ("", "", Ok(("2026-10-30", "2026-11-28"))),
            ("2026-11-28", "", Ok(("2026-11-28", "2026-11-28"))),
            ("2026-11-29", "", Err(PeriodError::Reversed)),
            ("", "2026-01-30", Ok(("2026-01-01", "2026-01-30"))),
            ("", "0001-01-03", Ok(("0001-01-01", "0001-01-03"))),
            ("2024-01-01", "2024-12-31", Ok(("2024-01-01", "2024-12-31"))),
            ("2024-01-01", "2025-01-01", Err(PeriodError::TooLong)),
            ("2027-01-01", "2027-02-01", Ok(("2027-01-01", "2027-02-01"))),
        ] {
            let expected = expected.map(|(first, last)| (day(first), day(last)));
            let found = period(first, last).map(|period| (period.first, period.last));
            assert_eq!(found, expected, "{first} {last}");
        }
    }

    #[test]
    fn weeks_and_months_count_the_days_of_the_period_only() {
        // From a Wednesday to a Sunday, one conversion on each day.
        let conversions = Conversions::new(&period("2025-12-31", "2026-01-11").unwrap(), |_| 1);
        assert_eq!(conversions.total, 12);
        assert_eq!(conversions.by_day.len(), 12);
        let count = |first: &str, last: &str, partial, count| {
            (first.to_owned(), last.to_owned(), partial, count)
        };
        assert_eq!(
            shown(&conversions.by_week),
            [
                count("2025-12-31", "2026-01-04", true, 5),
                count("2026-01-05", "2026-01-11", false, 7),
            ]
        );
        assert_eq!(
            shown(&conversions.by_month),
            [
                count("2025-12-31", "2025-12-31", true, 1),
                count("2026-01-01", "2026-01-11", true, 11),
            ]
        );
    }
}

//! Time zones, and where the days of a period begin and end in one.
//!
//! The zones are those of the crate `jiff`, which contains the IANA database. So every server with the same version of
//! the program counts the same days, whatever files its machine has.

use chrono::{DateTime, Days, NaiveDate, Utc};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

const DAY: i64 = 86_400;
/// No zone is further from UTC than this, in seconds.
const LARGEST_OFFSET: i64 = 2 * DAY;
/// The end of the year 9999, behind which no time is stored. Later times have more digits, and so another order as texts.
const END_OF_TIME: i64 = 253_402_300_799;

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone with this name in the IANA database, in any case. Empty for UTC.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "" => Some(Self(TimeZone::UTC)),
            name => {
                let found = TimeZoneDatabase::bundled().get(name).ok();
                // A name of the crate for a zone that is not known.
                found.filter(|zone| !zone.is_unknown()).map(Self)
            }
        }
    }

    /// The name in the IANA database.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The day at this time.
    pub fn day(&self, time: DateTime<Utc>) -> NaiveDate {
        let seconds = time.timestamp();
        from_number((seconds + self.offset(seconds)).div_euclid(DAY))
    }

    /// How far the clocks are ahead of UTC, in seconds.
    fn offset(&self, seconds: i64) -> i64 {
        i64::from(self.0.to_offset(timestamp(seconds)).seconds())
    }

    /// The times at which the clocks change, later than `after` and before `end`.
    fn changes(&self, after: i64, end: i64) -> Vec<i64> {
        let changes = self.0.following(timestamp(after));
        let changes = changes.map(|change| change.timestamp().as_second());
        changes.take_while(|change| *change < end).collect()
    }
}

/// A time that belongs to a day: from `start` until before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The day, counted from the first one of the period.
    pub day: usize,
    /// The first moment.
    pub start: DateTime<Utc>,
    /// The first moment after it.
    pub end: DateTime<Utc>,
}

/// When the calendar in this zone shows these days, in the order of time.
///
/// A day is mostly one span. Clocks that are set back over midnight show a day again, so it has two; a day that the
/// zone skips has none.
pub fn spans(zone: &Zone, first: NaiveDate, last: NaiveDate) -> Vec<Span> {
    let (first, last) = (number(first), number(last));
    let begin = first * DAY - LARGEST_OFFSET;
    let end = (last + 1) * DAY + LARGEST_OFFSET;
    let mut changes = zone.changes(begin, end);
    changes.insert(0, begin);
    let ends = changes.iter().skip(1).copied().chain([end]);
    let mut spans: Vec<Span> = Vec::new();
    for (from, to) in changes.iter().copied().zip(ends) {
        // Between two changes, every day has 24 hours.
        let offset = zone.offset(from);
        let shown = (from + offset).div_euclid(DAY)..=(to - 1 + offset).div_euclid(DAY);
        for day in shown.filter(|day| (first..=last).contains(day)) {
            let span = Span {
                day: usize::try_from(day - first).unwrap_or_default(),
                start: time(from.max(day * DAY - offset)),
                end: time(to.min((day + 1) * DAY - offset)),
            };
            match spans.last_mut().filter(|before| before.day == span.day) {
                Some(before) if before.end == span.start => before.end = span.end,
                Some(_) | None => spans.push(span),
            }
        }
    }
    spans
}

/// The days from one to another, including both.
pub fn days(first: NaiveDate, last: NaiveDate) -> Vec<NaiveDate> {
    first.iter_days().take_while(|day| *day <= last).collect()
}

/// The day with this number, counted from 1970-01-01.
fn from_number(number: i64) -> NaiveDate {
    let epoch = NaiveDate::default();
    let days = Days::new(number.unsigned_abs());
    let day = match number < 0 {
        true => epoch.checked_sub_days(days),
        false => epoch.checked_add_days(days),
    };
    day.unwrap_or(epoch)
}

fn number(day: NaiveDate) -> i64 {
    day.signed_duration_since(NaiveDate::default()).num_days()
}

fn time(seconds: i64) -> DateTime<Utc> {
    let nanos = if seconds > END_OF_TIME {
        999_999_999
    } else {
        0
    };
    DateTime::from_timestamp(seconds.min(END_OF_TIME), nanos).unwrap_or_default()
}

/// jiff's times end about a day before the end of the year 9999, where the offset is the same.
fn timestamp(seconds: i64) -> Timestamp {
    let (min, max) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(seconds.clamp(min, max)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap()
    }

    /// The spans of these days, as the day, the time at which it begins, and its hours.
    fn shown(name: &str, first: &str, last: &str) -> Vec<(usize, String, f64)> {
        let spans = spans(&zone(name), first.parse().unwrap(), last.parse().unwrap());
        let shown = spans.into_iter().map(|span| {
            let minutes = (span.end - span.start).num_minutes() as f64;
            let start = span.start.format("%m-%d %H:%M").to_string();
            (span.day, start, minutes / 60.0)
        });
        shown.collect()
    }

    #[test]
    fn a_day_has_the_hours_that_the_clocks_of_its_zone_show() {
        let day = |day: usize, start: &str, hours: f64| (day, start.to_owned(), hours);
        assert_eq!(
            shown("Europe/Berlin", "2026-03-28", "2026-03-30"),
            [
                day(0, "03-27 23:00", 24.0),
                day(1, "03-28 23:00", 23.0),
                day(2, "03-29 22:00", 24.0)
            ]
        );
        assert_eq!(
            shown("America/New_York", "2026-11-01", "2026-11-02"),
            [day(0, "11-01 04:00", 25.0), day(1, "11-02 05:00", 24.0)]
        );
        assert_eq!(
            shown("Australia/Lord_Howe", "2026-04-05", "2026-04-05"),
            [day(0, "04-04 13:00", 24.5)]
        );
        assert_eq!(
            shown("Australia/Lord_Howe", "2026-10-04", "2026-10-04"),
            [day(0, "10-03 13:30", 23.5)]
        );
        assert_eq!(
            shown("Asia/Kathmandu", "2026-01-01", "2026-01-01"),
            [day(0, "12-31 18:15", 24.0)]
        );
        assert_eq!(
            shown("UTC", "2026-01-01", "2026-01-01"),
            [day(0, "01-01 00:00", 24.0)]
        );
    }

    #[test]
    fn a_day_without_midnight_begins_after_the_change() {
        let day = |day: usize, start: &str, hours: f64| (day, start.to_owned(), hours);
        // At 24:00 on Saturday it is 01:00 on Sunday.
        assert_eq!(
            shown("America/Santiago", "2024-09-07", "2024-09-08"),
            [day(0, "09-07 04:00", 24.0), day(1, "09-08 04:00", 23.0)]
        );
        // At 24:00 on Saturday it is 23:00 again.
        assert_eq!(
            shown("America/Santiago", "2024-04-06", "2024-04-07"),
            [day(0, "04-06 03:00", 25.0), day(1, "04-07 04:00", 24.0)]
        );
    }

    #[test]
    fn a_day_that_is_shown_twice_has_two_spans_and_a_skipped_one_none() {
        let day = |day: usize, start: &str, hours: f64| (day, start.to_owned(), hours);
        // At 00:01 on Sunday it was 23:01 on Saturday again.
        let minute = 1.0 / 60.0;
        assert_eq!(
            shown("America/St_Johns", "2010-11-06", "2010-11-07"),
            [
                day(0, "11-06 02:30", 24.0),
                day(1, "11-07 02:30", minute),
                day(0, "11-07 02:31", 59.0 / 60.0),
                day(1, "11-07 03:30", 24.0),
            ]
        );
        // Samoa went over the date line.
        assert_eq!(
            shown("Pacific/Apia", "2011-12-29", "2011-12-31"),
            [day(0, "12-29 10:00", 24.0), day(2, "12-30 10:00", 24.0)]
        );
    }

    #[test]
    fn the_first_and_the_last_days_have_spans() {
        for name in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
            assert_eq!(shown(name, "0001-01-01", "0001-01-02").len(), 2, "{name}");
            let last = spans(
                &zone(name),
                NaiveDate::MAX.min("9999-12-30".parse().unwrap()),
                "9999-12-31".parse().unwrap(),
            );
            assert_eq!(last.len(), 2, "{name}");
            assert!(
                last.iter()
                    .all(|span| span.start < span.end && span.end.timestamp() <= END_OF_TIME),
                "{name}"
            );
        }
    }

    #[test]
    fn the_day_of_a_time_is_that_of_its_span() {
        let (first, last) = ("2024-03-01".parse().unwrap(), "2024-11-30".parse().unwrap());
        for name in [
            "America/Santiago",
            "Asia/Beirut",
            "Australia/Lord_Howe",
            "Africa/Casablanca",
        ] {
            let zone = zone(name);
            let days = days(first, last);
            for span in spans(&zone, first, last) {
                assert_eq!(zone.day(span.start), days[span.day], "{name}");
                assert_eq!(
                    zone.day(span.end - chrono::Duration::seconds(1)),
                    days[span.day],
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_zone_has_a_name_of_the_database() {
        assert_eq!(zone("").name(), "UTC");
        assert_eq!(zone("europe/berlin").name(), "Europe/Berlin");
        for wrong in [
            "Europe/Atlantis",
            "+02:00",
            "../etc/passwd",
            "Europe/Berlin\0",
            "CET-1CEST",
            "Etc/Unknown",
        ] {
            assert_eq!(Zone::named(wrong), None, "{wrong}");
        }
    }
}

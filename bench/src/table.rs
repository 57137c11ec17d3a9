//! The results as Markdown tables, one per kind of row, because all values of a column have one unit.

use std::fmt::Write as _;

use crate::row::{Kind, Row, Spread};

/// A column: the heading with the unit, whether it is aligned right, and the value of a row.
type Column = (&'static str, bool, fn(&Row) -> String);

const WORK: Column = ("Work", false, |row| row.work.clone());
const DATABASE: Column = ("Database", false, |row| row.database.clone());
const LEADS: Column = ("Leads", true, |row| thousands(row.leads));
const IN_FLIGHT: Column = ("In flight", true, |row| row.in_flight.to_string());
const RATIO: Column = ("Ratio", true, |row| spread(row.ratio));
const BAR: Column = ("Bar", true, |row| {
    row.bar
        .as_ref()
        .map_or_else(String::new, |bar| bar.text.clone())
});
const PASSED: Column = ("", false, |row| {
    let passed = row.bar.as_ref().map(|bar| bar.passed);
    passed
        .map_or("", |passed| if passed { "pass" } else { "**miss**" })
        .to_owned()
});
const P50: Column = ("p50 µs", true, |row| number(row.p50));
const P99: Column = ("p99 µs", true, |row| number(row.p99));

const RATES: &[Column] = &[
    WORK,
    DATABASE,
    LEADS,
    IN_FLIGHT,
    ("Calls/s", true, |row| median(row.rate)),
    ("L, calls/s", true, |row| median(row.limit)),
    RATIO,
    BAR,
    PASSED,
    P50,
    P99,
    ("CPU µs", true, |row| number(row.cpu)),
    ("DB CPU µs", true, |row| number(row.database_cpu)),
];
const TIMES: &[Column] = &[
    WORK,
    DATABASE,
    LEADS,
    IN_FLIGHT,
    P50,
    ("Compared with µs", true, |row| median(row.limit)),
    RATIO,
    BAR,
    PASSED,
    P99,
];
const MEMORY: &[Column] = &[
    WORK,
    DATABASE,
    LEADS,
    IN_FLIGHT,
    ("MiB", true, |row| number(row.memory)),
    ("Peak MiB", true, |row| number(row.peak)),
    RATIO,
    BAR,
    PASSED,
];
const AGAINST: &[Column] = &[
    WORK,
    DATABASE,
    LEADS,
    IN_FLIGHT,
    ("Unit", false, |row| unit(row).to_owned()),
    ("This build", true, |row| match row.kind {
        Kind::Rate => median(row.rate),
        Kind::Time | Kind::Growth | Kind::Memory => number(row.p50),
    }),
    ("Other build", true, |row| {
        median(row.against.map(|against| against.other))
    }),
    ("Times as fast", true, |row| {
        spread(row.against.map(|against| against.speed))
    }),
];

/// The tables of all rows, one per kind.
pub fn tables(rows: &[Row]) -> String {
    let of = |kind: Kind| rows.iter().filter(move |row| row.kind == kind).collect();
    let compared = rows.iter().filter(|row| row.against.is_some()).collect();
    let sections: [(&str, Vec<&Row>, &[Column]); 5] = [
        ("Rates", of(Kind::Rate), RATES),
        ("Times", of(Kind::Time), TIMES),
        (
            "Growth, compared with the smallest data set",
            of(Kind::Growth),
            TIMES,
        ),
        ("Memory", of(Kind::Memory), MEMORY),
        ("This build and another one", compared, AGAINST),
    ];
    let mut text = String::new();
    for (title, rows, columns) in sections {
        if rows.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "{title}:\n\n");
        table(&mut text, &rows, columns);
    }
    text
}

fn table(text: &mut String, rows: &[&Row], columns: &[Column]) {
    let mut lines = vec![
        columns
            .iter()
            .map(|(name, ..)| (*name).to_owned())
            .collect(),
    ];
    lines.extend(rows.iter().map(|row| {
        columns
            .iter()
            .map(|(_, _, cell)| cell(row))
            .collect::<Vec<_>>()
    }));
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    for (index, line) in lines.iter().enumerate() {
        for (column, (cell, (_, right, _))) in line.iter().zip(columns).enumerate() {
            let pad = " ".repeat(width(column) - cell.chars().count());
            let _ = match right {
                true => write!(text, "| {pad}{cell} "),
                false => write!(text, "| {cell}{pad} "),
            };
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, (_, right, _)) in columns.iter().enumerate() {
                let dashes = "-".repeat(width(column) + 1);
                let _ = write!(text, "|{dashes}{}", if *right { ':' } else { '-' });
            }
            text.push_str("|\n");
        }
    }
}

fn unit(row: &Row) -> &'static str {
    match row.kind {
        Kind::Rate => "calls/s",
        Kind::Time | Kind::Growth => "p50 µs",
        Kind::Memory => "MiB",
    }
}

fn median(spread: Option<Spread>) -> String {
    number(spread.map(|spread| spread.median))
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| {
        format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max)
    })
}

/// Formats a number with about three significant digits, or with all digits if it is large.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else {
        return String::new();
    };
    let digits = match value.abs() {
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => return thousands(value.round() as u64),
    };
    format!("{value:.digits$}")
}

/// Formats an integer with separated thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Against, Bar};

    #[test]
    fn rates_and_times_stand_in_tables_of_their_own() {
        let flat = |value: f64| Spread::of(&[value]);
        let rate = Row {
            rate: Some(flat(26_619.0)),
            limit: Some(flat(49_778.0)),
            ratio: Some(flat(0.55)),
            bar: Some(Bar::at_least(0.9, " L", 0.55)),
            against: Some(Against {
                other: flat(24_000.0),
                speed: flat(1.11),
            }),
            ..Row::new(Kind::Rate, "Get", "sqlite", 1_000_000, 64)
        };
        let time = Row {
            limit: Some(flat(100.0)),
            ratio: Some(flat(3.16)),
            p50: Some(316.0),
            ..Row::new(Kind::Time, "Get", "sqlite", 1_000_000, 1)
        };
        let text = tables(&[rate, time]);
        let cells: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let has = |line: &[&str]| cells.iter().any(|cells| cells.starts_with(line));
        assert!(has(&[
            "",
            "Get",
            "sqlite",
            "1,000,000",
            "64",
            "26,619",
            "49,778"
        ]));
        assert!(has(&[
            "",
            "Get",
            "sqlite",
            "1,000,000",
            "1",
            "316",
            "100",
            "3.16 (3.16–3.16)"
        ]));
        let compared = [
            "",
            "Get",
            "sqlite",
            "1,000,000",
            "64",
            "calls/s",
            "26,619",
            "24,000",
        ];
        assert!(has(&compared), "{text}");
        assert!(text.contains("**miss**"));
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }
}

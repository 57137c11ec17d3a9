//! The figures for people: tables and bars of at most 80 columns.

mod cells;

use leadsmith_proto as proto;

use crate::core::text::printable;
use cells::{amount, cell, duration, name_or, time};

/// The width of the page, in columns.
const WIDTH: usize = 80;
/// The width of the names before the bars and numbers.
const NAME: usize = 24;
/// The length of the longest bar.
const BAR: usize = 44;
/// More days than these are shown as weeks, so that the page stays readable.
const MAX_DAYS: usize = 62;
/// The maximum number of sources, owners or steps that are shown. JSON has all that the server returns.
const MAX_ROWS: usize = 15;

/// The page as whole lines.
pub(super) fn page(dashboard: &proto::Dashboard, has_colours: bool) -> String {
    let mut page = Page {
        text: String::new(),
        has_colours,
    };
    page.head(dashboard);
    page.leads(dashboard);
    page.opportunities(dashboard);
    page.conversions(dashboard);
    let sources = dashboard.conversion_by_source.iter();
    let sources = sources.map(|one| {
        (
            name_or(&one.source, "(none)"),
            one.leads,
            one.converted,
            one.rate,
        )
    });
    let others = dashboard.conversion_by_other_sources.iter();
    let others = others.map(|one| (OTHERS.to_owned(), one.leads, one.converted, one.rate));
    page.rates("Conversion by source", sources.collect(), others.collect());
    let owners = dashboard.conversion_by_owner.iter();
    let owners = owners.map(|one| {
        (
            name_or(&one.owner_name, "(none)"),
            one.leads,
            one.converted,
            one.rate,
        )
    });
    let others = dashboard.conversion_by_other_owners.iter();
    let others = others.map(|one| (OTHERS.to_owned(), one.leads, one.converted, one.rate));
    page.rates("Conversion by owner", owners.collect(), others.collect());
    page.orders(dashboard);
    page.text
}

/// The name of what is not listed.
const OTHERS: &str = "(all others)";

/// A name, the leads, the converted ones, and the rate.
type Rate = (String, i64, i64, f64);

struct Page {
    text: String,
    has_colours: bool,
}

impl Page {
    /// Adds a line, which is cut at the width of the page.
    fn line(&mut self, line: &str) {
        let line: String = line.trim_end().chars().take(WIDTH).collect();
        self.text.push_str(&line);
        self.text.push('\n');
    }

    fn title(&mut self, title: &str) {
        let title: String = title.chars().take(WIDTH).collect();
        match self.has_colours {
            true => self
                .text
                .push_str(&format!("\n\u{1b}[1m{title}\u{1b}[0m\n")),
            false => self.text.push_str(&format!("\n{title}\n")),
        }
    }

    /// Adds a name, a number and a bar.
    fn bar(&mut self, name: &str, number: i64, largest: i64) {
        let length = match largest {
            ..=0 => 0,
            largest => {
                let share = i128::from(number.max(0)) * BAR as i128 / i128::from(largest);
                // Whatever is more than nothing is visible.
                usize::try_from(share)
                    .unwrap_or(BAR)
                    .max(usize::from(number > 0))
            }
        };
        let bar = "#".repeat(length);
        let bar = match self.has_colours && length > 0 {
            true => format!("\u{1b}[32m{bar}\u{1b}[0m"),
            false => bar,
        };
        let line = format!("  {}{number:>9}  {bar}", cell(name, NAME - 2));
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn head(&mut self, dashboard: &proto::Dashboard) {
        let read = dashboard.read_time.and_then(time);
        let read = read.map_or_else(String::new, |read| {
            read.format("%Y-%m-%d %H:%M:%S UTC").to_string()
        });
        self.line(&format!(
            "{} to {} ({}), read {read}",
            dashboard.first_day,
            dashboard.last_day,
            printable(&dashboard.time_zone)
        ));
        if !dashboard.owner_id.is_empty() {
            self.line(&format!(
                "Only what belongs to {}",
                printable(&dashboard.owner_id)
            ));
        }
    }

    fn leads(&mut self, dashboard: &proto::Dashboard) {
        self.title("Leads");
        let largest = dashboard
            .leads_by_state
            .iter()
            .map(|one| one.leads)
            .max()
            .unwrap_or(0);
        for one in &dashboard.leads_by_state {
            let name = one.state().as_str_name();
            self.bar(name.trim_start_matches("LEAD_STATE_"), one.leads, largest);
        }
    }

    fn opportunities(&mut self, dashboard: &proto::Dashboard) {
        self.title("Open opportunities");
        let all = &dashboard.open_opportunities;
        let largest = all.iter().map(|one| one.opportunities).max().unwrap_or(0);
        for one in all {
            let name = one.stage().as_str_name();
            self.bar(
                name.trim_start_matches("OPPORTUNITY_STAGE_"),
                one.opportunities,
                largest,
            );
            for amounts in &one.amounts {
                let shown =
                    |money: &Option<proto::Money>| money.as_ref().map(amount).unwrap_or_default();
                self.line(&format!(
                    "    {} amount, {} weighted",
                    shown(&amounts.amount),
                    shown(&amounts.weighted_amount)
                ));
            }
        }
    }

    fn conversions(&mut self, dashboard: &proto::Dashboard) {
        let median = dashboard.median_time_to_conversion;
        let median = median.map_or_else(String::new, |median| {
            format!(", median time from creation {}", duration(median.seconds))
        });
        self.title(&format!("Conversions: {}{median}", dashboard.conversions));
        let is_long = dashboard.conversions_by_day.len() > MAX_DAYS;
        let counts = match is_long {
            true => &dashboard.conversions_by_week,
            false => &dashboard.conversions_by_day,
        };
        self.counts(counts);
        if !is_long && dashboard.conversions_by_day.len() > 7 {
            self.title("Conversions by week");
            self.counts(&dashboard.conversions_by_week);
        }
        if dashboard.conversions_by_month.len() > 1 {
            self.title("Conversions by month");
            self.counts(&dashboard.conversions_by_month);
        }
    }

    fn counts(&mut self, counts: &[proto::ConversionCount]) {
        let largest = counts
            .iter()
            .map(|count| count.conversions)
            .max()
            .unwrap_or(0);
        for count in counts {
            let until = count.last_day.get(5..).unwrap_or_default();
            let name = match count.first_day == count.last_day {
                true => count.first_day.clone(),
                false => format!(
                    "{}..{until}{}",
                    count.first_day,
                    if count.partial { "*" } else { "" }
                ),
            };
            self.bar(&name, count.conversions, largest);
        }
    }

    fn rates(&mut self, title: &str, listed: Vec<Rate>, others: Vec<Rate>) {
        if listed.is_empty() {
            return;
        }
        self.title(title);
        self.line(&format!(
            "  {}{:>12}{:>12}{:>9}",
            cell("", 40),
            "leads",
            "converted",
            "rate"
        ));
        let more = listed.len().saturating_sub(MAX_ROWS);
        for (name, leads, converted, rate) in listed.iter().take(MAX_ROWS).chain(&others) {
            let rate = rate * 100.0;
            self.line(&format!(
                "  {}{leads:>12}{converted:>12}{rate:>8.1}%",
                cell(name, 40)
            ));
        }
        self.more(more);
    }

    fn orders(&mut self, dashboard: &proto::Dashboard) {
        if dashboard.orders_by_step.is_empty() {
            return;
        }
        self.title("Orders in progress");
        self.line(&format!(
            "  {}{}{:>9}{:>15}",
            cell("queue", 26),
            cell("step", 26),
            "orders",
            "oldest"
        ));
        for step in dashboard.orders_by_step.iter().take(MAX_ROWS) {
            let age = step
                .oldest_age
                .map_or_else(String::new, |age| duration(age.seconds));
            self.line(&format!(
                "  {}{}{:>9}{age:>15}",
                cell(&step.queue_name, 26),
                cell(&name_or(&step.step_name, &step.step), 26),
                step.orders
            ));
        }
        self.more(dashboard.orders_by_step.len().saturating_sub(MAX_ROWS));
        if dashboard.other_orders > 0 {
            self.line(&format!(
                "  {} orders in other steps",
                dashboard.other_orders
            ));
        }
    }

    fn more(&mut self, more: usize) {
        if more > 0 {
            self.line(&format!("  and {more} more, which --output json shows"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_the_page() {
        let long = "x".repeat(300);
        let dashboard = proto::Dashboard {
            time_zone: long.clone(),
            conversions_by_day: vec![proto::ConversionCount {
                first_day: "2026-11-28".into(),
                last_day: "2026-11-28".into(),
                conversions: i64::MAX,
                ..Default::default()
            }],
            conversion_by_source: vec![proto::SourceConversionRate {
                source: format!("\u{1b}[2J{long}"),
                leads: 4,
                converted: 3,
                rate: 0.75,
            }],
            orders_by_step: vec![proto::OrderStepCount {
                queue_name: long.clone(),
                step: long,
                orders: 7,
                ..Default::default()
            }],
            ..Default::default()
        };
        let page = page(&dashboard, false);
        assert!(!page.contains('\u{1b}'), "{page}");
        assert!(page.contains("75.0%"), "{page}");
        let longest = page.lines().map(|line| line.chars().count()).max();
        assert!(
            longest.is_some_and(|longest| longest <= WIDTH + 10),
            "{page}"
        );
    }
}

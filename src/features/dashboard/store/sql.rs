//! The statement that counts everything.
//!
//! It is one statement because a statement sees one snapshot: the figures agree with each other, on both databases and
//! without a transaction. Each part is counted from an index that contains all its columns, and returns rows of the same
//! form: the number of the part, two texts and five numbers.

use chrono::{DateTime, SecondsFormat, Utc};
use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{DbBackend, Statement};
use uuid::Uuid;

use crate::features::dashboard::model::{MAX_RATES, MAX_STEPS, Span};

/// The numbers of the parts.
pub(super) mod part {
    pub const LEADS: i32 = 1;
    pub const OPPORTUNITIES: i32 = 2;
    pub const CONVERSIONS: i32 = 3;
    pub const MEDIAN: i32 = 4;
    pub const COHORT: i32 = 5;
    pub const SOURCES: i32 = 6;
    pub const OWNERS: i32 = 7;
    pub const ORDERS: i32 = 8;
}

/// The condition that the index of leads by the state and the time of their creation is for.
const ANY_STATE: &str = "state IN ('OPEN', 'DEACTIVATED', 'CONVERTED')";

/// The statement that counts everything for this period, which has at least one span, and this owner.
pub fn statement(backend: DbBackend, spans: &[Span], owner_id: Option<Uuid>) -> Statement {
    let is_postgres = backend == DbBackend::Postgres;
    let mut values = bounds(backend, spans);
    let owner = owner_id.map(|id| {
        values.push(id.to_string().into());
        match is_postgres {
            true => format!("${}", values.len()),
            false => format!("?{}", values.len()),
        }
    });
    let sql = Sql { is_postgres, owner };
    let parts = [
        sql.leads(),
        sql.opportunities(),
        sql.conversions(),
        sql.median(),
        sql.cohort(),
        sql.rates(part::SOURCES, "source", "leads_source"),
        sql.rates(part::OWNERS, "owner_id", "leads_owner"),
        sql.orders(),
    ];
    Statement::from_sql_and_values(backend, parts.join(" UNION ALL "), values)
}

/// The parameters 1 and 2, between which the period is, and those with the bounds of its spans. On SQLite it is one, in
/// the form in which times are stored.
fn bounds(backend: DbBackend, spans: &[Span]) -> Vec<Value> {
    let start = spans
        .iter()
        .map(|span| span.start)
        .min()
        .unwrap_or_default();
    let end = spans.iter().map(|span| span.end).max().unwrap_or_default();
    let mut values: Vec<Value> = vec![start.into(), end.into()];
    if backend == DbBackend::Postgres {
        let array = |times: Vec<DateTime<Utc>>| {
            let times = times.into_iter().map(Value::from).collect();
            Value::Array(ArrayType::ChronoDateTimeUtc, Some(Box::new(times)))
        };
        values.push(array(spans.iter().map(|span| span.start).collect()));
        values.push(array(spans.iter().map(|span| span.end).collect()));
    } else {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, false);
        let spans = spans
            .iter()
            .map(|span| vec![text(span.start), text(span.end)]);
        let spans: serde_json::Value = spans.collect();
        values.push(spans.to_string().into());
    }
    values
}

struct Sql {
    is_postgres: bool,
    /// The parameter with the owner.
    owner: Option<String>,
}

impl Sql {
    /// A table whose rows SQLite shall find by this index. It has few statistics, and would choose another one.
    fn table(&self, table: &str, index: &str) -> String {
        match self.is_postgres {
            true => table.to_owned(),
            false => format!("{table} INDEXED BY {index}"),
        }
    }

    /// The parameter `number`.
    fn parameter(&self, number: usize) -> String {
        match self.is_postgres {
            true => format!("${number}"),
            false => format!("?{number}"),
        }
    }

    /// The condition for the owner.
    fn owned(&self, column: &str) -> String {
        match &self.owner {
            Some(owner) => format!(" AND {column} = {owner}"),
            None => String::new(),
        }
    }

    /// The condition that a time is in the period.
    fn in_period(&self, column: &str) -> String {
        let (start, end) = (self.parameter(1), self.parameter(2));
        format!("{column} >= {start} AND {column} < {end}")
    }

    /// A sum of whole numbers as a whole number.
    fn sum(&self, of: &str) -> String {
        match self.is_postgres {
            true => format!("CAST(coalesce(sum({of}), 0) AS bigint)"),
            false => format!("coalesce(sum({of}), 0)"),
        }
    }

    /// The microseconds from 1970 to a time, exactly.
    fn micros(&self, time: &str) -> String {
        match self.is_postgres {
            true => format!("CAST(extract(epoch FROM {time}) * 1000000 AS bigint)"),
            // As texts, with 0, 3, 6 or 9 digits of a second: 2026-11-28T09:30:00.123456+00:00.
            false => format!(
                "(CAST(strftime('%s', substr({time}, 1, 19)) AS integer) * 1000000 \
                 + CASE substr({time}, 20, 1) WHEN '.' \
                 THEN CAST(substr(replace(substr({time}, 21), '+00:00', '000000'), 1, 6) AS integer) ELSE 0 END)"
            ),
        }
    }

    /// The number of leads in each state.
    fn leads(&self) -> String {
        let part = part::LEADS;
        let (from, owned) = match self.owner {
            Some(_) => (
                self.table("leads", "leads_owner"),
                format!("owner_id <> ''{}", self.owned("owner_id")),
            ),
            None => (
                self.table("leads", "leads_state_create_time"),
                "TRUE".to_owned(),
            ),
        };
        format!(
            "SELECT {part} AS part, state AS a, '' AS b, count(*) AS n1, 0 AS n2, 0 AS n3, 0 AS n4, 0 AS n5 \
             FROM {from} WHERE {owned} GROUP BY state"
        )
    }

    /// The open opportunities by stage, currency and probability, with the sums of billions of units, units beyond, and
    /// nanos. A probability of -1 is none.
    fn opportunities(&self) -> String {
        let part = part::OPPORTUNITIES;
        let from = self.table("opportunities", "opportunities_open");
        // The index of SQLite has these expressions.
        let (currency, units, nanos) = match self.is_postgres {
            true => (
                "amount ->> 'currency_code'",
                "CAST(amount ->> 'units' AS bigint)",
                "CAST(amount ->> 'nanos' AS bigint)",
            ),
            false => (
                "amount ->> '$.currency_code'",
                "amount ->> '$.units'",
                "amount ->> '$.nanos'",
            ),
        };
        let probability = "coalesce(win_probability, nullif(probability, 0))";
        let billions = self.sum(&format!("({units}) / 1000000000"));
        let beyond = self.sum(&format!("({units}) % 1000000000"));
        let nanos = self.sum(nanos);
        let owned = self.owned("owner_id");
        format!(
            "SELECT {part}, stage, coalesce(currency, ''), n, coalesce(probability, -1), billions, beyond, nanos FROM \
             (SELECT stage, {currency} AS currency, {probability} AS probability, count(*) AS n, \
             {billions} AS billions, {beyond} AS beyond, {nanos} AS nanos \
             FROM {from} WHERE state = 'OPEN'{owned} GROUP BY stage, {currency}, {probability}) AS open_opportunities"
        )
    }

    /// The number of conversions in each span of the period, by its place.
    fn conversions(&self) -> String {
        let part = part::CONVERSIONS;
        let (spans, place, start, end) = match self.is_postgres {
            true => (
                "unnest($3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY AS span(s, e, i)",
                "i - 1",
                "s",
                "e",
            ),
            false => ("json_each(?3) AS span", "key", "value ->> 0", "value ->> 1"),
        };
        let from = self.table("leads", "leads_conversions");
        let owned = self.owned("owner_id");
        format!(
            "SELECT {part}, '', '', {place}, (SELECT count(*) FROM {from} WHERE conversion_time IS NOT NULL \
             AND conversion_time >= {start} AND conversion_time < {end}{owned}), 0, 0, 0 FROM {spans}"
        )
    }

    /// The one or two times in the middle, of those from a lead's creation to its conversion in the period.
    fn median(&self) -> String {
        let part = part::MEDIAN;
        let from = self.table("leads", "leads_conversions");
        let (in_period, owned) = (self.in_period("conversion_time"), self.owned("owner_id"));
        let (end, start) = (self.micros("conversion_time"), self.micros("create_time"));
        format!(
            "SELECT {part}, '', '', min(took), max(took), 0, 0, 0 FROM (SELECT took, \
             row_number() OVER (ORDER BY took) AS place, count(*) OVER () AS all_places FROM (\
             SELECT {end} - {start} AS took FROM {from} WHERE conversion_time IS NOT NULL AND {in_period}{owned}\
             ) AS each_time) AS sorted WHERE place IN ((all_places + 1) / 2, (all_places + 2) / 2)"
        )
    }

    /// The leads that were created in the period, and how many of them are converted.
    fn cohort(&self) -> String {
        let part = part::COHORT;
        let (from, owned) = match self.owner {
            Some(_) => (
                self.table("leads", "leads_owner"),
                format!(" AND owner_id <> ''{}", self.owned("owner_id")),
            ),
            None => (
                self.table("leads", "leads_state_create_time"),
                String::new(),
            ),
        };
        let in_period = self.in_period("create_time");
        format!(
            "SELECT {part}, '', '', count(*), count(CASE WHEN state = 'CONVERTED' THEN 1 END), 0, 0, 0 \
             FROM {from} WHERE {ANY_STATE} AND {in_period}{owned}"
        )
    }

    /// These leads by a text, which is not empty: those with the most leads, and in the third to fifth number the sums of
    /// all. The leads of one owner are found by the owner, and have to be read for their sources.
    fn rates(&self, part: i32, column: &str, index: &str) -> String {
        let (from, owned) = match self.owner {
            Some(_) => (
                self.table("leads", "leads_owner"),
                format!(
                    " AND {ANY_STATE} AND owner_id <> ''{}",
                    self.owned("owner_id")
                ),
            ),
            None => (self.table("leads", index), String::new()),
        };
        let in_period = self.in_period("create_time");
        let (all, all_converted) = (self.sum_over("leads"), self.sum_over("converted"));
        let bytewise = if self.is_postgres {
            " COLLATE \"C\""
        } else {
            ""
        };
        format!(
            "SELECT {part}, word, '', leads, converted, all_leads, all_converted, 0 FROM (SELECT word, leads, converted, \
             {all} AS all_leads, {all_converted} AS all_converted FROM (\
             SELECT {column} AS word, count(*) AS leads, count(CASE WHEN state = 'CONVERTED' THEN 1 END) AS converted \
             FROM {from} WHERE {column} <> '' AND {in_period}{owned} GROUP BY {column}) AS by_word \
             ORDER BY leads DESC, word{bytewise} LIMIT {MAX_RATES}) AS rates_{column}"
        )
    }

    /// The orders in progress by queue and step, with the time of the oldest, and in the third number the sum of all. An
    /// order belongs to the owner of its lead.
    fn orders(&self) -> String {
        let part = part::ORDERS;
        let (queue, from) = match self.is_postgres {
            true => ("CAST(queue_id AS text)", "orders AS o".to_owned()),
            false => (
                "hex(queue_id)",
                "orders AS o INDEXED BY orders_open_age".to_owned(),
            ),
        };
        let owned = match &self.owner {
            Some(owner) => {
                format!(
                    " AND EXISTS (SELECT 1 FROM leads AS l WHERE l.id = o.lead_id AND l.owner_id = {owner})"
                )
            }
            None => String::new(),
        };
        let (oldest, all) = (self.micros("oldest"), self.sum_over("orders"));
        format!(
            "SELECT {part}, {queue}, step, orders, {oldest}, all_orders, 0, 0 FROM (SELECT queue_id, step, orders, oldest, \
             {all} AS all_orders FROM (SELECT o.queue_id, o.step, count(*) AS orders, min(o.create_time) AS oldest \
             FROM {from} WHERE o.state = 'PROCESSING'{owned} GROUP BY o.queue_id, o.step) AS by_step \
             ORDER BY orders DESC, queue_id, step LIMIT {MAX_STEPS}) AS steps"
        )
    }

    /// The sum over all rows, before a limit.
    fn sum_over(&self, column: &str) -> String {
        match self.is_postgres {
            true => format!("CAST(sum({column}) OVER () AS bigint)"),
            false => format!("sum({column}) OVER ()"),
        }
    }
}

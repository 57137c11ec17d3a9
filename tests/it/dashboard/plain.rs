//! The figures of a desk by plain SQL of PostgreSQL, which has time zones of its own.

use leadsmith_proto as proto;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use serde_json::{Value, json};

use super::naive::Asked;

/// Fails unless the dashboard is what plain SQL says.
pub async fn check(db: &DatabaseConnection, asked: &Asked<'_>, dashboard: &proto::Dashboard) {
    let (zone, first, last) = (asked.zone, asked.first, asked.last);
    let owned = |column: &str| match asked.owner_id {
        "" => "TRUE".to_owned(),
        id => format!("{column} = '{id}'"),
    };
    let day = |time: &str| format!("CAST({time} AT TIME ZONE '{zone}' AS date)");
    let is_in = |time: &str| format!("{} BETWEEN '{first}' AND '{last}'", day(time));
    let converted = format!(
        "FROM leads WHERE state = 'CONVERTED' AND {} AND {}",
        is_in("conversion_time"),
        owned("owner_id")
    );
    let cohort = format!(
        "FROM leads WHERE {} AND {}",
        is_in("create_time"),
        owned("owner_id")
    );
    let about = format!("{zone} {first} {last} {}", asked.owner_id);

    let by_day = format!(
        "SELECT CAST(d AS date), (SELECT count(*) {converted} AND {} = CAST(d AS date)) \
         FROM generate_series(CAST('{first}' AS date), CAST('{last}' AS date), interval '1 day') AS d ORDER BY 1",
        day("conversion_time")
    );
    let shown = |counts: &[proto::ConversionCount]| -> Value {
        counts
            .iter()
            .map(|count| json!([count.first_day, count.conversions]))
            .collect()
    };
    assert_eq!(
        shown(&dashboard.conversions_by_day),
        rows(db, &by_day).await,
        "{about}"
    );
    for (unit, counts) in [
        ("week", &dashboard.conversions_by_week),
        ("month", &dashboard.conversions_by_month),
    ] {
        let by_unit = format!(
            "SELECT min(CAST(d AS date)), sum((SELECT count(*) {converted} AND {} = CAST(d AS date))) \
             FROM generate_series(CAST('{first}' AS date), CAST('{last}' AS date), interval '1 day') AS d \
             GROUP BY date_trunc('{unit}', d) ORDER BY 1",
            day("conversion_time")
        );
        assert_eq!(shown(counts), rows(db, &by_unit).await, "{unit} {about}");
    }
    let median = format!(
        "SELECT floor(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM conversion_time - create_time)) \
         * 1000) {converted}"
    );
    let shown = dashboard
        .median_time_to_conversion
        .as_ref()
        .map(|median| median.seconds * 1_000 + i64::from(median.nanos / 1_000_000));
    let plain = rows(db, &median).await[0][0].as_f64();
    match (shown, plain) {
        (Some(shown), Some(plain)) => assert!(
            (shown as f64 - plain).abs() <= 1.0,
            "{shown} {plain} {about}"
        ),
        (shown, plain) => assert_eq!((shown, plain), (None, None), "{about}"),
    }

    let by_source = format!(
        "SELECT source, count(*), count(*) FILTER (WHERE state = 'CONVERTED') {cohort} \
         GROUP BY 1 ORDER BY 2 DESC, source COLLATE \"C\" LIMIT 100"
    );
    let rates = dashboard.conversion_by_source.iter();
    let rates: Value = rates
        .map(|one| json!([one.source, one.leads, one.converted]))
        .collect();
    assert_eq!(rates, rows(db, &by_source).await, "{about}");
    let by_owner = format!(
        "SELECT owner_id, count(*), count(*) FILTER (WHERE state = 'CONVERTED') {cohort} \
         GROUP BY 1 ORDER BY 2 DESC, owner_id COLLATE \"C\" LIMIT 100"
    );
    let rates = dashboard.conversion_by_owner.iter();
    let rates: Value = rates
        .map(|one| json!([one.owner_id, one.leads, one.converted]))
        .collect();
    assert_eq!(rates, rows(db, &by_owner).await, "{about}");
    let all: i64 = dashboard
        .conversion_by_source
        .iter()
        .chain(&dashboard.conversion_by_other_sources)
        .map(|one| one.leads)
        .sum();
    assert_eq!(
        json!([[all]]),
        rows(db, &format!("SELECT count(*) {cohort}")).await,
        "{about}"
    );

    let leads = format!(
        "SELECT state, count(*) FROM leads WHERE {} GROUP BY 1 ORDER BY 2, 1",
        owned("owner_id")
    );
    let mut shown: Vec<(i64, String)> = dashboard
        .leads_by_state
        .iter()
        .map(|one| {
            let name = one.state().as_str_name().trim_start_matches("LEAD_STATE_");
            (one.leads, name.to_owned())
        })
        .collect();
    shown.sort();
    let shown: Value = shown
        .into_iter()
        .map(|(leads, state)| json!([state, leads]))
        .collect();
    assert_eq!(shown, rows(db, &leads).await, "{about}");

    let amount = "(amount ->> 'units')::numeric + (amount ->> 'nanos')::numeric / 1000000000";
    let sales = format!(
        "SELECT stage, amount ->> 'currency_code', count(*), CAST(sum({amount}) AS text), \
         CAST(round(sum(({amount}) * coalesce(win_probability, probability) / 100), 9) AS text) FROM opportunities \
         WHERE state = 'OPEN' AND amount IS NOT NULL AND {} GROUP BY 1, 2 \
         ORDER BY array_position(ARRAY['CONTACT', 'MEETING', 'NEGOTIATION', 'BUYING'], stage), 2",
        owned("owner_id")
    );
    let mut shown = Vec::new();
    for stage in &dashboard.open_opportunities {
        let name = stage
            .stage()
            .as_str_name()
            .trim_start_matches("OPPORTUNITY_STAGE_");
        for one in &stage.amounts {
            let (amount, weighted) = (
                one.amount.as_ref().unwrap(),
                one.weighted_amount.as_ref().unwrap(),
            );
            shown.push(json!([
                name,
                amount.currency_code,
                one.opportunities,
                decimal(&format!("{}.{:09}", amount.units, amount.nanos)),
                decimal(&format!("{}.{:09}", weighted.units, weighted.nanos)),
            ]));
        }
    }
    let mut plain = rows(db, &sales).await;
    for row in plain.as_array_mut().unwrap() {
        for place in [3, 4] {
            row[place] = json!(decimal(row[place].as_str().unwrap()));
        }
    }
    assert_eq!(Value::from(shown), plain, "{about}");

    let orders = format!(
        "SELECT CAST(o.queue_id AS text), o.step, count(*), CAST(extract(epoch FROM min(o.create_time)) AS bigint) \
         FROM orders AS o JOIN leads AS l ON l.id = o.lead_id WHERE o.state = 'PROCESSING' AND {} GROUP BY 1, 2 \
         ORDER BY 1, 2",
        owned("l.owner_id")
    );
    let mut shown: Vec<Value> = Vec::new();
    for one in &dashboard.orders_by_step {
        let oldest = one.oldest_create_time.unwrap();
        let seconds = oldest.seconds + i64::from(oldest.nanos >= 500_000_000);
        shown.push(json!([one.queue_id, one.step, one.orders, seconds]));
    }
    shown.sort_by_key(|row| (row[0].to_string(), row[1].to_string()));
    let mut plain: Vec<Value> = rows(db, &orders).await.as_array().unwrap().clone();
    plain.sort_by_key(|row| (row[0].to_string(), row[1].to_string()));
    assert_eq!(shown, plain, "{about}");
}

/// A decimal without zeros at its end.
fn decimal(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// The rows of a query as arrays of their columns.
async fn rows(db: &DatabaseConnection, sql: &str) -> Value {
    let columns = ["a", "b", "c", "d", "e"];
    let query = Statement::from_string(DbBackend::Postgres, sql.to_owned());
    let width = db
        .query_one_raw(query)
        .await
        .unwrap()
        .map_or(1, |row| row.column_names().len());
    let columns = columns[..width].join(", ");
    let sql = format!("SELECT json_agg(json_build_array({columns})) FROM ({sql}) AS q({columns})");
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql));
    let rows: Option<Value> = row.await.unwrap().unwrap().try_get_by_index(0).unwrap();
    rows.unwrap_or_else(|| json!([]))
}

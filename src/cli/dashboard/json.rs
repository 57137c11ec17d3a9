//! The figures for scripts, with the names and the forms of the JSON of the contract, in snake case.

use chrono::{DateTime, SecondsFormat};
use leadsmith_proto as proto;
use serde_json::{Value, json};

/// The figures as one value.
pub(super) fn value(dashboard: &proto::Dashboard) -> Value {
    json!({
        "read_time": time(dashboard.read_time.as_ref()),
        "time_zone": dashboard.time_zone,
        "first_day": dashboard.first_day,
        "last_day": dashboard.last_day,
        "owner_id": dashboard.owner_id,
        "leads_by_state": all(&dashboard.leads_by_state, |one| json!({
            "state": one.state().as_str_name(),
            "leads": one.leads,
        })),
        "open_opportunities": all(&dashboard.open_opportunities, |one| json!({
            "stage": one.stage().as_str_name(),
            "opportunities": one.opportunities,
            "without_amount": one.without_amount,
            "amounts": all(&one.amounts, amounts),
        })),
        "conversions": dashboard.conversions,
        "conversions_by_day": all(&dashboard.conversions_by_day, count),
        "conversions_by_week": all(&dashboard.conversions_by_week, count),
        "conversions_by_month": all(&dashboard.conversions_by_month, count),
        "median_time_to_conversion": duration(dashboard.median_time_to_conversion.as_ref()),
        "conversion_by_source": all(&dashboard.conversion_by_source, of_source),
        "conversion_by_other_sources": dashboard.conversion_by_other_sources.as_ref().map(of_source),
        "conversion_by_owner": all(&dashboard.conversion_by_owner, of_owner),
        "conversion_by_other_owners": dashboard.conversion_by_other_owners.as_ref().map(of_owner),
        "orders_by_step": all(&dashboard.orders_by_step, |one| json!({
            "queue_id": one.queue_id,
            "queue_name": one.queue_name,
            "step": one.step,
            "step_name": one.step_name,
            "orders": one.orders,
            "oldest_create_time": time(one.oldest_create_time.as_ref()),
            "oldest_age": duration(one.oldest_age.as_ref()),
        })),
        "other_orders": dashboard.other_orders,
    })
}

fn all<T>(list: &[T], value: impl Fn(&T) -> Value) -> Vec<Value> {
    list.iter().map(value).collect()
}

fn amounts(one: &proto::OpenAmount) -> Value {
    json!({
        "amount": one.amount.as_ref().map(money),
        "weighted_amount": one.weighted_amount.as_ref().map(money),
        "opportunities": one.opportunities,
        "without_probability": one.without_probability,
    })
}

/// The units are a text: many programs read a number as one that is not exact beyond 2^53.
fn money(money: &proto::Money) -> Value {
    json!({
        "currency_code": money.currency_code,
        "units": money.units.to_string(),
        "nanos": money.nanos,
    })
}

fn count(count: &proto::ConversionCount) -> Value {
    json!({
        "first_day": count.first_day,
        "last_day": count.last_day,
        "partial": count.partial,
        "conversions": count.conversions,
    })
}

fn of_source(one: &proto::SourceConversionRate) -> Value {
    json!({
        "source": one.source,
        "leads": one.leads,
        "converted": one.converted,
        "rate": one.rate,
    })
}

fn of_owner(one: &proto::OwnerConversionRate) -> Value {
    json!({
        "owner_id": one.owner_id,
        "owner_name": one.owner_name,
        "leads": one.leads,
        "converted": one.converted,
        "rate": one.rate,
    })
}

/// A time in UTC as text, with microseconds.
fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let time = time?;
    let time = DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// A duration in seconds, with microseconds. Example: `93784.500000s`.
fn duration(duration: Option<&prost_types::Duration>) -> Option<String> {
    duration.map(|duration| format!("{}.{:06}s", duration.seconds, duration.nanos / 1_000))
}

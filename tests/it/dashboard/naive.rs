//! The figures of a desk, counted by a loop over everything. The day of a time is what the calendar of the zone shows at
//! this time, so nothing here knows where days begin.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Datelike, NaiveDate, Utc, Weekday};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use leadsmith_proto as proto;
use leadsmith_proto::{LeadState, OpportunityStage};
use uuid::Uuid;

use super::desk::{Desk, DeskLead};

/// What to count.
pub struct Asked<'a> {
    pub zone: &'a str,
    pub first: NaiveDate,
    pub last: NaiveDate,
    pub owner_id: &'a str,
}

/// The queues: their ids with their names and the keys and names of their steps, in the order of the queues.
pub type Queues = Vec<(Uuid, String, Vec<(String, String)>)>;

/// The figures, without what depends on the time of the call.
pub fn count(
    desk: &Desk,
    asked: &Asked<'_>,
    names: &HashMap<String, String>,
    queues: &Queues,
) -> proto::Dashboard {
    let zone = TimeZoneDatabase::bundled().get(asked.zone).unwrap();
    let owned = |owner_id: &str| asked.owner_id.is_empty() || owner_id == asked.owner_id;
    let is_in = |day: NaiveDate| (asked.first..=asked.last).contains(&day);
    let leads: Vec<&DeskLead> = desk
        .leads
        .iter()
        .filter(|lead| owned(&lead.owner_id))
        .collect();

    let mut conversions: BTreeMap<NaiveDate, i64> = BTreeMap::new();
    let mut took = Vec::new();
    for lead in &leads {
        let Some(time) = lead.conversion_time else {
            continue;
        };
        let day = day(&zone, time);
        if is_in(day) {
            *conversions.entry(day).or_default() += 1;
            took.push((time - lead.create_time).num_microseconds().unwrap());
        }
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).map(|high| {
        let low = took[(took.len() - 1) / 2];
        (low + high).div_euclid(2)
    });
    let cohort: Vec<&&DeskLead> = leads
        .iter()
        .filter(|lead| is_in(day(&zone, lead.create_time)))
        .collect();
    let by_day: Vec<NaiveDate> = asked
        .first
        .iter_days()
        .take_while(|day| *day <= asked.last)
        .collect();
    let counted = |days: &[NaiveDate], is_partial| proto::ConversionCount {
        first_day: days[0].to_string(),
        last_day: days[days.len() - 1].to_string(),
        partial: is_partial,
        conversions: days
            .iter()
            .map(|day| conversions.get(day).copied().unwrap_or(0))
            .sum(),
    };
    let weeks = by_day.chunk_by(|_, next| next.weekday() != Weekday::Mon);
    let months = by_day.chunk_by(|_, next| next.day() != 1);
    let (sources, other_sources) = rates(&cohort, |lead| &lead.source);
    let (owners, other_owners) = rates(&cohort, |lead| &lead.owner_id);
    let of_source = |(source, leads, converted): (String, i64, i64)| proto::SourceConversionRate {
        source,
        leads,
        converted,
        rate: converted as f64 / leads as f64,
    };
    let of_owner = |(owner_id, leads, converted): (String, i64, i64)| proto::OwnerConversionRate {
        owner_name: names.get(&owner_id).cloned().unwrap_or_default(),
        owner_id,
        leads,
        converted,
        rate: converted as f64 / leads as f64,
    };
    proto::Dashboard {
        read_time: None,
        time_zone: asked.zone.into(),
        first_day: asked.first.to_string(),
        last_day: asked.last.to_string(),
        owner_id: asked.owner_id.into(),
        leads_by_state: [
            LeadState::Open,
            LeadState::Deactivated,
            LeadState::Converted,
        ]
        .map(|state| {
            let name = state.as_str_name().trim_start_matches("LEAD_STATE_");
            proto::LeadStateCount {
                state: state.into(),
                leads: number(leads.iter().filter(|lead| lead.state == name).count()),
            }
        })
        .to_vec(),
        open_opportunities: opportunities(desk, asked.owner_id),
        conversions: conversions.values().sum(),
        conversions_by_day: by_day.iter().map(|day| counted(&[*day], false)).collect(),
        conversions_by_week: weeks.map(|days| counted(days, days.len() < 7)).collect(),
        conversions_by_month: months
            .map(|days| {
                let last = days[days.len() - 1];
                let is_whole = days[0].day() == 1 && last.succ_opt().unwrap().day() == 1;
                counted(days, !is_whole)
            })
            .collect(),
        median_time_to_conversion: median.map(|micros| prost_types::Duration {
            seconds: micros / 1_000_000,
            nanos: i32::try_from(micros % 1_000_000 * 1_000).unwrap(),
        }),
        conversion_by_source: sources.into_iter().map(of_source).collect(),
        conversion_by_other_sources: other_sources.map(of_source),
        conversion_by_owner: owners.into_iter().map(of_owner).collect(),
        conversion_by_other_owners: other_owners.map(of_owner),
        orders_by_step: orders(desk, asked.owner_id, queues),
        other_orders: 0,
    }
}

/// What the calendar of a zone shows at a time.
fn day(zone: &TimeZone, time: DateTime<Utc>) -> NaiveDate {
    let time = Timestamp::from_microsecond(time.timestamp_micros()).unwrap();
    let date = zone.to_datetime(time).date();
    NaiveDate::from_ymd_opt(
        date.year().into(),
        u32::try_from(date.month()).unwrap(),
        u32::try_from(date.day()).unwrap(),
    )
    .unwrap()
}

type Rate = (String, i64, i64);

/// The 100 largest groups, and the others together.
fn rates(cohort: &[&&DeskLead], key: impl Fn(&DeskLead) -> &String) -> (Vec<Rate>, Option<Rate>) {
    let mut groups: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for lead in cohort {
        let group = groups.entry(key(lead).clone()).or_default();
        group.0 += 1;
        group.1 += i64::from(lead.state == "CONVERTED");
    }
    let mut groups: Vec<Rate> = groups
        .into_iter()
        .map(|(key, (leads, converted))| (key, leads, converted))
        .collect();
    // It is stable, so equal ones stay in the order of their keys.
    groups.sort_by_key(|(_, leads, _)| -leads);
    let others = groups.split_off(groups.len().min(100));
    let sum = |of: fn(&Rate) -> i64| others.iter().map(of).sum::<i64>();
    let others =
        (sum(|one| one.1) > 0).then(|| (String::new(), sum(|one| one.1), sum(|one| one.2)));
    (groups, others)
}

fn opportunities(desk: &Desk, owner_id: &str) -> Vec<proto::OpenOpportunities> {
    let stages = [
        OpportunityStage::Contact,
        OpportunityStage::Meeting,
        OpportunityStage::Negotiation,
        OpportunityStage::Buying,
    ];
    let of_stage = |stage: OpportunityStage| {
        let name = stage.as_str_name().trim_start_matches("OPPORTUNITY_STAGE_");
        let is_its = |owner: &str| owner_id.is_empty() || owner == owner_id;
        let sales = desk.sales.iter();
        let sales = sales
            .filter(|sale| sale.state == "OPEN" && sale.stage == name && is_its(&sale.owner_id));
        let sales: Vec<_> = sales.collect();
        let amounts = ["EUR", "JPY", "USD"].into_iter().filter_map(|code| {
            let with = sales
                .iter()
                .filter_map(|sale| Some((sale.amount?, sale.probability)));
            let with: Vec<_> = with
                .filter(|((currency, _, _), _)| *currency == code)
                .collect();
            let nanos =
                |units: i64, nanos: i32| i128::from(units) * 1_000_000_000 + i128::from(nanos);
            let sum: i128 = with
                .iter()
                .map(|((_, units, rest), _)| nanos(*units, *rest))
                .sum();
            let hundredths: i128 = with
                .iter()
                .map(|((_, units, rest), known)| {
                    nanos(*units, *rest) * i128::from(known.unwrap_or(0))
                })
                .sum();
            let money = |nanos: i128| proto::Money {
                currency_code: code.into(),
                units: i64::try_from(nanos / 1_000_000_000).unwrap(),
                nanos: i32::try_from(nanos % 1_000_000_000).unwrap(),
            };
            (!with.is_empty()).then(|| proto::OpenAmount {
                amount: Some(money(sum)),
                weighted_amount: Some(money((hundredths + 50) / 100)),
                opportunities: number(with.len()),
                without_probability: number(
                    with.iter().filter(|(_, known)| known.is_none()).count(),
                ),
            })
        });
        proto::OpenOpportunities {
            stage: stage.into(),
            opportunities: number(sales.len()),
            without_amount: number(sales.iter().filter(|sale| sale.amount.is_none()).count()),
            amounts: amounts.collect(),
        }
    };
    stages.map(of_stage).to_vec()
}

fn orders(desk: &Desk, owner_id: &str, queues: &Queues) -> Vec<proto::OrderStepCount> {
    let mut steps = Vec::new();
    for (queue_id, queue_name, known) in queues {
        let mut keys: Vec<(String, String)> = known.clone();
        let mut removed: Vec<String> = Vec::new();
        for order in &desk.orders {
            let is_known = known.iter().any(|(key, _)| *key == order.step);
            if order.queue_id == *queue_id && !is_known && !removed.contains(&order.step) {
                removed.push(order.step.clone());
            }
        }
        removed.sort();
        keys.extend(removed.into_iter().map(|key| (key, String::new())));
        for (step, step_name) in keys {
            let orders = desk.orders.iter().filter(|order| {
                let owner = &desk.leads[order.lead].owner_id;
                order.state == "PROCESSING"
                    && order.queue_id == *queue_id
                    && order.step == step
                    && (owner_id.is_empty() || owner == owner_id)
            });
            let times: Vec<DateTime<Utc>> = orders.map(|order| order.create_time).collect();
            let Some(oldest) = times.iter().min() else {
                continue;
            };
            steps.push(proto::OrderStepCount {
                queue_id: queue_id.to_string(),
                queue_name: queue_name.clone(),
                step,
                step_name,
                orders: number(times.len()),
                oldest_create_time: Some(prost_types::Timestamp {
                    seconds: oldest.timestamp(),
                    nanos: i32::try_from(oldest.timestamp_subsec_nanos()).unwrap(),
                }),
                oldest_age: None,
            });
        }
    }
    steps
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap()
}

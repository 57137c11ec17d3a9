//! Renders the dashboard.

use chrono::Duration;

use crate::features::dashboard::model::{
    Amounts, Converted, Count, Dashboard, InStage, InStep, Owner,
};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::{money, render::time};
use leadsmith_proto as proto;

/// Renders the figures.
pub(super) fn dashboard(dashboard: Dashboard) -> proto::Dashboard {
    let (read_time, figures) = (dashboard.read_time, dashboard.figures);
    let counts = |counts: &[Count]| counts.iter().map(conversion_count).collect();
    let conversions = &figures.conversions;
    proto::Dashboard {
        read_time: Some(time(read_time)),
        time_zone: dashboard.period.zone.name().to_owned(),
        first_day: dashboard.period.first.to_string(),
        last_day: dashboard.period.last.to_string(),
        owner_id: dashboard
            .owner_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        leads_by_state: {
            let states = figures
                .leads
                .into_iter()
                .map(|(state, leads)| proto::LeadStateCount {
                    state: state.to_wire(),
                    leads: number(leads),
                });
            states.collect()
        },
        open_opportunities: figures.opportunities.into_iter().map(in_stage).collect(),
        conversions: number(conversions.total),
        conversions_by_day: counts(&conversions.by_day),
        conversions_by_week: counts(&conversions.by_week),
        conversions_by_month: counts(&conversions.by_month),
        median_time_to_conversion: figures.median.map(duration),
        conversion_by_source: {
            let listed = figures.sources.listed.into_iter();
            listed
                .map(|(source, converted)| of_source(source, converted))
                .collect()
        },
        conversion_by_other_sources: {
            let others = figures.sources.others;
            others.map(|converted| of_source(String::new(), converted))
        },
        conversion_by_owner: {
            let listed = figures.owners.listed.into_iter();
            listed
                .map(|(owner, converted)| of_owner(owner, converted))
                .collect()
        },
        conversion_by_other_owners: {
            let others = figures.owners.others;
            others.map(|converted| of_owner(Owner::default(), converted))
        },
        orders_by_step: {
            let steps = figures.orders.into_iter();
            steps
                .map(|step| {
                    let age = read_time.signed_duration_since(step.oldest);
                    in_step(step, age.max(Duration::zero()))
                })
                .collect()
        },
        other_orders: number(figures.other_orders),
    }
}

fn in_stage(stage: InStage) -> proto::OpenOpportunities {
    proto::OpenOpportunities {
        stage: stage.stage.to_wire(),
        opportunities: number(stage.opportunities),
        without_amount: number(stage.without_amount),
        amounts: stage.amounts.into_iter().map(amounts).collect(),
    }
}

fn amounts(amounts: Amounts) -> proto::OpenAmount {
    proto::OpenAmount {
        amount: Some(money::render(amounts.amount)),
        weighted_amount: Some(money::render(amounts.weighted)),
        opportunities: number(amounts.opportunities),
        without_probability: number(amounts.without_probability),
    }
}

fn conversion_count(count: &Count) -> proto::ConversionCount {
    proto::ConversionCount {
        first_day: count.first.to_string(),
        last_day: count.last.to_string(),
        partial: count.is_partial,
        conversions: number(count.conversions),
    }
}

fn of_source(source: String, converted: Converted) -> proto::SourceConversionRate {
    proto::SourceConversionRate {
        source,
        leads: number(converted.leads),
        converted: number(converted.converted),
        rate: converted.rate(),
    }
}

fn of_owner(owner: Owner, converted: Converted) -> proto::OwnerConversionRate {
    proto::OwnerConversionRate {
        owner_id: owner.id,
        owner_name: owner.name,
        leads: number(converted.leads),
        converted: number(converted.converted),
        rate: converted.rate(),
    }
}

fn in_step(step: InStep, age: Duration) -> proto::OrderStepCount {
    proto::OrderStepCount {
        queue_id: step.queue_id.to_string(),
        queue_name: step.queue_name,
        step: step.step,
        step_name: step.step_name,
        orders: number(step.orders),
        oldest_create_time: Some(time(step.oldest)),
        oldest_age: Some(duration(age)),
    }
}

/// A count, which no database makes larger than an i64.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.num_seconds(),
        nanos: duration.subsec_nanos(),
    }
}

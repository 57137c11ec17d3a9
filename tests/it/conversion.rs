//! Conversions: into a client that exists, by hand and by an order, and their reversal.

mod erasing;
mod into_client;
mod look_alikes;
mod orders;
mod password;
mod races;
mod reachable;
mod responses;
mod reverting;
mod views;

use leadsmith_proto::{self as proto, Address, Client, Lead};

use crate::harness::Caller;

/// A lead with these values, for each test to complete.
fn person(last_name: &str) -> Lead {
    Lead {
        last_name: last_name.into(),
        ..Lead::default()
    }
}

/// Creates a lead although another one may have its email.
async fn create(caller: &Caller, lead: Lead) -> Lead {
    let request = proto::CreateLeadRequest {
        lead: Some(lead),
        allow_duplicate: true,
        ..Default::default()
    };
    let answer = caller.leads().create(request).await.unwrap();
    answer.into_inner().lead.unwrap()
}

/// Creates a lead and converts it to a client of its own.
async fn new_client(caller: &Caller, lead: Lead) -> Client {
    let lead = create(caller, lead).await;
    let converted = caller.convert(&lead.id).await.unwrap();
    converted.client.unwrap()
}

/// The fields of a report with their outcomes: `C`, `K` or `D` and the field.
fn outcomes(report: &proto::ConversionReport) -> Vec<String> {
    let outcomes = report.outcomes.iter().map(|field| {
        let outcome = match field.outcome() {
            proto::ConversionOutcome::Carried => 'C',
            proto::ConversionOutcome::Kept => 'K',
            proto::ConversionOutcome::Dropped => 'D',
            proto::ConversionOutcome::Unspecified => '?',
        };
        format!("{outcome} {}", field.field)
    });
    outcomes.collect()
}

fn city(city: &str) -> Option<Address> {
    Some(Address {
        city: city.into(),
        ..Address::default()
    })
}

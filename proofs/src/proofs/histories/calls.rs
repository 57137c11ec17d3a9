//! The records of a sale, and the calls on them.

use anyhow::Result;
use leadsmith_proto::{self as proto, ActionType, Lead, Order, OrderAction, RunOutcome};
use tonic::{Response, Status};

use super::model::{Answer, Model, Op, Services};
use crate::harness::client::{Caller, version};

/// Longer than a round.
const LEASE: i64 = 600;

/// The actions of the order. Provisioning the client requires the services; the call ends the order.
const PROVISION: &str = "provision-client";
const CALL: &str = "call";

/// The claims of a caller: the number and the id of the run.
pub type Claims = Vec<(usize, String)>;

/// The records of a sale, by their ids.
#[derive(Clone)]
pub struct Sale {
    lead: String,
    client: String,
    order: String,
    opportunity: String,
    /// The key of the action that only workers of this sale claim.
    services: String,
}

impl Sale {
    /// Creates the records. No other sale has this number.
    pub async fn open(caller: &Caller, number: usize) -> Result<(Self, Model)> {
        let named = |last_name: &str, phone: &str| Lead {
            last_name: last_name.to_owned(),
            phone: phone.to_owned(),
            ..Lead::default()
        };
        let lead = caller
            .create_as(named("Sale", "+44 20 7946 0018"), "")
            .await?;
        let client = caller.create_as(named("Client", ""), "").await?;
        let client = caller.convert(&client.id).await?;
        let opportunity = caller.opportunity(&lead.id, "Sale").await?;
        let services = format!("add-services-{number}");
        let action = |key: &str, r#type: ActionType, prerequisites: &[&str]| OrderAction {
            key: key.to_owned(),
            r#type: r#type.into(),
            prerequisites: prerequisites.iter().map(|key| (*key).to_owned()).collect(),
            ..OrderAction::default()
        };
        let request = proto::CreateOrderRequest {
            order: Some(Order {
                lead_id: lead.id.clone(),
                actions: vec![
                    action(&services, ActionType::External, &[]),
                    action(PROVISION, ActionType::ProvisionClient, &[&services]),
                    action(CALL, ActionType::Manual, &[]),
                ],
                ..Order::default()
            }),
            ..Default::default()
        };
        let order = caller.orders().create(caller.request(request)).await?;
        let order = order.into_inner().order.unwrap_or_default();
        let model = Model {
            lead: lead.state(),
            lead_version: version(&lead),
            is_joined: false,
            client_version: version(&client),
            services: Services::Pending,
            is_provisioned: false,
            is_called: false,
            order_version: number_of(&order.etag),
            is_open: true,
            opportunity_version: 1,
        };
        let sale = Self {
            lead: lead.id,
            client: client.id,
            order: order.id,
            opportunity,
            services,
        };
        Ok((sale, model))
    }

    /// Makes a call.
    pub async fn send(
        &self,
        caller: &Caller,
        op: Op,
        claims: &mut Claims,
    ) -> Result<Answer, Status> {
        let (mut leads, mut orders) = (caller.leads(), caller.orders());
        let mut opportunities = caller.opportunities();
        let run_of = |number: usize| {
            let found = claims.iter().find(|(claim, _)| *claim == number);
            found.map(|(_, run)| run.clone()).unwrap_or_default()
        };
        let lead = |lead: Option<Lead>| lead.unwrap_or_default();
        let order =
            |order: Option<Order>| Answer::Order(number_of(&order.unwrap_or_default().etag));
        Ok(match op {
            Op::Convert | Op::Join => {
                let is_join = op == Op::Join;
                let request = proto::ConvertLeadRequest {
                    id: self.lead.clone(),
                    client_id: if is_join {
                        self.client.clone()
                    } else {
                        String::new()
                    },
                    ..Default::default()
                };
                let response = inner(leads.convert(caller.request(request)).await?);
                let (lead, client) = (lead(response.lead), response.client.unwrap_or_default());
                match is_join {
                    true => Answer::Joined(version(&lead), number_of(&client.etag)),
                    false => lead_of(&lead),
                }
            }
            Op::Revert => {
                let request = proto::RevertConversionRequest {
                    id: self.lead.clone(),
                    ..Default::default()
                };
                let response = leads.revert_conversion(caller.request(request)).await?;
                lead_of(&lead(inner(response).lead))
            }
            Op::Provision | Op::Call => {
                let action = if op == Op::Call { CALL } else { PROVISION };
                let request = proto::RunActionRequest {
                    order_id: self.order.clone(),
                    action: action.to_owned(),
                    ..Default::default()
                };
                order(inner(orders.run_action(caller.request(request)).await?).order)
            }
            Op::Claim(number) => {
                let request = proto::ClaimActionsRequest {
                    actions: vec![self.services.clone()],
                    lease: Some(prost_types::Duration {
                        seconds: LEASE,
                        nanos: 0,
                    }),
                    ..Default::default()
                };
                let response = orders.claim_actions(caller.request(request)).await?;
                match inner(response).runs.into_iter().next() {
                    None => Answer::Nothing,
                    Some(run) => {
                        claims.push((number, run.id));
                        order(run.order)
                    }
                }
            }
            Op::Report(number) => {
                let request = proto::ReportActionRequest {
                    run_id: run_of(number),
                    outcome: RunOutcome::Succeeded.into(),
                    ..Default::default()
                };
                order(inner(orders.report_action(caller.request(request)).await?).order)
            }
            Op::Release(number) => {
                let request = proto::ReleaseActionRequest {
                    run_id: run_of(number),
                    ..Default::default()
                };
                order(inner(orders.release_action(caller.request(request)).await?).order)
            }
            Op::Close(outcome) => {
                let request = proto::CloseOpportunityRequest {
                    id: self.opportunity.clone(),
                    outcome: outcome.into(),
                    ..Default::default()
                };
                let response = inner(opportunities.close(caller.request(request)).await?);
                Answer::Opportunity(number_of(&response.opportunity.unwrap_or_default().etag))
            }
            Op::Reopen => {
                let request = proto::ReopenOpportunityRequest {
                    id: self.opportunity.clone(),
                    ..Default::default()
                };
                let response = inner(opportunities.reopen(caller.request(request)).await?);
                Answer::Opportunity(number_of(&response.opportunity.unwrap_or_default().etag))
            }
            Op::GetLead => lead_of(&caller.get(&self.lead).await?),
            Op::GetClient => Answer::Client(version(&caller.get(&self.client).await?)),
            Op::GetOrder => {
                let request = proto::GetOrderRequest {
                    id: self.order.clone(),
                };
                order(inner(orders.get(caller.request(request)).await?).order)
            }
            Op::GetOpportunity => {
                let request = proto::GetOpportunityRequest {
                    id: self.opportunity.clone(),
                };
                let response = inner(opportunities.get(caller.request(request)).await?);
                Answer::Opportunity(number_of(&response.opportunity.unwrap_or_default().etag))
            }
        })
    }
}

fn inner<T>(response: Response<T>) -> T {
    response.into_inner()
}

fn lead_of(lead: &Lead) -> Answer {
    Answer::Lead(lead.state(), version(lead))
}

/// A version, parsed from an etag.
fn number_of(etag: &str) -> i64 {
    etag.trim_matches('"').parse().unwrap_or(0)
}

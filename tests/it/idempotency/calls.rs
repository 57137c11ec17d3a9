//! The RPCs that take a request id, with a common interface.

use leadsmith_proto::{
    ActionType, CancelOrderRequest, ClaimActionsRequest, CloseOpportunityRequest,
    CommentOrderRequest, ConvertLeadRequest, CreateLeadRequest, CreateOpportunityRequest,
    CreateOrderRequest, DeactivateLeadRequest, Lead, Opportunity, OpportunityOutcome, Order,
    OrderAction, OrderItem, ReactivateLeadRequest, ReleaseActionRequest, ReopenOpportunityRequest,
    ReportActionRequest, RevertConversionRequest, RunActionRequest, RunOutcome, SkipActionRequest,
    UndoSkipRequest, UpdateLeadRequest, UpdateOpportunityRequest,
};
use prost::Message;
use tonic::Status;

use super::new_lead;
use crate::harness::{Caller, close, sale_update, update};

/// A call of an RPC that takes a request id.
#[derive(Clone, Debug)]
pub enum Call {
    CreateLead(CreateLeadRequest),
    UpdateLead(UpdateLeadRequest),
    DeactivateLead(DeactivateLeadRequest),
    ReactivateLead(ReactivateLeadRequest),
    ConvertLead(ConvertLeadRequest),
    RevertConversion(RevertConversionRequest),
    CreateOrder(CreateOrderRequest),
    RunAction(RunActionRequest),
    CreateOpportunity(CreateOpportunityRequest),
    UpdateOpportunity(UpdateOpportunityRequest),
    CloseOpportunity(CloseOpportunityRequest),
    ReopenOpportunity(ReopenOpportunityRequest),
    SkipAction(SkipActionRequest),
    UndoSkip(UndoSkipRequest),
    CancelOrder(CancelOrderRequest),
    CommentOrder(CommentOrderRequest),
    ClaimActions(ClaimActionsRequest),
    ReportAction(ReportActionRequest),
    ReleaseAction(ReleaseActionRequest),
}

/// How many RPCs [`Call`] has.
const RPCS: usize = 19;

impl Call {
    /// One call of each RPC, each on its own lead, with that lead's id. The id is empty if the call creates the
    /// lead.
    pub async fn one_of_each(caller: &Caller) -> Vec<(Self, String)> {
        let mut calls = Vec::new();
        for number in 0..RPCS {
            let lead = caller.create_lead("Hopper").await;
            let (id, lead_id) = (lead.id.clone(), lead.id.clone());
            let call = match number {
                0 => {
                    let lead = Some(new_lead());
                    calls.push((Self::create_lead(lead), String::new()));
                    continue;
                }
                1 => Self::UpdateLead(update(Lead { id, ..new_lead() }, &["phone"])),
                2 => Self::DeactivateLead(DeactivateLeadRequest {
                    id,
                    ..Default::default()
                }),
                3 => {
                    caller.deactivate(&id).await.unwrap();
                    Self::ReactivateLead(ReactivateLeadRequest {
                        id,
                        ..Default::default()
                    })
                }
                4 => Self::ConvertLead(ConvertLeadRequest {
                    id,
                    ..Default::default()
                }),
                5 => {
                    let order = Some(Order {
                        lead_id,
                        ..Order::default()
                    });
                    Self::CreateOrder(CreateOrderRequest {
                        order,
                        ..Default::default()
                    })
                }
                6 => {
                    let order_id = caller.create_order(&id, Vec::new()).await.id;
                    let action = "provision-client".into();
                    Self::RunAction(RunActionRequest {
                        order_id,
                        action,
                        ..Default::default()
                    })
                }
                7 => {
                    let id = caller.create_sale(&id, "Compiler").await.id;
                    // Its response is so large that it is stored without the texts of its records.
                    let change = Opportunity {
                        id,
                        description: "A text. ".repeat(400),
                        ..Default::default()
                    };
                    Self::UpdateOpportunity(sale_update(change, &["description"]))
                }
                8 => {
                    let id = caller.create_sale(&id, "Compiler").await.id;
                    Self::CloseOpportunity(close(&id, OpportunityOutcome::Lost))
                }
                9 => {
                    let id = caller.create_sale(&id, "Compiler").await.id;
                    caller.win(&id).await.unwrap();
                    Self::ReopenOpportunity(ReopenOpportunityRequest {
                        id,
                        ..Default::default()
                    })
                }
                10 => {
                    let order_id = caller.create_order(&id, Vec::new()).await.id;
                    Self::SkipAction(skip(order_id))
                }
                11 => {
                    let order_id = caller.create_order(&id, Vec::new()).await.id;
                    let skip = skip(order_id.clone());
                    caller.orders().skip_action(skip).await.unwrap();
                    Self::UndoSkip(UndoSkipRequest {
                        order_id,
                        action: "provision-client".into(),
                        ..Default::default()
                    })
                }
                12 => Self::CancelOrder(CancelOrderRequest {
                    id: caller.create_order(&id, Vec::new()).await.id,
                    ..Default::default()
                }),
                13 => Self::CommentOrder(CommentOrderRequest {
                    order_id: caller.create_order(&id, Vec::new()).await.id,
                    text: "Waits".into(),
                    ..Default::default()
                }),
                14 => {
                    caller.create_order(&id, vec![external("install")]).await;
                    Self::ClaimActions(claim("install"))
                }
                15 => Self::ReportAction(ReportActionRequest {
                    run_id: claimed(caller, &id, "bill").await,
                    outcome: RunOutcome::Failed.into(),
                    ..Default::default()
                }),
                16 => Self::ReleaseAction(ReleaseActionRequest {
                    run_id: claimed(caller, &id, "ship").await,
                    ..Default::default()
                }),
                17 => {
                    caller.convert(&id).await.unwrap();
                    Self::RevertConversion(RevertConversionRequest {
                        id,
                        ..Default::default()
                    })
                }
                _ => {
                    let name = "Compiler".into();
                    let opportunity = Some(Opportunity {
                        lead_id,
                        name,
                        ..Default::default()
                    });
                    Self::CreateOpportunity(CreateOpportunityRequest {
                        opportunity,
                        ..Default::default()
                    })
                }
            };
            calls.push((call, lead.id));
        }
        calls
    }

    pub fn create_lead(lead: Option<Lead>) -> Self {
        Self::CreateLead(CreateLeadRequest {
            lead,
            ..Default::default()
        })
    }

    pub fn with_id(mut self, request_id: &str) -> Self {
        let id = match &mut self {
            Self::CreateLead(request) => &mut request.request_id,
            Self::UpdateLead(request) => &mut request.request_id,
            Self::DeactivateLead(request) => &mut request.request_id,
            Self::ReactivateLead(request) => &mut request.request_id,
            Self::ConvertLead(request) => &mut request.request_id,
            Self::RevertConversion(request) => &mut request.request_id,
            Self::CreateOrder(request) => &mut request.request_id,
            Self::RunAction(request) => &mut request.request_id,
            Self::CreateOpportunity(request) => &mut request.request_id,
            Self::UpdateOpportunity(request) => &mut request.request_id,
            Self::CloseOpportunity(request) => &mut request.request_id,
            Self::ReopenOpportunity(request) => &mut request.request_id,
            Self::SkipAction(request) => &mut request.request_id,
            Self::UndoSkip(request) => &mut request.request_id,
            Self::CancelOrder(request) => &mut request.request_id,
            Self::CommentOrder(request) => &mut request.request_id,
            Self::ClaimActions(request) => &mut request.request_id,
            Self::ReportAction(request) => &mut request.request_id,
            Self::ReleaseAction(request) => &mut request.request_id,
        };
        request_id.clone_into(id);
        self
    }

    /// The same call with another request body.
    pub fn with_another_body(mut self) -> Self {
        match &mut self {
            Self::CreateLead(request) => request.allow_duplicate = true,
            Self::UpdateLead(request) => request.lead.as_mut().unwrap().phone = "2".into(),
            Self::DeactivateLead(request) => request.reason = "another one".into(),
            Self::ReactivateLead(request) => request.etag = "\"2\"".into(),
            Self::ConvertLead(request) => request.validate_only = true,
            Self::RevertConversion(request) => request.etag = "\"2\"".into(),
            Self::CreateOrder(request) => {
                let item = OrderItem {
                    description: "another one".into(),
                    quantity: 1,
                    unit_price: None,
                };
                request.order.as_mut().unwrap().items.push(item);
            }
            Self::RunAction(request) => request.etag = "\"1\"".into(),
            Self::CreateOpportunity(request) => {
                request.opportunity.as_mut().unwrap().probability = Some(50);
            }
            Self::UpdateOpportunity(request) => request.update_mask = None,
            Self::CloseOpportunity(request) => request.reason = "another one".into(),
            Self::ReopenOpportunity(request) => request.etag = "\"2\"".into(),
            Self::SkipAction(request) => request.reason = "another one".into(),
            Self::UndoSkip(request) => request.reason = "another one".into(),
            Self::CancelOrder(request) => request.reason = "another one".into(),
            Self::CommentOrder(request) => request.text = "another one".into(),
            Self::ClaimActions(request) => request.max = 2,
            Self::ReportAction(request) => request.note = "another one".into(),
            Self::ReleaseAction(request) => request.reason = "another one".into(),
        }
        self
    }

    /// Makes the call. Returns the encoded response.
    pub async fn send(self, caller: &Caller) -> Result<Vec<u8>, Status> {
        let (mut leads, mut orders) = (caller.leads(), caller.orders());
        let mut opportunities = caller.opportunities();
        Ok(match self {
            Self::CreateLead(request) => bytes(leads.create(request).await?),
            Self::UpdateLead(request) => bytes(leads.update(request).await?),
            Self::DeactivateLead(request) => bytes(leads.deactivate(request).await?),
            Self::ReactivateLead(request) => bytes(leads.reactivate(request).await?),
            Self::ConvertLead(request) => bytes(leads.convert(request).await?),
            Self::RevertConversion(request) => bytes(leads.revert_conversion(request).await?),
            Self::CreateOrder(request) => bytes(orders.create(request).await?),
            Self::RunAction(request) => bytes(orders.run_action(request).await?),
            Self::CreateOpportunity(request) => bytes(opportunities.create(request).await?),
            Self::UpdateOpportunity(request) => bytes(opportunities.update(request).await?),
            Self::CloseOpportunity(request) => bytes(opportunities.close(request).await?),
            Self::ReopenOpportunity(request) => bytes(opportunities.reopen(request).await?),
            Self::SkipAction(request) => bytes(orders.skip_action(request).await?),
            Self::UndoSkip(request) => bytes(orders.undo_skip(request).await?),
            Self::CancelOrder(request) => bytes(orders.cancel(request).await?),
            Self::CommentOrder(request) => bytes(orders.comment(request).await?),
            Self::ClaimActions(request) => bytes(orders.claim_actions(request).await?),
            Self::ReportAction(request) => bytes(orders.report_action(request).await?),
            Self::ReleaseAction(request) => bytes(orders.release_action(request).await?),
        })
    }
}

fn external(key: &str) -> OrderAction {
    OrderAction {
        key: key.into(),
        r#type: ActionType::External.into(),
        ..Default::default()
    }
}

/// A claim of this action in the queue `default`.
fn claim(key: &str) -> ClaimActionsRequest {
    ClaimActionsRequest {
        actions: vec![key.into()],
        lease: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..Default::default()
    }
}

/// The id of a claim of the caller's, of an action of this lead.
async fn claimed(caller: &Caller, lead_id: &str, key: &str) -> String {
    let order = caller.create_order(lead_id, vec![external(key)]).await;
    let request = ClaimActionsRequest {
        max: 100,
        ..claim(key)
    };
    let answer = caller.orders().claim_actions(request).await.unwrap();
    let mut runs = answer.into_inner().runs.into_iter();
    runs.find(|run| run.order_id == order.id).unwrap().id
}

fn skip(order_id: String) -> SkipActionRequest {
    SkipActionRequest {
        order_id,
        action: "provision-client".into(),
        ..Default::default()
    }
}

fn bytes(answer: tonic::Response<impl Message>) -> Vec<u8> {
    answer.into_inner().encode_to_vec()
}

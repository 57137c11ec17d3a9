//! The life cycle: every cell of the table of domain rules, through the API.

use leadsmith::core::text_enum::TextEnum as _;
use leadsmith::features::leads::model::{Effect, LeadState, Transition};
use leadsmith_proto::{self as proto, Lead, LeadState as WireState};
use tonic::{Code, Status};

use crate::harness::{Caller, metadata, reason};
use crate::on_both;

const TRANSITIONS: [Transition; 8] = [
    Transition::Update,
    Transition::Deactivate,
    Transition::Reactivate,
    Transition::Convert,
    Transition::ProvisionClient,
    Transition::RevertConversion,
    Transition::Attach,
    Transition::Erase,
];

/// The domain's table, written by hand: the result of each transition in each state.
fn expected(state: LeadState, transition: Transition) -> Result<WireState, &'static str> {
    use {LeadState as S, Transition as T};
    match (state, transition) {
        (_, T::Attach | T::Erase) => Ok(wire(state)),
        (S::Open | S::Deactivated, T::RevertConversion) => Err("LEAD_NOT_CONVERTED"),
        (S::Converted, T::RevertConversion) => Ok(WireState::Open),
        (S::Open, T::Update) => Ok(WireState::Open),
        (S::Open, T::Deactivate) => Ok(WireState::Deactivated),
        (S::Open, T::Reactivate) => Err("LEAD_NOT_DEACTIVATED"),
        (S::Open, T::Convert | T::ProvisionClient) => Ok(WireState::Converted),
        (S::Deactivated, T::Reactivate) => Ok(WireState::Open),
        (S::Deactivated, _) => Err("LEAD_DEACTIVATED"),
        (S::Converted, T::ProvisionClient) => Ok(WireState::Converted),
        (S::Converted, _) => Err("LEAD_CONVERTED"),
    }
}

fn wire(state: LeadState) -> WireState {
    match state {
        LeadState::Open => WireState::Open,
        LeadState::Deactivated => WireState::Deactivated,
        LeadState::Converted => WireState::Converted,
    }
}

fn allowed(state: LeadState) -> &'static str {
    match state {
        LeadState::Open => "Update,Deactivate,Convert",
        LeadState::Deactivated => "Reactivate",
        LeadState::Converted => "RevertConversion",
    }
}

/// A lead in this state.
async fn lead_in(state: LeadState, caller: &Caller) -> Lead {
    let lead = caller.create_lead("Lovelace").await;
    match state {
        LeadState::Open => lead,
        LeadState::Deactivated => caller.deactivate(&lead.id).await.unwrap(),
        LeadState::Converted => caller.convert(&lead.id).await.unwrap().lead.unwrap(),
    }
}

/// The caller is an administrator with [`PASSWORD`]. The order is created before the lead may be erased, because
/// it could not be created afterwards.
async fn attempt(
    transition: Transition,
    lead: &Lead,
    order: &str,
    caller: &Caller,
) -> Result<Lead, Status> {
    match transition {
        Transition::Update => {
            let change = Lead {
                id: lead.id.clone(),
                phone: "1".into(),
                ..Lead::default()
            };
            caller.update(change, &["phone"]).await
        }
        Transition::Deactivate => caller.deactivate(&lead.id).await,
        Transition::Reactivate => caller.reactivate(&lead.id).await,
        Transition::Convert => Ok(caller.convert(&lead.id).await?.lead.unwrap()),
        Transition::ProvisionClient => {
            Ok(caller.run(order, "provision-client").await?.lead.unwrap())
        }
        Transition::RevertConversion => caller.revert(&lead.id).await,
        Transition::Attach => {
            let request = proto::CreateOpportunityRequest {
                opportunity: Some(proto::Opportunity {
                    lead_id: lead.id.clone(),
                    name: "Hosting".into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            caller.opportunities().create(request).await?;
            Ok(caller.get(&lead.id).await)
        }
        Transition::Erase => caller.erase(&lead.id).await,
    }
}

on_both! {
    async fn every_cell_of_the_table(h: Harness) {
        for state in LeadState::ALL {
            for transition in TRANSITIONS {
                let lead = lead_in(*state, &h.sales).await;
                let order = h.sales.create_order(&lead.id, Vec::new()).await;
                let outcome = attempt(transition, &lead, &order.id, &h.admin).await;
                let after = h.sales.get(&lead.id).await;
                match (expected(*state, transition), outcome) {
                    (Ok(state), Ok(answer)) => {
                        assert_eq!(answer.state(), state, "{transition:?}");
                        assert_eq!(after, answer, "the answer is what is stored");
                    }
                    (Err(expected), Err(status)) => {
                        assert_eq!(status.code(), Code::FailedPrecondition);
                        assert_eq!(reason(&status), expected, "{state:?} {transition:?}");
                        assert_eq!(metadata(&status, "current_state"), state.as_str());
                        assert_eq!(metadata(&status, "allowed"), allowed(*state));
                        if *state == LeadState::Converted {
                            assert_eq!(metadata(&status, "client_id"), lead.id);
                        }
                        assert_eq!(after, lead, "a refused call changes nothing");
                    }
                    (expected, outcome) => {
                        panic!("{state:?} {transition:?}: {expected:?}, not {outcome:?}")
                    }
                }
            }
        }
    }

    async fn an_erased_lead_takes_nothing_any_more(h: Harness) {
        for state in LeadState::ALL {
            let lead = lead_in(*state, &h.sales).await;
            let order = h.sales.create_order(&lead.id, Vec::new()).await;
            let erased = h.admin.erase(&lead.id).await.unwrap();
            assert_eq!(erased.state(), wire(*state), "the state stays what it was");
            for transition in TRANSITIONS {
                let outcome = attempt(transition, &lead, &order.id, &h.admin).await;
                let status = outcome.expect_err("it is erased");
                assert_eq!(status.code(), Code::FailedPrecondition);
                assert_eq!(reason(&status), "LEAD_ERASED", "{state:?} {transition:?}");
                assert_eq!(metadata(&status, "current_state"), state.as_str());
                assert_eq!(metadata(&status, "allowed"), "");
                assert_eq!(h.viewer.get(&lead.id).await, erased, "{transition:?}");
            }
        }
    }

    async fn who_converted_whom_and_how(h: Harness) {
        let by_hand = h.sales.create_lead("Hopper").await;
        let answer = h.sales.convert(&by_hand.id).await.unwrap();
        let (lead, client) = (answer.lead.unwrap(), answer.client.unwrap());
        let conversion = lead.conversion.clone().unwrap();
        assert_eq!(client.id, by_hand.id, "the id is for life");
        assert_eq!(client.conversion, lead.conversion);
        assert_eq!(conversion.client_id, by_hand.id);
        assert_eq!(conversion.order_id, "");
        assert_eq!(conversion.trigger().as_str_name(), "CONVERSION_TRIGGER_MANUAL");
        assert_eq!(conversion.actor.unwrap().id, h.sales.id.to_string());
        assert_eq!(conversion.time, lead.update_time);

        let by_order = h.sales.create_lead("Hamilton").await;
        let order = h.sales.create_order(&by_order.id, Vec::new()).await;
        let ran = h.sales.run(&order.id, "provision-client").await.unwrap();
        let conversion = ran.lead.unwrap().conversion.unwrap();
        assert_eq!(conversion.order_id, order.id);
        assert_eq!(conversion.trigger().as_str_name(), "CONVERSION_TRIGGER_ORDER_ACTION");
        assert_eq!(ran.client.unwrap().id, by_order.id);
    }
}

#[test]
fn the_model_is_the_same_table() {
    for state in LeadState::ALL {
        for transition in TRANSITIONS {
            assert_eq!(state.effect(true, transition), Effect::Refused);
            let refused = state.effect(false, transition) == Effect::Refused;
            assert_eq!(
                refused,
                expected(*state, transition).is_err(),
                "{state:?} {transition:?}"
            );
        }
        assert_eq!(state.allowed(true).count(), 0);
        let names: Vec<&str> = state.allowed(false).map(Transition::rpc).collect();
        assert_eq!(names.join(","), allowed(*state));
    }
}

//! Closing and reopening: every cell of the table of domain rules, through the API.

use leadsmith::core::text_enum::TextEnum as _;
use leadsmith::features::opportunities::model::{OpportunityState, Outcome, Transition};
use leadsmith_proto::{
    CloseOpportunityRequest, Opportunity, OpportunityOutcome, OpportunityStage,
    OpportunityState as WireState, ReopenOpportunityRequest,
};
use tonic::{Code, Status};

use super::create_complete;
use crate::harness::{Caller, close, metadata, reason, violations};
use crate::on_both;

const UNKNOWN: &str = "01900000-0000-7000-8000-000000000001";

/// The domain's table, written by hand: the result of each transition in each state.
fn expected(state: OpportunityState, transition: Transition) -> Result<WireState, &'static str> {
    use {OpportunityState as S, Transition as T};
    match (state, transition) {
        (S::Open, T::Update) => Ok(WireState::Open),
        (S::Open, T::Close(Outcome::Won)) => Ok(WireState::Won),
        (S::Open, T::Close(Outcome::Lost)) => Ok(WireState::Lost),
        (S::Open, T::Reopen) => Err("OPPORTUNITY_OPEN"),
        (S::Won | S::Lost, T::Update | T::Close(_)) => Err("OPPORTUNITY_CLOSED"),
        (S::Won | S::Lost, T::Reopen) => Ok(WireState::Open),
    }
}

async fn attempt(transition: Transition, id: &str, caller: &Caller) -> Result<Opportunity, Status> {
    match transition {
        Transition::Update => {
            let change = Opportunity {
                id: id.into(),
                next_step: "Meet".into(),
                ..Opportunity::default()
            };
            caller.update_sale(change, &["next_step"]).await
        }
        Transition::Close(Outcome::Won) => caller.win(id).await,
        Transition::Close(Outcome::Lost) => caller.lose(id, "").await,
        Transition::Reopen => caller.reopen(id).await,
    }
}

on_both! {
    async fn every_cell_of_the_table(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        for state in OpportunityState::ALL {
            for transition in Transition::ALL {
                let sale = create_complete(&h, &lead.id).await;
                let before = match state {
                    OpportunityState::Open => sale,
                    OpportunityState::Won => h.sales.win(&sale.id).await.unwrap(),
                    OpportunityState::Lost => h.sales.lose(&sale.id, "No budget").await.unwrap(),
                };
                let outcome = attempt(transition, &before.id, &h.sales).await;
                let after = h.viewer.get_sale(&before.id).await;
                match (expected(*state, transition), outcome) {
                    (Ok(state), Ok(answer)) => {
                        assert_eq!(answer.state(), state, "{transition:?}");
                        let closed = state != WireState::Open;
                        assert_eq!(answer.stage() == OpportunityStage::Closed, closed);
                        assert_eq!(answer.close.is_some(), closed);
                        assert_eq!(after, answer, "the answer is what is stored");
                    }
                    (Err(expected), Err(status)) => {
                        assert_eq!(status.code(), Code::FailedPrecondition);
                        assert_eq!(reason(&status), expected, "{state:?} {transition:?}");
                        assert_eq!(metadata(&status, "current_state"), state.as_str());
                        let open = *state == OpportunityState::Open;
                        let allowed = if open { "Update,Close" } else { "Reopen" };
                        assert_eq!(metadata(&status, "allowed"), allowed);
                        assert_eq!(metadata(&status, "opportunity_id"), before.id);
                        assert_eq!(after, before, "a refused call changes nothing");
                    }
                    (expected, outcome) => {
                        panic!("{state:?} {transition:?}: {expected:?}, not {outcome:?}")
                    }
                }
            }
        }
    }

    async fn closing_keeps_the_stage_and_reopening_restores_it(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        for stage in [
            OpportunityStage::Contact,
            OpportunityStage::Meeting,
            OpportunityStage::Negotiation,
            OpportunityStage::Buying,
        ] {
            let created = create_complete(&h, &lead.id).await;
            let staged = Opportunity { id: created.id.clone(), stage: stage.into(), ..Opportunity::default() };
            let before = h.sales.update_sale(staged, &["stage"]).await.unwrap();
            let request = CloseOpportunityRequest {
                reason: " No budget\r\nthis year ".into(),
                ..close(&before.id, OpportunityOutcome::Lost)
            };
            let answer = h.admin.opportunities().close(request).await.unwrap();
            let lost = answer.into_inner().opportunity.unwrap();
            let closed = lost.close.clone().unwrap();
            let actor = closed.actor.unwrap();
            assert_eq!((actor.id, actor.name.as_str()), (h.admin.id.to_string(), "admin"));
            assert_eq!(closed.reason, "No budget\nthis year");
            assert_eq!(closed.time, lost.update_time);
            assert_eq!(closed.stage, i32::from(stage));
            let expected = Opportunity {
                state: WireState::Lost.into(),
                stage: OpportunityStage::Closed.into(),
                close: lost.close.clone(),
                etag: lost.etag.clone(),
                update_time: lost.update_time,
                ..before.clone()
            };
            assert_eq!(lost, expected);

            let reopened = h.sales.reopen(&before.id).await.unwrap();
            let expected = Opportunity {
                etag: reopened.etag.clone(),
                update_time: reopened.update_time,
                ..before
            };
            assert_eq!(reopened, expected);
            assert_ne!(reopened.etag, lost.etag);
            assert_eq!(h.viewer.get_sale(&reopened.id).await, reopened);
            // It can be closed again, in another way.
            let won = h.sales.win(&reopened.id).await.unwrap();
            assert_eq!((won.state(), won.close.unwrap().reason.as_str()), (WireState::Won, ""));
        }
    }

    async fn a_closed_one_is_never_resurrected_by_an_edit(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let open = create_complete(&h, &lead.id).await;
        let won = h.sales.win(&open.id).await.unwrap();
        // A client that still has the open one sends all of it.
        let stale = Opportunity { etag: String::new(), ..open.clone() };
        for paths in [&[][..], &["*"], &["stage"], &["next_step"]] {
            let refused = h.sales.update_sale(stale.clone(), paths).await.unwrap_err();
            assert_eq!(reason(&refused), "OPPORTUNITY_CLOSED", "{paths:?}");
        }
        assert_eq!(h.viewer.get_sale(&open.id).await, won);
    }

    async fn an_outcome_is_won_or_lost_and_a_reason_at_most_1000_characters(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        let request = CloseOpportunityRequest {
            id: "1".into(),
            reason: "é".repeat(1_001),
            request_id: "1".into(),
            ..Default::default()
        };
        let refused = h.sales.opportunities().close(request).await.unwrap_err();
        let expected = [
            ("request_id", "must be a UUID of your choice, except the nil and the max UUID, or empty"),
            ("id", "must be the record's id, a UUID"),
            ("outcome", "is required: send WON or LOST"),
            ("reason", "must be at most 1000 characters long"),
        ];
        assert_eq!(violations(&refused), expected.map(|(field, what)| (field.to_owned(), what.to_owned())));
        let request = CloseOpportunityRequest { id: sale.id.clone(), outcome: 3, ..Default::default() };
        let refused = h.sales.opportunities().close(request).await.unwrap_err();
        let expected = ("outcome".to_owned(), "is not one of the enum's values".to_owned());
        assert_eq!(violations(&refused), [expected]);
        let longest = "é".repeat(1_000);
        let lost = h.sales.lose(&sale.id, &longest).await.unwrap();
        assert_eq!(lost.close.unwrap().reason, longest);
        let refused = h.sales.opportunities().reopen(ReopenOpportunityRequest::default()).await.unwrap_err();
        assert_eq!(violations(&refused)[0].0, "id");
    }

    async fn the_first_thing_wrong_is_the_one_reported(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        for closed in [true, false] {
            let mut seen = Vec::new();
            for (caller, id, etag) in [
                (&h.with_token(""), "1", "9"),
                (&h.viewer, "1", "9"),
                (&h.sales, "1", "9"),
                (&h.sales, UNKNOWN, "9"),
                (&h.sales, &sale.id, "9"),
                (&h.sales, &sale.id, ""),
            ] {
                let mut calls = caller.opportunities();
                let refused = if closed {
                    let request = CloseOpportunityRequest {
                        etag: etag.into(),
                        ..close(id, OpportunityOutcome::Won)
                    };
                    calls.close(request).await.map(|_| ())
                } else {
                    let request = ReopenOpportunityRequest {
                        id: id.into(),
                        etag: etag.into(),
                        ..Default::default()
                    };
                    calls.reopen(request).await.map(|_| ())
                };
                if !closed || id != sale.id || !etag.is_empty() {
                    seen.push(reason(&refused.unwrap_err()));
                } else {
                    refused.unwrap();
                    let again = caller.win(id).await.unwrap_err();
                    seen.push(reason(&again));
                    caller.reopen(id).await.unwrap();
                }
            }
            let last = if closed { "OPPORTUNITY_CLOSED" } else { "OPPORTUNITY_OPEN" };
            let expected = [
                "TOKEN_INVALID",
                "ROLE_INSUFFICIENT",
                "FIELD_INVALID",
                "OPPORTUNITY_NOT_FOUND",
                "ETAG_MISMATCH",
                last,
            ];
            assert_eq!(seen, expected);
        }
    }
}

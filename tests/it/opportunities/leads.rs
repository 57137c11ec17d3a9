//! Opportunities and the life of their lead: they stay with it, and each changes without the other.

use leadsmith_proto::{LeadState, ListOpportunitiesRequest, Opportunity};
use tonic::Code;

use super::{create_complete, raw_rows};
use crate::harness::{Caller, metadata, reason};
use crate::on_both;

async fn listed(caller: &Caller, lead_id: &str) -> Vec<Opportunity> {
    let request = ListOpportunitiesRequest {
        lead_id: lead_id.into(),
        states: vec![1, 2, 3],
        ..Default::default()
    };
    let answer = caller.opportunities().list(request).await.unwrap();
    answer.into_inner().opportunities
}

on_both! {
    async fn no_transition_of_the_lead_touches_a_row_of_its_opportunities(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let open = create_complete(&h, &lead.id).await;
        let won = create_complete(&h, &lead.id).await;
        h.sales.win(&won.id).await.unwrap();
        let lost = h.sales.create_sale(&lead.id, "Backup").await;
        h.sales.lose(&lost.id, "No budget").await.unwrap();
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let rows = raw_rows(&h).await;
        assert_eq!(rows.len(), 3 + 5 + 5);

        h.sales.deactivate(&lead.id).await.unwrap();
        assert_eq!(raw_rows(&h).await, rows, "Deactivate");
        h.sales.reactivate(&lead.id).await.unwrap();
        assert_eq!(raw_rows(&h).await, rows, "Reactivate");
        h.sales.run(&order.id, "provision-client").await.unwrap();
        assert_eq!(raw_rows(&h).await, rows, "RunAction");
        assert_eq!(listed(&h.viewer, &lead.id).await.len(), 3);

        let other = h.sales.create_lead("Hopper").await;
        h.sales.create_sale(&other.id, "Compiler").await;
        let rows = raw_rows(&h).await;
        h.sales.convert(&other.id).await.unwrap();
        assert_eq!(raw_rows(&h).await, rows, "Convert");
        assert_eq!(h.viewer.get_sale(&open.id).await, Opportunity { lead_state: 3, ..open });
    }

    async fn they_are_edited_closed_and_reopened_in_any_state_of_the_lead(h: Harness) {
        for state in [LeadState::Open, LeadState::Deactivated, LeadState::Converted] {
            let lead = h.sales.create_lead("Lovelace").await;
            let sale = create_complete(&h, &lead.id).await;
            let lead = match state {
                LeadState::Deactivated => h.sales.deactivate(&lead.id).await.unwrap(),
                LeadState::Converted => h.sales.convert(&lead.id).await.unwrap().lead.unwrap(),
                LeadState::Open | LeadState::Unspecified => lead,
            };
            let change = Opportunity { id: sale.id.clone(), name: "Backup".into(), ..Opportunity::default() };
            let answers = [
                h.sales.update_sale(change, &["name"]).await.unwrap(),
                h.sales.win(&sale.id).await.unwrap(),
                h.sales.reopen(&sale.id).await.unwrap(),
                h.sales.lose(&sale.id, "No budget").await.unwrap(),
                h.viewer.get_sale(&sale.id).await,
                listed(&h.viewer, &lead.id).await.remove(0),
                h.sales.create_sale(&lead.id, "Hosting").await,
            ];
            for answer in answers {
                assert_eq!((answer.lead_display_name.as_str(), answer.lead_state()), ("Lovelace", state));
            }
            assert_eq!(h.viewer.get(&lead.id).await, lead, "the lead is untouched");
        }
    }

    async fn the_display_name_is_that_of_the_lead_as_it_is(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        let renamed = leadsmith_proto::Lead { id: lead.id.clone(), first_name: "Ada".into(), ..Default::default() };
        h.sales.update(renamed, &["first_name"]).await.unwrap();
        let expected = Opportunity { lead_display_name: "Ada Lovelace".into(), ..sale.clone() };
        assert_eq!(h.viewer.get_sale(&sale.id).await, expected);
        assert_eq!(h.sales.win(&sale.id).await.unwrap().lead_display_name, "Ada Lovelace");
    }

    async fn those_of_an_erased_lead_are_final(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let open = create_complete(&h, &lead.id).await;
        let closed = create_complete(&h, &lead.id).await;
        h.sales.lose(&closed.id, "Ada left").await.unwrap();
        h.admin.erase(&lead.id).await.unwrap();
        let (open, closed) = (h.viewer.get_sale(&open.id).await, h.viewer.get_sale(&closed.id).await);
        assert_eq!((open.name.as_str(), open.stage), ("", 3));
        let close = closed.close.clone().unwrap();
        assert_eq!((close.reason.as_str(), close.stage, closed.state), ("", 3, 3));
        assert_eq!(close.actor.unwrap().id, h.sales.id.to_string());
        let change = Opportunity { id: open.id.clone(), name: "Backup".into(), ..Opportunity::default() };
        let rows = raw_rows(&h).await;
        for refused in [
            h.sales.update_sale(change, &["name"]).await.unwrap_err(),
            h.sales.win(&open.id).await.unwrap_err(),
            h.sales.reopen(&open.id).await.unwrap_err(),
            h.sales.lose(&closed.id, "").await.unwrap_err(),
            h.sales.reopen(&closed.id).await.unwrap_err(),
        ] {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "LEAD_ERASED"));
            assert_eq!(metadata(&refused, "lead_id"), lead.id);
            assert_eq!(metadata(&refused, "allowed"), "");
        }
        assert_eq!(raw_rows(&h).await, rows);
        // Its history keeps who did what, and the states and stages.
        let entries = h.viewer.sale_history(&closed.id).await;
        let of_close = &entries[1];
        assert_eq!(of_close.rpc, "leadsmith.v1.OpportunityService/Close");
        let values: Vec<[&str; 3]> = of_close
            .changes
            .iter()
            .map(|change| [change.field.as_str(), change.old_value.as_str(), change.new_value.as_str()])
            .collect();
        let expected = [["state", "OPEN", "LOST"], ["close.reason", "", ""], ["stage", "NEGOTIATION", "CLOSED"]];
        assert_eq!(values, expected);
    }
}

//! `validate_only`: every check, no effect.

use leadsmith_proto::{
    CloseOpportunityRequest, Opportunity, OpportunityOutcome, OpportunityStage,
    ReopenOpportunityRequest, UpdateOpportunityRequest,
};

use super::{create_complete, raw_rows};
use crate::harness::{close, reason, sale_update};
use crate::on_both;

const REQUEST_ID: &str = "5d6f52a5-8a3f-4b0c-9c61-6a0f0a4c2f11";

on_both! {
    async fn an_update_a_closing_and_a_reopening_that_are_only_checked(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let sale = create_complete(&h, &lead.id).await;
        let change = Opportunity { id: sale.id.clone(), name: "Backup".into(), ..Opportunity::default() };
        let update = UpdateOpportunityRequest {
            request_id: REQUEST_ID.into(),
            validate_only: true,
            ..sale_update(change, &["name"])
        };
        let closing = CloseOpportunityRequest {
            reason: "No budget".into(),
            request_id: REQUEST_ID.into(),
            validate_only: true,
            ..close(&sale.id, OpportunityOutcome::Lost)
        };
        let reopening = ReopenOpportunityRequest {
            id: sale.id.clone(),
            request_id: REQUEST_ID.into(),
            validate_only: true,
            ..Default::default()
        };
        let mut calls = h.sales.opportunities();

        let rows = raw_rows(&h).await;
        let answer = calls.update(update.clone()).await.unwrap().into_inner().opportunity.unwrap();
        assert_eq!(answer, Opportunity { name: "Backup".into(), ..sale.clone() });
        let answer = calls.close(closing.clone()).await.unwrap().into_inner().opportunity.unwrap();
        let closed = answer.close.clone().unwrap();
        assert_eq!((closed.reason.as_str(), closed.stage), ("No budget", sale.stage));
        let expected = Opportunity {
            state: 3,
            stage: OpportunityStage::Closed.into(),
            close: answer.close.clone(),
            ..sale.clone()
        };
        assert_eq!(answer, expected);
        let refused = calls.reopen(reopening.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), "OPPORTUNITY_OPEN");
        assert_eq!(raw_rows(&h).await, rows);

        let won = h.sales.win(&sale.id).await.unwrap();
        let rows = raw_rows(&h).await;
        for refused in [
            calls.update(update).await.map(|_| ()).unwrap_err(),
            calls.close(closing).await.map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(reason(&refused), "OPPORTUNITY_CLOSED");
        }
        let answer = calls.reopen(reopening.clone()).await.unwrap().into_inner().opportunity.unwrap();
        let expected = Opportunity { etag: won.etag.clone(), update_time: won.update_time, ..sale.clone() };
        assert_eq!(answer, expected);
        assert_eq!(raw_rows(&h).await, rows);
        assert_eq!(h.viewer.get_sale(&sale.id).await, won);

        // The request id is still unused.
        let request = ReopenOpportunityRequest { validate_only: false, ..reopening };
        calls.reopen(request).await.unwrap();
    }
}

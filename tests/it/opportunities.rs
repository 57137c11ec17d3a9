//! Opportunities: their stored values.

use leadsmith_proto::{
    CreateOpportunityRequest, GetOpportunityRequest, ListOpportunitiesRequest, Opportunity,
};
use sea_orm::ConnectionTrait;

use crate::harness::{Caller, violations};
use crate::on_both;

fn sale(lead_id: &str, probability: Option<i32>) -> CreateOpportunityRequest {
    let opportunity = Opportunity {
        lead_id: lead_id.into(),
        name: "Hosting".into(),
        probability,
        ..Opportunity::default()
    };
    CreateOpportunityRequest {
        opportunity: Some(opportunity),
        ..Default::default()
    }
}

async fn create(caller: &Caller, request: CreateOpportunityRequest) -> Opportunity {
    let answer = caller.opportunities().create(request).await.unwrap();
    answer.into_inner().opportunity.unwrap()
}

async fn get(caller: &Caller, id: &str) -> Opportunity {
    let request = GetOpportunityRequest { id: id.into() };
    let answer = caller.opportunities().get(request).await.unwrap();
    answer.into_inner().opportunity.unwrap()
}

on_both! {
    async fn a_probability_of_0_is_not_an_absent_one(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let given = [None, Some(0), Some(1), Some(100)];
        for probability in given {
            let request = sale(&lead.id, probability);
            let checked = CreateOpportunityRequest { validate_only: true, ..request.clone() };
            assert_eq!(create(&h.sales, checked).await.probability, probability);
            let created = create(&h.sales, request).await;
            assert_eq!(created.probability, probability);
            assert_eq!(get(&h.viewer, &created.id).await, created);
        }
        let listed = h.viewer.opportunities().list(ListOpportunitiesRequest::default()).await.unwrap();
        let listed: Vec<_> = listed.into_inner().opportunities.iter().rev().map(|sale| sale.probability).collect();
        assert_eq!(listed, given);
        for wrong in [-1, 101] {
            let refused = h.sales.opportunities().create(sale(&lead.id, Some(wrong))).await.unwrap_err();
            assert_eq!(violations(&refused)[0].0, "opportunity.probability");
        }
    }

    async fn a_probability_that_the_version_before_wrote_is_kept(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let db = h.database.connect().await;
        for (given, stored, read) in [(Some(40), 40, Some(40)), (None, 0, None), (Some(0), 0, None)] {
            let created = create(&h.sales, sale(&lead.id, given)).await;
            // That version reads one column, which always contains a number, and writes no other.
            let newest = "WHERE id = (SELECT id FROM opportunities ORDER BY id DESC LIMIT 1)";
            let number = format!("SELECT CAST(probability AS bigint) FROM opportunities {newest}");
            assert_eq!(h.count(&number).await, stored);
            let set = format!("UPDATE opportunities SET win_probability = NULL {newest}");
            assert_eq!(db.execute_unprepared(&set).await.unwrap().rows_affected(), 1);
            assert_eq!(get(&h.viewer, &created.id).await.probability, read);
        }
    }
}

//! Opportunities: their stored values, and what the tests of their RPCs share.

mod closing;
mod dry_runs;
mod history;
mod leads;
mod masks;
mod races;
mod updates;
mod values;

use leadsmith_proto::{
    CreateOpportunityRequest, ListOpportunitiesRequest, Money, Opportunity, OpportunityStage,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

use crate::harness::{Backend, Caller, Harness, violations};
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

/// An opportunity that has a value in every field, owned by this operator.
fn complete(lead_id: &str, owner: &str) -> Opportunity {
    Opportunity {
        lead_id: lead_id.into(),
        name: "Hosting".into(),
        stage: OpportunityStage::Negotiation.into(),
        amount: Some(Money {
            currency_code: "EUR".into(),
            units: 4_800,
            nanos: 500_000_000,
        }),
        probability: Some(40),
        expected_close_date: "2027-03-31".into(),
        owner_id: owner.into(),
        next_step: "Call back".into(),
        description: "Two racks".into(),
        ..Opportunity::default()
    }
}

/// Creates an opportunity that has a value in every field.
async fn create_complete(h: &Harness, lead_id: &str) -> Opportunity {
    let request = CreateOpportunityRequest {
        opportunity: Some(complete(lead_id, &h.sales.id.to_string())),
        ..Default::default()
    };
    create(&h.sales, request).await
}

/// Every row of the opportunities and of what was recorded of them, as the database stores it.
async fn raw_rows(h: &Harness) -> Vec<String> {
    let db = h.database.connect().await;
    let mut rows = Vec::new();
    for (table, condition) in [
        ("opportunities", "TRUE"),
        ("history", "subject = 'OPPORTUNITY'"),
        ("events", "type LIKE 'opportunity.%'"),
    ] {
        let row = match h.database.backend {
            // The number of the transaction that wrote the row, and its place, show a write of the same values.
            Backend::Postgres => "concat_ws(' ', t.xmin, t.ctid, t)".to_owned(),
            Backend::Sqlite => {
                let quoted = format!(
                    "SELECT group_concat('quote(' || name || ')', ' || '' '' || ') \
                     FROM pragma_table_info('{table}')"
                );
                text(&db, &quoted).await.concat()
            }
        };
        let sql = format!("SELECT {row} FROM {table} AS t WHERE {condition} ORDER BY 1");
        rows.extend(text(&db, &sql).await);
    }
    db.close().await.unwrap();
    rows
}

/// The first column of every row of a query.
async fn text(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(db.get_database_backend(), sql.to_owned());
    let rows = db.query_all_raw(statement).await.unwrap();
    let rows = rows.iter().map(|row| row.try_get_by_index(0).unwrap());
    rows.collect()
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
            assert_eq!(h.viewer.get_sale(&created.id).await, created);
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
            assert_eq!(h.viewer.get_sale(&created.id).await.probability, read);
        }
    }

    async fn what_the_version_before_closed_is_reopened_in_the_first_stage(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let created = create_complete(&h, &lead.id).await;
        let lost = h.sales.lose(&created.id, "No budget").await.unwrap();
        // That version does not know the column of the stage that an opportunity had.
        let db = h.database.connect().await;
        let set = "UPDATE opportunities SET close_stage = NULL";
        assert_eq!(db.execute_unprepared(set).await.unwrap().rows_affected(), 1);
        let mut expected = lost.clone();
        expected.close.as_mut().unwrap().stage = OpportunityStage::Contact.into();
        assert_eq!(h.viewer.get_sale(&created.id).await, expected);
        let reopened = h.sales.reopen(&created.id).await.unwrap();
        assert_eq!(reopened.stage(), OpportunityStage::Contact);
    }
}

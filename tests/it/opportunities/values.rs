//! OpportunityService.Create: accepted and rejected values of an opportunity.

use leadsmith::core::role::Role;
use leadsmith_proto::{CreateOpportunityRequest, Opportunity, OpportunityStage};
use tonic::Status;

use crate::harness::{Caller, violations};
use crate::on_both;

async fn create(caller: &Caller, opportunity: Opportunity) -> Result<Opportunity, Status> {
    let request = CreateOpportunityRequest {
        opportunity: Some(opportunity),
        ..Default::default()
    };
    let answer = caller.opportunities().create(request).await?;
    Ok(answer.into_inner().opportunity.unwrap())
}

/// An opportunity of a lead with only a name.
fn of(lead_id: &str) -> Opportunity {
    Opportunity {
        lead_id: lead_id.into(),
        name: "Hosting".into(),
        ..Opportunity::default()
    }
}

on_both! {
    async fn a_date_is_a_day_of_the_years_1_to_9999(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        for date in ["0001-01-01", "2024-02-29", "9999-12-31", ""] {
            let given = Opportunity { expected_close_date: date.into(), ..of(&lead.id) };
            assert_eq!(create(&h.sales, given).await.unwrap().expected_close_date, date);
        }
        for date in [
            "0000-01-01", "-001-01-01", "+99999-1-1", "+2024-1-01", "2026- 1- 2", "2026-1-2",
            "2026-02-29", "2026-13-01", "2026-00-01", "2026-04-31", " 2026-01-02", "2026-01-02 ",
            "10000-01-01", "20260102", "2026-01-02T00:00:00Z", "today", " ",
        ] {
            let given = Opportunity { expected_close_date: date.into(), ..of(&lead.id) };
            let refused = create(&h.sales, given).await.unwrap_err();
            let expected = (
                "opportunity.expected_close_date".to_owned(),
                "must be a date as YYYY-MM-DD, from 0001-01-01 to 9999-12-31, or empty".to_owned(),
            );
            assert_eq!(violations(&refused), [expected], "{date:?}");
        }
    }

    async fn a_new_opportunity_is_open_so_its_stage_is_not_closed(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let given = |stage: OpportunityStage| Opportunity { stage: stage.into(), ..of(&lead.id) };
        for stage in [
            OpportunityStage::Contact,
            OpportunityStage::Meeting,
            OpportunityStage::Negotiation,
            OpportunityStage::Buying,
        ] {
            assert_eq!(create(&h.sales, given(stage)).await.unwrap().stage(), stage);
        }
        let refused = create(&h.sales, given(OpportunityStage::Closed)).await.unwrap_err();
        let expected = (
            "opportunity.stage".to_owned(),
            "must not be CLOSED: a new opportunity is open, so send the stage that it has reached".to_owned(),
        );
        assert_eq!(violations(&refused), [expected]);
    }

    async fn its_texts_show_something_and_its_lines_end_in_line_feeds(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        for name in ["", " ", "\u{200b}", "\u{3164}", "\u{2800}\u{feff}"] {
            let refused = create(&h.sales, Opportunity { name: name.into(), ..of(&lead.id) }).await;
            let expected = ("opportunity.name".to_owned(), "is required".to_owned());
            assert_eq!(violations(&refused.unwrap_err()), [expected], "{name:?}");
        }
        let given = Opportunity {
            description: "one\r\ntwo\rthree\r\n".into(),
            next_step: "\u{200b}".into(),
            ..of(&lead.id)
        };
        let created = create(&h.sales, given).await.unwrap();
        assert_eq!((created.description.as_str(), created.next_step.as_str()), ("one\ntwo\nthree", ""));
        for control in ['\0', '\u{1b}', '\u{85}'] {
            let text = format!("a{control}b");
            let given = Opportunity {
                name: text.clone(),
                next_step: text.clone(),
                description: text,
                ..of(&lead.id)
            };
            let fields: Vec<String> = violations(&create(&h.sales, given).await.unwrap_err())
                .into_iter()
                .map(|(field, _)| field)
                .collect();
            let expected = ["name", "next_step", "description"].map(|name| format!("opportunity.{name}"));
            assert_eq!(fields, expected);
        }
    }

    async fn its_owner_is_an_enabled_operator(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let ada = h.operator("ada", Role::Sales).await.id.to_string();
        let given = |owner: &str| Opportunity { owner_id: owner.into(), ..of(&lead.id) };
        let owned = create(&h.sales, given(&ada)).await.unwrap();
        h.console().disable_operator("ada").await.unwrap();
        for (owner, problem) in [
            (ada.as_str(), "is the id of a disabled operator: choose an enabled operator"),
            (lead.id.as_str(), "is not the id of an operator"),
        ] {
            let refused = create(&h.sales, given(owner)).await.unwrap_err();
            let expected = ("opportunity.owner_id".to_owned(), problem.to_owned());
            assert_eq!(violations(&refused), [expected]);
        }
        assert_eq!(owned.owner_id, ada);
    }

    async fn the_nil_uuid_is_no_id(h: Harness) {
        let nil = uuid::Uuid::nil().to_string();
        let refused = create(&h.sales, Opportunity { owner_id: nil.clone(), ..of(&nil) }).await;
        let fields: Vec<String> = violations(&refused.unwrap_err())
            .into_iter()
            .map(|(field, _)| field)
            .collect();
        assert_eq!(fields, ["opportunity.lead_id", "opportunity.owner_id"]);
    }
}

//! OpportunityService.Update: which fields a mask names.

use leadsmith_proto::{Money, Opportunity, OpportunityStage};

use super::create_complete;
use crate::harness::violations;
use crate::on_both;

/// All fields that Update can change.
const FIELDS: [&str; 8] = [
    "name",
    "stage",
    "amount",
    "probability",
    "expected_close_date",
    "owner_id",
    "next_step",
    "description",
];

/// An opportunity with another value in every field.
fn changed(id: &str, owner: &str) -> Opportunity {
    Opportunity {
        id: id.into(),
        name: "Backup".into(),
        stage: OpportunityStage::Buying.into(),
        amount: Some(Money {
            currency_code: "USD".into(),
            units: 1,
            nanos: 10_000_000,
        }),
        probability: Some(0),
        expected_close_date: "2027-12-01".into(),
        owner_id: owner.into(),
        next_step: "Send the offer".into(),
        description: "One rack".into(),
        ..Opportunity::default()
    }
}

/// Copies a field.
fn copy(field: &str, from: &Opportunity, to: &mut Opportunity) {
    match field {
        "name" => to.name.clone_from(&from.name),
        "stage" => to.stage = from.stage,
        "amount" => to.amount.clone_from(&from.amount),
        "probability" => to.probability = from.probability,
        "expected_close_date" => to.expected_close_date.clone_from(&from.expected_close_date),
        "owner_id" => to.owner_id.clone_from(&from.owner_id),
        "next_step" => to.next_step.clone_from(&from.next_step),
        "description" => to.description.clone_from(&from.description),
        field => panic!("{field} is no field"),
    }
}

on_both! {
    async fn only_what_a_mask_names_changes(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let mut before = create_complete(&h, &lead.id).await;
        let change = changed(&before.id, &h.admin.id.to_string());
        for field in FIELDS {
            let after = h.sales.update_sale(change.clone(), &[field]).await.unwrap();
            let mut expected = before.clone();
            copy(field, &change, &mut expected);
            assert_ne!((&after.etag, &after.update_time), (&before.etag, &before.update_time));
            expected.etag.clone_from(&after.etag);
            expected.update_time = after.update_time;
            assert_eq!(after, expected, "{field}");
            assert_eq!(h.viewer.get_sale(&before.id).await, after);
            before = after;
        }
        assert_eq!(before.etag, "\"9\"");
    }

    async fn without_a_mask_every_populated_field_changes(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        for field in FIELDS {
            let before = create_complete(&h, &lead.id).await;
            let change = changed(&before.id, &h.admin.id.to_string());
            let mut sent = Opportunity { id: before.id.clone(), ..Opportunity::default() };
            copy(field, &change, &mut sent);
            // What Update cannot change is ignored.
            sent.lead_id = h.sales.id.to_string();
            sent.state = 3;
            sent.lead_display_name = "Hopper".into();
            let after = h.sales.update_sale(sent, &[]).await.unwrap();
            let mut expected = before.clone();
            copy(field, &change, &mut expected);
            expected.etag.clone_from(&after.etag);
            expected.update_time = after.update_time;
            assert_eq!(after, expected, "{field}");
        }
        // What shows nothing is not populated.
        let before = create_complete(&h, &lead.id).await;
        let sent = Opportunity {
            id: before.id.clone(),
            name: " ".into(),
            next_step: "\u{200b}".into(),
            description: "\u{2800}".into(),
            ..Opportunity::default()
        };
        assert_eq!(h.sales.update_sale(sent, &[]).await.unwrap(), before);
    }

    async fn a_star_replaces_every_field(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let before = create_complete(&h, &lead.id).await;
        let sent = Opportunity {
            id: before.id.clone(),
            name: "Backup".into(),
            stage: OpportunityStage::Meeting.into(),
            ..Opportunity::default()
        };
        for paths in [&["*"][..], &["name", "*", "stage"]] {
            let after = h.sales.update_sale(sent.clone(), paths).await.unwrap();
            let expected = Opportunity {
                lead_id: lead.id.clone(),
                state: 1,
                etag: "\"2\"".into(),
                create_time: before.create_time,
                update_time: after.update_time,
                lead_display_name: "Lovelace".into(),
                lead_state: 1,
                ..sent.clone()
            };
            assert_eq!(after, expected);
        }
        let empty = Opportunity { id: before.id, ..Opportunity::default() };
        let refused = h.sales.update_sale(empty, &["*"]).await.unwrap_err();
        let expected = [
            ("opportunity.name", "is required"),
            ("opportunity.stage", "is required: send the stage that the opportunity has reached"),
        ];
        assert_eq!(violations(&refused), expected.map(|(field, what)| (field.to_owned(), what.to_owned())));
    }

    async fn a_named_field_without_a_value_is_cleared(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let before = create_complete(&h, &lead.id).await;
        let nothing = Opportunity { id: before.id.clone(), ..Opportunity::default() };
        let cleared = ["amount", "probability", "expected_close_date", "owner_id", "next_step", "description"];
        let after = h.sales.update_sale(nothing.clone(), &cleared).await.unwrap();
        let mut expected = before.clone();
        for field in cleared {
            copy(field, &nothing, &mut expected);
        }
        expected.etag = "\"2\"".into();
        expected.update_time = after.update_time;
        assert_eq!(after, expected);
        assert_eq!(h.viewer.get_sale(&before.id).await, after);
    }

    async fn what_a_mask_leaves_out_is_not_even_looked_at(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let before = create_complete(&h, &lead.id).await;
        let sent = Opportunity {
            id: before.id.clone(),
            name: "x".repeat(201),
            stage: OpportunityStage::Closed.into(),
            amount: Some(Money::default()),
            probability: Some(101),
            expected_close_date: "soon".into(),
            owner_id: "ada".into(),
            next_step: "Meet".into(),
            ..Opportunity::default()
        };
        let after = h.sales.update_sale(sent, &["next_step"]).await.unwrap();
        assert_eq!((after.next_step.as_str(), after.name.as_str()), ("Meet", "Hosting"));
    }

    async fn a_path_that_cannot_be_updated_is_named_with_what_to_do(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let before = create_complete(&h, &lead.id).await;
        let fields = "name, stage, amount, probability, expected_close_date, owner_id, next_step and description";
        let only = format!("which Update cannot change: it changes {fields}");
        let unknown = format!("which is not a field: name {fields}");
        let by_rpc = "which only Close and Reopen can change: call one of these RPCs";
        for (path, problem) in [
            ("id", only.as_str()),
            ("etag", &only),
            ("create_time", &only),
            ("update_time", &only),
            ("lead_display_name", &only),
            ("lead_state", &only),
            ("lead_id", "which never changes: create another opportunity for another lead"),
            ("state", by_rpc),
            ("close", by_rpc),
            ("close.reason", by_rpc),
            ("amount.units", "a part of a field that is set as a whole: name amount"),
            ("nonsense", &unknown),
            ("Name", &unknown),
            ("", &unknown),
        ] {
            let sent = Opportunity { id: before.id.clone(), name: "Backup".into(), ..Opportunity::default() };
            let refused = h.sales.update_sale(sent, &["name", path]).await.unwrap_err();
            let expected = ("update_mask.paths[1]".to_owned(), format!("is {path:?}, {problem}"));
            assert_eq!(violations(&refused), [expected], "{path}");
        }
        let paths = ["name"; 65];
        let sent = Opportunity { id: before.id.clone(), name: "Backup".into(), ..Opportunity::default() };
        let refused = h.sales.update_sale(sent, &paths).await.unwrap_err();
        assert_eq!(violations(&refused)[0].0, "update_mask.paths");
        assert_eq!(h.viewer.get_sale(&before.id).await, before);
    }
}

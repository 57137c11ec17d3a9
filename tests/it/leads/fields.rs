//! The limits of a lead's texts, and all violations in one error.

use leadsmith::features::leads::model::FIELDS;
use leadsmith_proto::{self as proto, Lead, LeadState};
use tonic::Code;
use uuid::Uuid;

use super::{complete, edit, named};
use crate::harness::{Caller, violations};
use crate::on_both;

const CONTROL: &str = "must not contain control characters other than tab and newline";

/// The texts that are limited only in length, as in the domain's table.
const LIMITS: [(&str, usize); 11] = [
    ("first_name", 200),
    ("last_name", 200),
    ("company", 200),
    ("phone", 32),
    ("fax", 32),
    ("vat_id", 32),
    ("address.street", 500),
    ("address.city", 100),
    ("address.region", 100),
    ("address.postal_code", 20),
    ("source", 100),
];

fn text<'a>(lead: &'a mut Lead, path: &str) -> &'a mut String {
    match path {
        "first_name" => &mut lead.first_name,
        "last_name" => &mut lead.last_name,
        "company" => &mut lead.company,
        "email" => &mut lead.email,
        "phone" => &mut lead.phone,
        "fax" => &mut lead.fax,
        "vat_id" => &mut lead.vat_id,
        "language" => &mut lead.language,
        "owner_id" => &mut lead.owner_id,
        "source" => &mut lead.source,
        path => {
            let address = lead.address.get_or_insert_default();
            match path {
                "address.street" => &mut address.street,
                "address.city" => &mut address.city,
                "address.region" => &mut address.region,
                "address.postal_code" => &mut address.postal_code,
                "address.country_code" => &mut address.country_code,
                path => panic!("{path} is not a text of a lead"),
            }
        }
    }
}

fn with(path: &str, value: &str) -> Lead {
    // A lead needs a name. With a company, the test may clear the last name.
    let mut lead = Lead {
        company: "Analytical Engines".into(),
        ..named()
    };
    value.clone_into(text(&mut lead, path));
    lead
}

pub async fn accepted(caller: &Caller, path: &str, value: &str) {
    let mut created = caller
        .create(with(path, value))
        .await
        .unwrap_or_else(|status| panic!("{path} {value:?}: {status:?}"));
    assert_eq!(text(&mut created, path), value);
    assert_eq!(caller.get(&created.id).await, created);
}

/// The violation for a lead with this single invalid field.
pub async fn problems(caller: &Caller, path: &str, value: &str) -> Vec<String> {
    let Err(status) = caller.create(with(path, value)).await else {
        panic!("{path} took {value:?}");
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut problems = Vec::new();
    for (field, problem) in violations(&status) {
        assert_eq!(field, format!("lead.{path}"), "{value:?}");
        problems.push(problem);
    }
    problems
}

pub fn custom(key: &str, value: &str) -> Lead {
    let mut lead = named();
    lead.custom_fields.insert(key.into(), value.into());
    lead
}

on_both! {
    async fn every_field_comes_back_without_the_blank_at_its_ends(h: Harness) {
        let owner = h.viewer.id.to_string();
        let expected = complete(&owner);
        let mut given = expected.clone();
        for field in FIELDS {
            let text = text(&mut given, field.path);
            *text = format!(" \t\n{text}\n \u{a0}");
        }
        let created = h.sales.create(given).await.unwrap();

        let id = Uuid::try_parse(&created.id).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(created.id, id.to_string(), "lower case, with hyphens");
        let time = created.create_time.unwrap();
        assert_eq!(time.nanos % 1000, 0, "to the microsecond");
        let expected = Lead {
            id: created.id.clone(),
            state: LeadState::Open.into(),
            etag: "\"1\"".into(),
            create_time: Some(time),
            update_time: Some(time),
            ..expected
        };
        assert_eq!(created, expected);
        assert_eq!(h.viewer.get(&created.id).await, expected);
        assert_eq!(
            h.viewer.get(&created.id.to_uppercase()).await,
            expected,
            "an id is found in any letter case"
        );
    }

    async fn output_only_fields_of_a_new_lead_are_ignored(h: Harness) {
        let given = Lead {
            id: "what I like".into(),
            etag: "\"7\"".into(),
            state: LeadState::Converted.into(),
            create_time: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            update_time: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            deactivation: Some(proto::Deactivation::default()),
            conversion: Some(proto::Conversion::default()),
            ..named()
        };
        let created = h.sales.create(given).await.unwrap();
        assert!(Uuid::try_parse(&created.id).is_ok());
        assert_eq!(created.etag, "\"1\"");
        assert_eq!(created.state(), LeadState::Open);
        assert!(created.create_time.unwrap().seconds > 1);
        assert_eq!(created.update_time, created.create_time);
        assert_eq!((created.deactivation, created.conversion), (None, None));
    }

    async fn a_text_is_measured_in_characters(h: Harness) {
        for (path, limit) in LIMITS {
            accepted(&h.sales, path, &"𝄞".repeat(limit)).await;
            assert_eq!(
                problems(&h.sales, path, &"𝄞".repeat(limit + 1)).await,
                [format!("must be at most {limit} characters long")]
            );
        }
    }

    async fn no_text_takes_control_characters(h: Harness) {
        for field in FIELDS {
            for control in ['\0', '\u{1b}', '\u{7f}', '\u{85}'] {
                let problems = problems(&h.sales, field.path, &format!("a{control}b")).await;
                assert!(
                    problems.iter().any(|problem| problem == CONTROL),
                    "{} took {control:?}: {problems:?}",
                    field.path
                );
            }
        }
        for path in ["last_name", "address.street", "source"] {
            accepted(&h.sales, path, "one\ttwo\nthree").await;
        }
        let refused = h.sales.create(custom("note", "a\0b")).await.unwrap_err();
        assert_eq!(
            violations(&refused),
            [("lead.custom_fields[note]".to_owned(), CONTROL.to_owned())]
        );
    }

    async fn a_lead_has_a_name(h: Harness) {
        let nameless = [(
            "lead".to_owned(),
            "requires a name: set at least one of first_name, last_name and company".to_owned(),
        )];
        let refused = h.sales.create(Lead::default()).await.unwrap_err();
        assert_eq!(violations(&refused), nameless);
        let blank = Lead {
            first_name: " ".into(),
            company: "\n".into(),
            ..Lead::default()
        };
        let refused = h.sales.create(blank).await.unwrap_err();
        assert_eq!(violations(&refused), nameless);
        for path in ["first_name", "last_name", "company"] {
            let mut lead = Lead::default();
            *text(&mut lead, path) = "Ada".into();
            h.sales.create(lead).await.unwrap();
        }
        let lead = h.sales.create_lead("Hopper").await;
        let refused = h
            .sales
            .update(edit(&lead.id, |_| {}), &["last_name"])
            .await
            .unwrap_err();
        assert_eq!(violations(&refused), nameless);
        assert_eq!(h.sales.get(&lead.id).await, lead);
        let renamed = edit(&lead.id, |lead| lead.company = "COBOL".into());
        let renamed = h
            .sales
            .update(renamed, &["last_name", "company"])
            .await
            .unwrap();
        assert_eq!(
            (renamed.last_name.as_str(), renamed.company.as_str()),
            ("", "COBOL")
        );
    }

    async fn everything_wrong_is_told_at_once(h: Harness) {
        let mut lead = complete(&Uuid::nil().to_string());
        lead.first_name = "A".repeat(201);
        lead.email = "ada".into();
        lead.language = "?".into();
        lead.address.as_mut().unwrap().country_code = "uk".into();
        lead.custom_fields = [("Tier", "x"), ("note", "\0")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let request = proto::CreateLeadRequest {
            lead: Some(lead.clone()),
            request_id: "once".into(),
            ..Default::default()
        };
        let refused = h.sales.leads().create(request).await.unwrap_err();
        let fields = |status| -> Vec<String> {
            violations(status)
                .into_iter()
                .map(|(field, _)| field)
                .collect()
        };
        let of_the_lead = [
            "lead.address.country_code",
            "lead.custom_fields[Tier]",
            "lead.custom_fields[note]",
            "lead.email",
            "lead.first_name",
            "lead.language",
            "lead.owner_id",
        ];
        let mut found = fields(&refused);
        found.sort();
        assert_eq!(found, [of_the_lead.as_slice(), &["request_id"]].concat());
        for (field, problem) in violations(&refused) {
            assert!(
                refused.message().contains(&format!("{field} {problem}")),
                "{field}"
            );
        }

        lead.id = "ada".into();
        let mut request = crate::harness::update(lead, &["*", "state", "nickname"]);
        request.request_id = "once".into();
        let refused = h.sales.leads().update(request).await.unwrap_err();
        let mut found = fields(&refused);
        found.sort();
        let others = [
            "lead.id",
            "request_id",
            "update_mask.paths[1]",
            "update_mask.paths[2]",
        ];
        let mut expected = [of_the_lead.as_slice(), &others].concat();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    async fn a_reason_is_a_text_of_1000_characters(h: Harness) {
        let lead = h.sales.create_lead("Hopper").await;
        let request = |reason: String| proto::DeactivateLeadRequest {
            id: lead.id.clone(),
            reason,
            ..Default::default()
        };
        for (reason, problem) in [
            ("é".repeat(1_001), "must be at most 1000 characters long"),
            ("gone\0".into(), CONTROL),
        ] {
            let refused = h
                .sales
                .leads()
                .deactivate(request(reason))
                .await
                .unwrap_err();
            assert_eq!(
                violations(&refused),
                [("reason".to_owned(), problem.to_owned())]
            );
        }
        let longest = "é".repeat(1_000);
        let answer = h
            .sales
            .leads()
            .deactivate(request(format!(" {longest} ")))
            .await
            .unwrap();
        let lead = answer.into_inner().lead.unwrap();
        let deactivation = lead.deactivation.clone().unwrap();
        assert_eq!(deactivation.reason, longest);
        assert_eq!(deactivation.actor.unwrap().id, h.sales.id.to_string());
        assert_eq!(deactivation.time, lead.update_time);
        let back = h.sales.reactivate(&lead.id).await.unwrap();
        assert_eq!(
            back.deactivation, None,
            "set while the lead is deactivated only"
        );
    }
}

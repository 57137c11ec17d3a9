//! The fields of a lead that have a format: accepted and rejected values.

use leadsmith::core::role::Role;
use leadsmith_proto::{self as proto, Lead};
use uuid::Uuid;

use super::fields::{accepted, custom, problems};
use super::{edit, named};
use crate::harness::violations;
use crate::on_both;

on_both! {
    async fn an_email_is_one_address(h: Harness) {
        // 64 characters before the @ and labels of at most 63 after it, 254 in total.
        let domain = |last| ["d".repeat(63), "e".repeat(63), "f".repeat(last)].join(".");
        let longest = format!("{}@{}", "l".repeat(64), domain(61));
        assert_eq!(longest.len(), 254);
        for email in [
            "Ada+desk@Example.com",
            "zoe\u{308}@exämple.com",
            "root@localhost",
            "विक्रम@उदाहरण.भारत",
            "\"Ada L\"@example.com",
            &longest,
        ] {
            accepted(&h.sales, "email", email).await;
        }
        let too_long = format!("{}@{}", "l".repeat(64), domain(62));
        let found = problems(&h.sales, "email", &too_long).await;
        assert!(
            found.contains(&"must be at most 254 bytes long".to_owned()),
            "{found:?}"
        );
        for email in [
            "ada",
            "ada@",
            "@example.com",
            "ada@@example.com",
            "ada lovelace@example.com",
            "Ada <ada@example.com>",
            "ada@example.com,bob@example.com",
            "ada@example.com, bob@example.com",
            "ada@example.com;bob@example.com",
            "ada@example.com bob@example.com",
            "ada@example.com\nbob@example.com",
        ] {
            assert_eq!(
                problems(&h.sales, "email", email).await,
                ["must be one email address, such as ada@example.com"],
                "{email}"
            );
        }
    }

    async fn an_email_hides_nothing(h: Harness) {
        for email in [
            "ada@example.com\u{fe0f}",
            "ad\u{34f}a@example.com",
            "\u{feff}ada@example.com",
            "ada@exam\u{ad}ple.com",
            "a\u{200b}da@example.com",
            "ada\u{202e}@example.com",
            "\u{3164}@example.com",
        ] {
            let found = problems(&h.sales, "email", email).await;
            assert!(found[0].contains("invisible characters"), "{email:?}: {found:?}");
        }
        for email in [
            "\u{301}ada@example.com",
            "ada@\u{301}example.com",
            "ada@example.\u{301}com",
            "ada.\u{301}b@example.com",
        ] {
            let found = problems(&h.sales, "email", email).await;
            assert!(found[0].contains("combining mark"), "{email:?}: {found:?}");
        }
        let many_marks = format!("a{}@example.com", "\u{301}".repeat(240));
        let found = problems(&h.sales, "email", &many_marks).await;
        assert_eq!(found[0], "must be at most 254 bytes long");
        let fewer = format!("a{}@example.com", "\u{301}".repeat(60));
        for email in [&fewer, "ada@xn--a.example", "ada\u{2800}@example.com", "a\u{a0}b@example.com"] {
            assert_eq!(
                problems(&h.sales, "email", email).await,
                ["must be one email address, such as ada@example.com"],
                "{email}"
            );
        }
    }

    async fn a_country_is_an_assigned_code_in_upper_case(h: Harness) {
        for code in ["DE", "GB", "ZW", "XK"] {
            accepted(&h.sales, "address.country_code", code).await;
        }
        for code in ["de", "De", "D", "ZZ", "XX", "xk", "12", "UK", "🇩🇪"] {
            assert_eq!(
                problems(&h.sales, "address.country_code", code).await,
                ["must be an ISO 3166-1 alpha-2 code in upper case, such as DE"],
                "{code}"
            );
        }
        let found = problems(&h.sales, "address.country_code", "DEU").await;
        assert_eq!(found[0], "must be at most 2 characters long");
    }

    async fn a_language_is_a_tag(h: Harness) {
        let longest = "en-x-aaaaaaaa-bbbbbbbb-cccccccc-ddd";
        assert_eq!(longest.len(), 35);
        for tag in ["de", "pt-BR", "zh-Hant-TW", longest] {
            accepted(&h.sales, "language", tag).await;
        }
        for tag in ["english language", "en_US", "-", "e"] {
            assert_eq!(
                problems(&h.sales, "language", tag).await,
                ["must be a BCP 47 language tag, such as pt-BR"],
                "{tag}"
            );
        }
        assert_eq!(
            problems(&h.sales, "language", &format!("{longest}d")).await,
            ["must be at most 35 characters long"]
        );
    }

    async fn an_owner_is_an_operator(h: Harness) {
        accepted(&h.sales, "owner_id", &h.admin.id.to_string()).await;
        let robot = h.service_account("robot", Role::Sales).await;
        for stranger in [Uuid::nil(), robot.id] {
            assert_eq!(
                problems(&h.sales, "owner_id", &stranger.to_string()).await,
                ["is not the id of an operator"]
            );
        }
        assert_eq!(
            problems(&h.sales, "owner_id", "sales").await,
            ["must be an operator's id, a UUID"]
        );
        let lead = h.sales.create_lead("Hopper").await;
        let stray = edit(&lead.id, |lead| lead.owner_id = robot.id.to_string());
        let refused = h.sales.update(stray, &["owner_id"]).await.unwrap_err();
        assert_eq!(violations(&refused)[0].0, "lead.owner_id");
        assert_eq!(h.sales.get(&lead.id).await, lead);
    }

    async fn a_disabled_operator_becomes_no_owner_and_stays_one(h: Harness) {
        let ada = h.operator("ada", Role::Sales).await.id.to_string();
        let owned = h.sales.create(Lead { owner_id: ada.clone(), ..named() }).await.unwrap();
        let other = h.sales.create_lead("Hopper").await;
        let request = proto::CreateLeadRequest {
            lead: Some(Lead { owner_id: ada.clone(), ..named() }),
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let first = h.sales.leads().create(request.clone()).await.unwrap().into_inner();
        h.console().disable_operator("ada").await.unwrap();

        let disabled = [(
            "lead.owner_id".to_owned(),
            "is the id of a disabled operator: choose an enabled operator".to_owned(),
        )];
        let mine = Lead { owner_id: ada.clone(), ..named() };
        assert_eq!(violations(&h.sales.create(mine).await.unwrap_err()), disabled);
        let stray = edit(&other.id, |lead| lead.owner_id = ada.clone());
        for paths in [&["owner_id"][..], &[]] {
            let refused = h.sales.update(stray.clone(), paths).await.unwrap_err();
            assert_eq!(violations(&refused), disabled);
        }
        assert_eq!(h.sales.get(&other.id).await, other);

        let again = h.sales.leads().create(request).await.unwrap().into_inner();
        assert_eq!(again, first, "a repeat gets the first answer");
        let renamed = Lead { last_name: "King".into(), ..owned.clone() };
        let renamed = h.sales.update(renamed, &["*"]).await.unwrap();
        assert_eq!((renamed.last_name.as_str(), renamed.owner_id.as_str()), ("King", ada.as_str()));
        let freed = h.sales.update(edit(&owned.id, |_| {}), &["owner_id"]).await.unwrap();
        assert_eq!(freed.owner_id, "");
        let back = edit(&owned.id, |lead| lead.owner_id = ada.clone());
        let refused = h.sales.update(back, &["owner_id"]).await.unwrap_err();
        assert_eq!(violations(&refused), disabled);
    }

    async fn custom_fields_are_measured_in_bytes(h: Harness) {
        let longest_key = "k".repeat(64);
        let longest_value = "é".repeat(2_048);
        for (key, value) in [
            ("tier_2", " kept as given\n"),
            (&longest_key, &longest_value),
        ] {
            let created = h.sales.create(custom(key, value)).await.unwrap();
            assert_eq!(created.custom_fields, custom(key, value).custom_fields);
            assert_eq!(h.sales.get(&created.id).await, created);
        }
        let too_long = custom("note", &format!("{longest_value}e"));
        let refused = h.sales.create(too_long).await.unwrap_err();
        assert_eq!(
            violations(&refused),
            [(
                "lead.custom_fields[note]".to_owned(),
                "must be at most 4096 bytes long".to_owned()
            )]
        );
        for key in ["", "Tier", "a-b", "a.b", "ä", &format!("{longest_key}k")] {
            let refused = h.sales.create(custom(key, "x")).await.unwrap_err();
            let found = violations(&refused);
            assert_eq!(found.len(), 1, "{found:?}");
            let shown: String = key.chars().take(48).collect();
            let cut = if shown == key { "" } else { "…" };
            assert_eq!(found[0].0, format!("lead.custom_fields[{shown}{cut}]"));
        }
        let mut lead = named();
        for number in 0..100 {
            lead.custom_fields
                .insert(format!("field_{number}"), "x".into());
        }
        let full = h.sales.create(lead.clone()).await.unwrap();
        assert_eq!(full.custom_fields.len(), 100);
        lead.custom_fields.insert("one_more".into(), "x".into());
        let too_many = (
            "lead.custom_fields".to_owned(),
            "must have at most 100 keys".to_owned(),
        );
        let refused = h.sales.create(lead).await.unwrap_err();
        assert_eq!(violations(&refused), std::slice::from_ref(&too_many));
        let one_more = edit(&full.id, |lead| {
            lead.custom_fields.insert("one_more".into(), "x".into());
        });
        let refused = h
            .sales
            .update(one_more, &["custom_fields.one_more"])
            .await
            .unwrap_err();
        assert_eq!(violations(&refused), [too_many]);
    }
}

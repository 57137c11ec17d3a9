//! Another lead with the same email.

use leadsmith_proto::{CreateLeadRequest, Lead};
use tonic::{Code, Status};

use super::{stored, with_email};
use crate::harness::{metadata, reason};
use crate::on_both;

fn assert_duplicate(refused: &Status, of: &Lead) {
    let (state, advice) = match of.state().as_str_name() {
        "LEAD_STATE_OPEN" => ("OPEN", "Use that lead"),
        "LEAD_STATE_DEACTIVATED" => ("DEACTIVATED", "Reactivate that lead"),
        "LEAD_STATE_CONVERTED" => ("CONVERTED", "Use its client"),
        state => panic!("no lead is in the state {state}"),
    };
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    assert_eq!(reason(refused), "DUPLICATE_LEAD");
    assert_eq!(metadata(refused, "lead_id"), of.id);
    assert_eq!(metadata(refused, "state"), state);
    assert!(refused.message().contains(advice), "{}", refused.message());
    assert!(
        refused.message().contains("allow_duplicate"),
        "{}",
        refused.message()
    );
}

on_both! {
    async fn a_second_lead_with_an_email_is_refused_whatever_the_first_ones_state(h: Harness) {
        let open = h
            .sales
            .create(with_email("open@example.com"))
            .await
            .unwrap();
        let away = h
            .sales
            .create(with_email("away@example.com"))
            .await
            .unwrap();
        let away = h.sales.deactivate(&away.id).await.unwrap();
        let client = h
            .sales
            .create(with_email("client@example.com"))
            .await
            .unwrap();
        let client = h.sales.convert(&client.id).await.unwrap().lead.unwrap();
        let before = stored(&h).await;
        for first in [open, away, client] {
            let refused = h.sales.create(with_email(&first.email)).await.unwrap_err();
            assert_duplicate(&refused, &first);
            assert_eq!(h.sales.get(&first.id).await, first);
        }
        assert_eq!(stored(&h).await, before);
    }

    async fn emails_are_the_same_in_any_letter_case_and_composition(h: Harness) {
        let first = h
            .sales
            .create(with_email("\u{e9}va@Example.com"))
            .await
            .unwrap();
        for email in [
            "\u{c9}VA@EXAMPLE.COM",
            "e\u{301}va@example.com",
            "  \u{e9}va@example.com\n",
        ] {
            let refused = h.sales.create(with_email(email)).await.unwrap_err();
            assert_duplicate(&refused, &first);
        }
        h.sales.create(with_email("eva@example.com")).await.unwrap();
    }

    async fn emails_are_the_same_however_unicode_spells_them(h: Harness) {
        for spellings in [
            &["\u{1f0}an@example.com", "J\u{30c}AN@example.com", "j\u{30c}an@EXAMPLE.com"][..],
            &["ada@bücher.example", "ADA@xn--bcher-kva.example", "ada@BU\u{308}CHER.example"],
            &["strauß@example.com", "STRAUSS@example.com"],
            &["οδυσσεύς@example.com", "ΟΔΥΣΣΕΎΣ@example.com"],
        ] {
            let first = h.sales.create(with_email(spellings[0])).await.unwrap();
            assert_eq!(first.email, spellings[0], "kept as typed");
            for email in spellings {
                let refused = h.sales.create(with_email(email)).await.unwrap_err();
                assert_duplicate(&refused, &first);
            }
        }
        h.sales.create(with_email("ada@bucher.example")).await.unwrap();
    }

    async fn of_several_leads_the_one_to_go_on_with_is_named(h: Harness) {
        let create = async || {
            let request = CreateLeadRequest {
                lead: Some(with_email("ada@example.com")),
                allow_duplicate: true,
                ..Default::default()
            };
            h.sales.leads().create(request).await.unwrap().into_inner().lead.unwrap()
        };
        let named = async |expected: &Lead| {
            let refused = h.sales.create(with_email("ADA@example.com")).await.unwrap_err();
            assert_duplicate(&refused, expected);
        };
        let mut leads = Vec::new();
        for _ in 0..6 {
            leads.push(create().await);
        }
        named(&leads[5]).await;
        // The order of their creation matters, not that of their changes.
        let away = [
            h.sales.deactivate(&leads[5].id).await.unwrap(),
            h.sales.deactivate(&leads[0].id).await.unwrap(),
        ];
        named(&leads[4]).await;
        let clients = [
            h.sales.convert(&leads[4].id).await.unwrap().lead.unwrap(),
            h.sales.convert(&leads[1].id).await.unwrap().lead.unwrap(),
        ];
        named(&leads[3]).await;
        h.sales.deactivate(&leads[3].id).await.unwrap();
        named(&leads[2]).await;
        h.sales.deactivate(&leads[2].id).await.unwrap();
        named(&clients[0]).await;
        for client in &clients {
            h.admin.erase(&client.id).await.unwrap();
        }
        named(&away[0]).await;
        let back = h.sales.reactivate(&away[1].id).await.unwrap();
        named(&back).await;
    }

    async fn leads_without_an_email_are_no_duplicates(h: Harness) {
        h.sales.create(with_email("")).await.unwrap();
        h.sales.create(with_email(" ")).await.unwrap();
    }

    async fn a_duplicate_can_be_asked_for(h: Harness) {
        let first = h.sales.create(with_email("ada@example.com")).await.unwrap();
        let request = CreateLeadRequest {
            lead: Some(with_email("ada@example.com")),
            allow_duplicate: true,
            ..Default::default()
        };
        let second = h
            .sales
            .leads()
            .create(request)
            .await
            .unwrap()
            .into_inner()
            .lead
            .unwrap();
        assert_ne!(second.id, first.id);
        assert_eq!(h.sales.get(&second.id).await, second);
        let refused = h
            .sales
            .create(with_email("ada@example.com"))
            .await
            .unwrap_err();
        assert_duplicate(&refused, &second);
    }

    async fn of_those_who_create_the_same_lead_at_once_one_wins(h: Harness) {
        let another = h.another_server(|_| {}).await;
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..16 {
            let caller = if number % 2 == 0 {
                h.sales.clone()
            } else {
                h.sales.at(&another)
            };
            let email = if number % 3 == 0 {
                "ada@example.com"
            } else {
                "ADA@example.com"
            };
            calls.spawn(async move { caller.create(with_email(email)).await });
        }
        let (created, refused): (Vec<_>, Vec<_>) =
            calls.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!(created.len(), 1, "{created:?}");
        let created = created.into_iter().next().unwrap().unwrap();
        for refused in refused {
            assert_duplicate(&refused.unwrap_err(), &created);
        }
        assert_eq!(stored(&h).await, [1, 1, 1, 0]);
    }
}

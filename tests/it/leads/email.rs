//! A change of the email requires the operator's own password: each row of the domain's table.

use chrono::Duration;
use leadsmith::core::role::Role;
use leadsmith_proto::{Lead, UpdateLeadRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{edit, with_email};
use crate::harness::{Caller, Harness, PASSWORD, reason, update};
use crate::on_both;

/// An update of email and phone, with this password.
fn change(id: &str, email: &str, password: &str) -> UpdateLeadRequest {
    let lead = edit(id, |lead| {
        lead.email = email.into();
        lead.phone = "1".into();
    });
    UpdateLeadRequest {
        current_password: password.into(),
        ..update(lead, &["email", "phone"])
    }
}

async fn send(caller: &Caller, request: UpdateLeadRequest) -> Result<Lead, Status> {
    let answer = caller.leads().update(request).await?;
    Ok(answer.into_inner().lead.unwrap())
}

async fn attempts(h: &Harness) -> i64 {
    let bucket = format!("current_password/{}", h.sales.id);
    let sql = format!("SELECT COUNT(*) FROM password_attempts WHERE bucket = '{bucket}'");
    h.count(&sql).await
}

on_both! {
    async fn an_email_that_stays_the_same_needs_no_password(h: Harness) {
        // The decomposed form of the first letter: e and a combining accent.
        let (composed, decomposed) = ("\u{e9}va@example.com", "e\u{301}va@example.com");
        let mut lead = h.sales.create(with_email(composed)).await.unwrap();
        for email in [
            composed,
            "\u{c9}VA@Example.COM",
            decomposed,
            "E\u{301}VA@EXAMPLE.com",
        ] {
            for ignored in ["", "not my password"] {
                let before = h.sales.history(&lead.id).await.len();
                let differs = lead.email != email || lead.phone != "1";
                lead = send(&h.sales, change(&lead.id, &format!(" {email} "), ignored))
                    .await
                    .unwrap();
                assert_eq!(lead.email, email, "kept as typed");
                assert_eq!(lead.phone, "1");
                let after = h.sales.history(&lead.id).await.len();
                assert_eq!(after - before, usize::from(differs));
            }
        }
        let other = edit(&lead.id, |lead| {
            lead.email = "other@example.com".into();
            lead.phone = "2".into();
        });
        let request = UpdateLeadRequest {
            current_password: "not my password".into(),
            ..update(other, &["phone"])
        };
        let lead = send(&h.sales, request).await.unwrap();
        assert_eq!(
            (lead.email.as_str(), lead.phone.as_str()),
            ("E\u{301}VA@EXAMPLE.com", "2")
        );
        assert_eq!(
            attempts(&h).await,
            0,
            "a password that is ignored is not tried"
        );
    }

    async fn another_spelling_of_the_same_address_needs_no_password(h: Harness) {
        for spellings in [
            ["\u{1f0}an@example.com", "J\u{30c}AN@example.com"],
            ["ada@bücher.example", "ada@xn--bcher-kva.example"],
            ["strauß@example.com", "STRAUSS@example.com"],
        ] {
            let lead = h.sales.create(with_email(spellings[0])).await.unwrap();
            for email in [spellings[1], spellings[0]] {
                let after = send(&h.sales, change(&lead.id, email, "")).await.unwrap();
                assert_eq!(after.email, email);
            }
            let other = change(&lead.id, "ada@bucher.example", "");
            let refused = send(&h.sales, other).await.unwrap_err();
            assert_eq!(reason(&refused), "CURRENT_PASSWORD_REQUIRED");
        }
    }

    async fn a_new_email_needs_the_password(h: Harness) {
        for (from, to) in [
            ("ada@example.com", "ada@example.org"),
            ("ada@example.com", ""),
            ("", "ada@example.com"),
        ] {
            let lead = h.sales.create(Lead { ..with_email(from) }).await.unwrap();
            let refused = send(&h.sales, change(&lead.id, to, "")).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert_eq!(reason(&refused), "CURRENT_PASSWORD_REQUIRED");
            let details = refused.get_error_details();
            let fields: Vec<&str> = details
                .bad_request()
                .unwrap()
                .field_violations
                .iter()
                .map(|violation| violation.field.as_str())
                .collect();
            assert_eq!(fields, ["current_password"]);
            assert_eq!(h.sales.get(&lead.id).await, lead);

            let after = send(&h.sales, change(&lead.id, to, PASSWORD))
                .await
                .unwrap();
            assert_eq!((after.email.as_str(), after.phone.as_str()), (to, "1"));
            assert_eq!(h.sales.get(&lead.id).await, after);
            let entry = &h.sales.history(&lead.id).await[0];
            let changes: Vec<_> = entry
                .changes
                .iter()
                .map(|change| {
                    (
                        change.field.as_str(),
                        change.old_value.as_str(),
                        change.new_value.as_str(),
                    )
                })
                .collect();
            assert_eq!(changes, [("email", from, to), ("phone", "", "1")]);
            // Otherwise the lead of the next round would be a duplicate.
            send(&h.sales, change(&lead.id, "gone@example.com", PASSWORD))
                .await
                .unwrap();
        }
    }

    async fn an_update_of_everything_populated_changes_the_email_too(h: Harness) {
        let lead = h.sales.create(with_email("ada@example.com")).await.unwrap();
        for paths in [&[][..], &["*"]] {
            let mut request = change(&lead.id, "ada@example.org", "");
            request.lead.as_mut().unwrap().last_name = "Byron".into();
            request.update_mask = update(Lead::default(), paths).update_mask;
            let refused = send(&h.sales, request).await.unwrap_err();
            assert_eq!(reason(&refused), "CURRENT_PASSWORD_REQUIRED", "{paths:?}");
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
    }

    async fn a_wrong_password_applies_nothing_of_the_update(h: Harness) {
        let lead = h.sales.create(with_email("ada@example.com")).await.unwrap();
        for wrong in [
            "not my password",
            "correct horse battery ",
            "Correct horse battery",
        ] {
            let refused = send(&h.sales, change(&lead.id, "ada@example.org", wrong))
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
            assert_eq!(reason(&refused), "CURRENT_PASSWORD_INVALID");
        }
        assert_eq!(h.sales.get(&lead.id).await, lead);
        assert_eq!(h.sales.history(&lead.id).await.len(), 1);
        assert_eq!(attempts(&h).await, 3);
    }

    async fn it_is_the_password_of_who_calls(h: Harness) {
        let lead = h.sales.create(with_email("ada@example.com")).await.unwrap();
        let other = "another long password".to_owned().into();
        h.console().set_password("admin", other).await.unwrap();
        let refused = send(
            &h.sales,
            change(&lead.id, "a@example.org", "another long password"),
        )
        .await
        .unwrap_err();
        assert_eq!(reason(&refused), "CURRENT_PASSWORD_INVALID");
        send(&h.sales, change(&lead.id, "a@example.org", PASSWORD))
            .await
            .unwrap();
    }

    async fn a_service_account_cannot_change_an_email(h: Harness) {
        let robot = h.service_account("robot", Role::Admin).await;
        let lead = robot.create(with_email("ada@example.com")).await.unwrap();
        for password in ["", PASSWORD] {
            let refused = send(&robot, change(&lead.id, "ada@example.org", password))
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
            assert_eq!(reason(&refused), "OPERATOR_REQUIRED");
        }
        assert_eq!(robot.get(&lead.id).await, lead);
        let after = send(&robot, change(&lead.id, "ADA@example.com", ""))
            .await
            .unwrap();
        assert_eq!(
            (after.email.as_str(), after.phone.as_str()),
            ("ADA@example.com", "1")
        );
    }

    async fn after_five_wrong_passwords_none_is_tried_for_15_minutes(h: Harness) {
        let lead = h.sales.create(with_email("ada@example.com")).await.unwrap();
        for _ in 0..5 {
            let refused = send(&h.sales, change(&lead.id, "ada@example.org", "wrong"))
                .await
                .unwrap_err();
            assert_eq!(reason(&refused), "CURRENT_PASSWORD_INVALID");
        }
        let refused = send(&h.sales, change(&lead.id, "ada@example.org", PASSWORD))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(reason(&refused), "PASSWORD_ATTEMPTS_EXCEEDED");
        let retry = refused
            .get_error_details()
            .retry_info()
            .unwrap()
            .retry_delay
            .unwrap();
        assert!((1..=900).contains(&retry.as_secs()), "{retry:?}");
        assert_eq!(h.sales.get(&lead.id).await, lead);

        send(&h.admin, change(&lead.id, "by-admin@example.org", PASSWORD))
            .await
            .unwrap();
        send(
            &h.sales,
            update(edit(&lead.id, |lead| lead.fax = "2".into()), &["fax"]),
        )
        .await
        .unwrap();

        h.clock.advance(Duration::minutes(15));
        let after = send(&h.sales, change(&lead.id, "ada@example.org", PASSWORD))
            .await
            .unwrap();
        assert_eq!(after.email, "ada@example.org");
    }
}

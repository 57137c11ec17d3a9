//! Every error as the caller receives it: a snapshot of the whole status for each reason.

mod bounds;
mod events;
mod people;
mod provoke;
mod raw;

use leadsmith_proto::{ErrorReason, Lead};
use tonic::Status;

use crate::harness::{metadata, reason, whole};
use crate::on_both;
use provoke::provoke;

const UNKNOWN: &str = "01900000-0000-7000-8000-000000000001";

/// Compares an error with its snapshot; the same one for both databases.
fn check(name: &str, status: &Status) {
    let mut text = whole(status);
    if reason(status) == "INTERNAL" {
        text = text.replace(&metadata(status, "error_id"), "[error_id]");
    }
    for (of, key) in [
        ("RESUME_TOKEN_EXPIRED", "earliest_token"),
        ("WATCH_TOO_SLOW", "resume_token"),
    ] {
        if reason(status) == of {
            text = text.replace(&metadata(status, key), &format!("[{key}]"));
        }
    }
    if reason(status) == "ACTION_CLAIMED" {
        text = text.replace(&metadata(status, "expire_time"), "[expire_time]");
    }
    insta::assert_snapshot!(name, text);
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Status {
    outcome.expect_err("a refusal")
}

/// The reasons of `error_reason.proto`.
fn reasons() -> impl Iterator<Item = ErrorReason> {
    (0..1_000).filter_map(|number| ErrorReason::try_from(number).ok())
}

fn name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

fn named() -> Lead {
    Lead {
        last_name: "Lovelace".into(),
        ..Lead::default()
    }
}

fn with_email(email: &str) -> Lead {
    Lead {
        email: email.into(),
        ..named()
    }
}

on_both! {
    async fn each_reason_is_told_in_full(h: Harness) {
        for reason in reasons() {
            match provoke(&h, reason).await {
                Ok(status) => {
                    assert_eq!(crate::harness::reason(&status), name(reason), "{status:?}");
                    check(name(reason), &status);
                }
                Err(why) => assert!(
                    [ErrorReason::Unspecified, ErrorReason::WriteConflict].contains(&reason),
                    "{reason:?}: {why}"
                ),
            }
        }
    }

    async fn what_to_do_depends_on_the_leads_state(h: Harness) {
        let away = h
            .sales
            .create(with_email("away@example.com"))
            .await
            .unwrap();
        h.sales.deactivate(&away.id).await.unwrap();
        let client = h
            .sales
            .create(with_email("client@example.com"))
            .await
            .unwrap();
        h.sales.convert(&client.id).await.unwrap();
        check(
            "DUPLICATE_LEAD-deactivated",
            &refused(h.sales.create(with_email("away@example.com")).await),
        );
        check(
            "DUPLICATE_LEAD-converted",
            &refused(h.sales.create(with_email("client@example.com")).await),
        );
        check(
            "LEAD_DEACTIVATED-already",
            &refused(h.sales.deactivate(&away.id).await),
        );
        let order = h.sales.create_order(&away.id, Vec::new()).await;
        check(
            "LEAD_DEACTIVATED-by_an_order",
            &refused(h.sales.run(&order.id, "provision-client").await),
        );
        let joined = h.sales.create(with_email("joined@example.com")).await.unwrap();
        h.sales.convert_into(&joined.id, &client.id, &[]).await.unwrap();
        check(
            "DUPLICATE_LEAD-joined",
            &refused(h.sales.create(with_email("joined@example.com")).await),
        );
        check("LEAD_CONVERTED-joined", &refused(h.sales.convert(&joined.id).await));
        check("CLIENT_NOT_FOUND-joined", &refused(h.viewer.client(&joined.id).await));
        check("CLIENT_NOT_FOUND-not_converted", &refused(h.viewer.client(&away.id).await));
        check("CONVERSION_SETTLED-joined", &refused(h.sales.revert(&client.id).await));
        let gone = h.sales.create_lead("Gone").await;
        h.sales.convert(&gone.id).await.unwrap();
        h.admin.erase(&gone.id).await.unwrap();
        let lead = h.sales.create_lead("Hopper").await;
        check(
            "LEAD_ERASED-client",
            &refused(h.sales.convert_into(&lead.id, &gone.id, &[]).await),
        );
        let sale = h.sales.create_sale(&client.id, "Compiler").await;
        h.sales.lose(&sale.id, "No budget").await.unwrap();
        check(
            "OPPORTUNITY_CLOSED-already",
            &refused(h.sales.win(&sale.id).await),
        );
    }
}

#[test]
fn every_reason_has_a_snapshot() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/it/snapshots");
    let found: std::collections::BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let name = name.strip_prefix("it__errors__")?.strip_suffix(".snap")?;
            Some(name.split('-').next().unwrap_or_default().to_owned())
        })
        .collect();
    let expected: std::collections::BTreeSet<String> = reasons()
        .filter(|reason| *reason != ErrorReason::Unspecified)
        .map(|reason| name(reason).to_owned())
        .collect();
    assert_eq!(found, expected);
}

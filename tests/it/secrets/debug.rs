//! The `Debug` output of messages hides the fields that are secrets.

use std::collections::BTreeSet;

use leadsmith_proto::{self as proto, Lead};
use prost_reflect::{DescriptorPool, Kind};

use super::search::forms;
use crate::harness::update;

/// The messages with a field whose name says that it is a secret.
fn secret_messages() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(leadsmith_proto::DESCRIPTORS).unwrap();
    let secret = |name: &str| {
        let places = [
            "page_token",
            "next_page_token",
            "watch_token",
            "resume_token",
        ];
        !places.contains(&name)
            && ["password", "token", "secret", "api_key"]
                .iter()
                .any(|word| name.contains(word))
    };
    pool.all_messages()
        .filter(|message| message.package_name() == "leadsmith.v1")
        .filter(|message| {
            message
                .fields()
                .any(|field| secret(field.name()) && field.kind() == Kind::String)
        })
        .map(|message| message.name().to_owned())
        .collect()
}

#[test]
fn debug_of_a_message_with_a_secret_hides_it() {
    let secret = "correct horse battery";
    let text = || secret.to_owned();
    let lead = Lead {
        last_name: "Lovelace".into(),
        ..Lead::default()
    };
    let shown = [
        (
            "UpdateLeadRequest",
            format!(
                "{:?}",
                proto::UpdateLeadRequest {
                    current_password: text(),
                    ..update(lead, &[])
                }
            ),
        ),
        (
            "ConvertLeadRequest",
            format!(
                "{:?}",
                proto::ConvertLeadRequest {
                    current_password: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "EraseLeadRequest",
            format!(
                "{:?}",
                proto::EraseLeadRequest {
                    current_password: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "SignInRequest",
            format!(
                "{:?}",
                proto::SignInRequest {
                    username: text(),
                    password: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "SignInResponse",
            format!(
                "{:?}",
                proto::SignInResponse {
                    token: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "ChangePasswordRequest",
            format!(
                "{:?}",
                proto::ChangePasswordRequest {
                    current_password: text(),
                    new_password: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "CreateOperatorRequest",
            format!(
                "{:?}",
                proto::CreateOperatorRequest {
                    password: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "ResetPasswordRequest",
            format!(
                "{:?}",
                proto::ResetPasswordRequest {
                    new_password: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "CreateKeyResponse",
            format!(
                "{:?}",
                proto::CreateKeyResponse {
                    api_key: text(),
                    ..Default::default()
                }
            ),
        ),
    ];
    let names: BTreeSet<String> = shown.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        secret_messages(),
        names,
        "every message with a secret is looked at here"
    );
    for (name, shown) in &shown {
        assert!(shown.starts_with(name), "{shown}");
        for form in forms(secret) {
            assert!(!shown.contains(&form), "{shown}");
        }
    }
    assert!(
        shown[0].1.contains("Lovelace"),
        "what is no secret shows: {}",
        shown[0].1
    );
}

//! A conversion is no way around the password that a change of an email needs.

use leadsmith::core::role::Role;
use leadsmith_proto::Lead;
use tonic::Status;

use super::{create, new_client, person};
use crate::harness::{Caller, PASSWORD, convert_into, reason};
use crate::on_both;

fn with_email(email: &str) -> Lead {
    Lead {
        email: email.into(),
        ..person("Lovelace")
    }
}

async fn join(
    caller: &Caller,
    lead: &Lead,
    client_id: &str,
    paths: &[&str],
    password: &str,
) -> Result<String, Status> {
    let mut request = convert_into(&lead.id, client_id, paths);
    request.current_password = password.into();
    let answer = caller.leads().convert(request).await?;
    Ok(answer.into_inner().client.unwrap().email)
}

on_both! {
    async fn overwriting_an_email_needs_the_operators_own_password(h: Harness) {
        let client = new_client(&h.sales, with_email("old@example.com")).await;
        let lead = create(&h.sales, with_email("new@example.com")).await;
        let robot = h.service_account("crm", Role::Sales).await;
        for paths in [&["email"][..], &["*"][..], &["phone", "email"][..]] {
            for (caller, password, expected) in [
                (&robot, PASSWORD, "OPERATOR_REQUIRED"),
                (&h.sales, "", "CURRENT_PASSWORD_REQUIRED"),
                (&h.viewer, PASSWORD, "ROLE_INSUFFICIENT"),
            ] {
                let refused = join(caller, &lead, &client.id, paths, password).await.unwrap_err();
                assert_eq!(reason(&refused), expected);
            }
        }
        let refused = join(&h.sales, &lead, &client.id, &["email"], "not my password").await.unwrap_err();
        assert_eq!(reason(&refused), "CURRENT_PASSWORD_INVALID");
        assert_eq!(h.viewer.get(&lead.id).await, lead);
        assert_eq!(h.viewer.client(&client.id).await.unwrap(), client);
        let email = join(&h.sales, &lead, &client.id, &["email"], PASSWORD).await.unwrap();
        assert_eq!(email, "new@example.com");
    }

    async fn nothing_else_needs_it(h: Harness) {
        let robot = h.service_account("crm", Role::Sales).await;
        for (client, lead, paths, expected) in [
            // Not named, so it stays.
            ("old@example.com", "new@example.com", &["phone"][..], "old@example.com"),
            // To fill an empty one is no change of one.
            ("", "new@example.com", &["email"][..], "new@example.com"),
            ("", "new@example.com", &[][..], "new@example.com"),
            // The same address in another spelling.
            ("old@example.com", "OLD@Example.com", &["email"][..], "OLD@Example.com"),
            // The lead has none, and nothing is emptied.
            ("old@example.com", "", &["*"][..], "old@example.com"),
        ] {
            let client = new_client(&robot, with_email(client)).await;
            let lead = create(&robot, with_email(lead)).await;
            let email = join(&robot, &lead, &client.id, paths, "").await.unwrap();
            assert_eq!(email, expected);
        }
    }

    async fn wrong_passwords_are_counted_over_everything_that_asks_for_one(h: Harness) {
        let client = new_client(&h.sales, with_email("old@example.com")).await;
        let lead = create(&h.sales, with_email("new@example.com")).await;
        for _ in 0..5 {
            let refused = join(&h.sales, &lead, &client.id, &["email"], "wrong").await.unwrap_err();
            assert_eq!(reason(&refused), "CURRENT_PASSWORD_INVALID");
        }
        let refused = join(&h.sales, &lead, &client.id, &["email"], PASSWORD).await.unwrap_err();
        assert_eq!(reason(&refused), "PASSWORD_ATTEMPTS_EXCEEDED");
        h.clock.advance(chrono::Duration::minutes(15));
        join(&h.sales, &lead, &client.id, &["email"], PASSWORD).await.unwrap();
    }
}

//! The rules of new passwords, wherever they are set.

use leadsmith_proto as proto;

use super::{create, new_operator};
use crate::harness::{Backend, Harness, PASSWORD, sign_in, violations};
use crate::on_both;
use crate::program::leadsmith;

on_both! {
    async fn a_password_is_long_uncommon_and_without_the_username(h: Harness) {
        let grace = create(&h.admin, "grace", proto::Role::Sales).await;
        for (password, problem) in [
            ("fourteen bytes", "15 to 1024 bytes"),
            ("passwordpassword", "most common"),
            ("Password12345678", "most common"),
            ("the one of GRACE only", "the username"),
        ] {
            let create = proto::CreateOperatorRequest {
                password: password.into(),
                ..new_operator("grace2", proto::Role::Sales)
            };
            if problem != "the username" {
                let refused = h.admin.operators().create(create).await.unwrap_err();
                let found = violations(&refused);
                assert!(found[0].0 == "password" && found[0].1.contains(problem), "{found:?}");
            }
            let reset = proto::ResetPasswordRequest {
                id: grace.id.clone(),
                new_password: password.into(),
                ..Default::default()
            };
            let refused = h.admin.operators().reset_password(reset).await.unwrap_err();
            let found = violations(&refused);
            assert!(found[0].0 == "new_password" && found[0].1.contains(problem), "{found:?}");
            let own = h.with_token(&sign_in(h.channel(), "grace", PASSWORD).await.unwrap());
            let change = proto::ChangePasswordRequest {
                current_password: PASSWORD.into(),
                new_password: password.into(),
                ..Default::default()
            };
            let refused = own.auth().change_password(change).await.unwrap_err();
            let found = violations(&refused);
            assert!(found[0].0 == "new_password" && found[0].1.contains(problem), "{found:?}");
        }
        let create = proto::CreateOperatorRequest {
            password: "exactly 15 byte".into(),
            ..new_operator("eve", proto::Role::Sales)
        };
        h.admin.operators().create(create).await.unwrap();
    }

    async fn the_minimum_is_a_setting_of_commands_too(h: Harness) {
        let create = || {
            let create = leadsmith("operator create --username ada --role SALES");
            create.database(&h.database.url).quiet().input("8 bytes!\n")
        };
        create().run().await.refused("15 to 1024 bytes");
        create().env("LEADSMITH_MIN_PASSWORD_LENGTH", "9").run().await.refused("9 to 1024 bytes");
        create().env("LEADSMITH_MIN_PASSWORD_LENGTH", "8").run().await.done();
        sign_in(h.channel(), "ada", "8 bytes!").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_can_lower_the_minimum() {
    let h = Harness::start_with(Backend::Sqlite, |settings| {
        settings.passwords.min_password_length = 8;
    })
    .await;
    for (username, password, fits) in [
        ("ada", "8 bytes!", true),
        ("bob", "7 bytes", false),
        ("cem", "iloveyou", false),
    ] {
        let create = proto::CreateOperatorRequest {
            password: password.into(),
            ..new_operator(username, proto::Role::Sales)
        };
        let created = h.admin.operators().create(create).await;
        assert_eq!(created.is_ok(), fits, "{password}: {created:?}");
    }
}

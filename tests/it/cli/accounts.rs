//! Operators and service accounts.

use leadsmith::auth::tokens::{self, TokenKind};
use leadsmith::core::role::Role;
use leadsmith::core::text_enum::TextEnum as _;
use leadsmith_proto as proto;

use crate::harness::{Caller, PASSWORD, eventually, is_let_in, reason, sign_in};
use crate::on_both;
use crate::program::leadsmith;

const OTHER: &str = "another horse, another battery";

/// Whether the caller's role does not allow to create a lead.
async fn create_is_refused(caller: &Caller) -> bool {
    let request = proto::CreateLeadRequest {
        validate_only: true,
        ..Default::default()
    };
    let status = caller.leads().create(request).await.unwrap_err();
    reason(&status) == "ROLE_INSUFFICIENT"
}

on_both! {
    async fn operators_are_looked_after_from_the_command_line(h: Harness) {
        let run = |arguments: &str| leadsmith(arguments).database(&h.database.url).quiet();

        let create = "operator create --username Grace --display-name Hopper --role sales";
        let created = run(create).input(&format!("{PASSWORD}\r\n")).run().await.done();
        let (id, rest) = created.split_once(' ').unwrap();
        assert_eq!(rest, "grace SALES\n");
        let token = sign_in(h.channel(), "grace", PASSWORD).await.unwrap();
        let grace = h.with_token(&token);
        grace.create_lead("Lovelace").await;

        let again = run(create).input(PASSWORD).run().await;
        again.refused("operator \"grace\" already exists");
        let short = "operator create --username short --role VIEWER";
        for input in ["", "\n", "fourteen bytes\n"] {
            run(short).input(input).run().await.refused("15 to 1024 bytes");
        }
        let bad = "operator create --username a/b --role VIEWER";
        run(bad).input(PASSWORD).run().await.refused("a username is 1 to 64 letters");

        let listed = run("operator list").run().await.done();
        let line = format!("{id} SALES    enabled  grace (Hopper)");
        assert!(listed.lines().any(|l| l == line), "{listed}");
        let usernames: Vec<_> =
            listed.lines().map(|line| line.split_whitespace().nth(3).unwrap()).collect();
        assert_eq!(usernames, ["admin", "grace", "sales", "viewer"]);

        let set = "operator set-password --username GRACE";
        run(set).input("short\n").run().await.refused("15 to 1024 bytes");
        assert!(is_let_in(&grace).await, "a refused change changes nothing");
        assert_eq!(run(set).input(&format!("{OTHER}\n")).run().await.done(), "");
        let ended = "sessions end with the old password";
        eventually(ended, async || !is_let_in(&grace).await).await;
        assert!(sign_in(h.channel(), "grace", PASSWORD).await.is_err());
        sign_in(h.channel(), "grace", OTHER).await.unwrap();

        for _ in 0..4 {
            assert!(sign_in(h.channel(), "grace", PASSWORD).await.is_err());
        }
        let locked = sign_in(h.channel(), "grace", OTHER).await.unwrap_err();
        assert_eq!(reason(&locked), "PASSWORD_ATTEMPTS_EXCEEDED");
        assert_eq!(run("operator unlock --username Grace").run().await.done(), "");
        let grace = h.with_token(&sign_in(h.channel(), "grace", OTHER).await.unwrap());

        assert_eq!(run("operator disable --username Grace").run().await.done(), "");
        eventually("disabled", async || !is_let_in(&grace).await).await;
        let status = sign_in(h.channel(), "grace", OTHER).await.unwrap_err();
        assert_eq!(reason(&status), "SIGN_IN_FAILED");
        let listed = run("operator list").run().await.done();
        let line = format!("{id} SALES    disabled grace (Hopper)");
        assert!(listed.lines().any(|l| l == line), "{listed}");

        assert_eq!(run("operator enable --username Grace").run().await.done(), "");
        let grace = h.with_token(&sign_in(h.channel(), "grace", OTHER).await.unwrap());
        assert_eq!(run("operator set-role --username Grace --role viewer").run().await.done(), "");
        let refused = "a viewer creates no lead";
        eventually(refused, async || create_is_refused(&grace).await).await;
        let last = run("operator set-role --username admin --role SALES").run().await;
        last.refused("last enabled operator with the role ADMIN");
        run("operator disable --username admin").run().await.refused("last enabled operator");

        for command in ["set-password", "disable", "enable", "unlock", "set-role --role SALES"] {
            let ended = run(&format!("operator {command} --username nobody")).input(OTHER);
            ended.run().await.refused("nobody");
        }
    }

    async fn service_accounts_are_looked_after_from_the_command_line(h: Harness) {
        let run = |arguments: &str| leadsmith(arguments).database(&h.database.url).quiet();
        let create = "service-account create --name billing --role Sales";
        let created = run(create).run().await.done();
        assert!(created.ends_with(" billing SALES\n"), "{created}");
        run(create).run().await.refused("service account \"billing\" already exists");

        let ended = run("service-account create-key --name billing").run().await;
        let told = ended.err.clone();
        let out = ended.done();
        let key = out.trim_end();
        assert_eq!(out, format!("{key}\n"), "nothing but the key, for a script to take");
        assert!(matches!(tokens::parse(key), Some((TokenKind::ApiKey, _))), "{key}");
        assert!(!told.contains(key));
        let billing = h.with_token(key);
        billing.create_lead("Lovelace").await;

        let id = told.split_once("revoking it: ").unwrap().1.split_once('.').unwrap().0;
        let list = || async { run("service-account list").run().await.done() };
        let listed = list().await;
        assert!(listed.contains(" SALES    enabled  billing\n") && listed.contains(id), "{listed}");
        assert!(!listed.contains("revoked"), "{listed}");

        assert_eq!(run("service-account disable --name billing").run().await.done(), "");
        eventually("disabled", async || !is_let_in(&billing).await).await;
        let listed = list().await;
        assert!(listed.contains(" SALES    disabled billing\n"), "{listed}");
        assert_eq!(run("service-account enable --name billing").run().await.done(), "");
        eventually("enabled", async || is_let_in(&billing).await).await;

        let revoke = format!("service-account revoke-key --id {id}");
        assert_eq!(run(&revoke).run().await.done(), "");
        eventually("revoked", async || !is_let_in(&billing).await).await;
        assert!(list().await.contains("revoked"));
        run(&revoke).run().await.refused("no active API key");
        for command in ["create-key", "disable", "enable", "set-certificate"] {
            let ended = run(&format!("service-account {command} --name nobody")).run().await;
            ended.refused("there is no service account \"nobody\"");
        }
    }

}

#[tokio::test]
async fn roles_are_read_in_any_letter_case() {
    for role in Role::ALL {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("x.db").display());
        leadsmith("migrate up").database(&url).run().await.done();
        let word = role.as_str().to_lowercase();
        let created = leadsmith(&format!("service-account create --name x --role {word}"))
            .database(&url)
            .run()
            .await
            .done();
        assert!(created.ends_with(&format!(" x {role}\n")), "{created}");
    }
}

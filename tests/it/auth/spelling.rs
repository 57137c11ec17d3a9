//! Usernames and passwords, however a keyboard composes them.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use leadsmith::core::role::Role;
use sea_orm::ConnectionTrait;

use super::{change_password, wrong_sign_in};
use crate::harness::{Backend, Harness, PASSWORD, reason, sign_in};
use crate::on_both;

/// The same, composed and decomposed.
const COMPOSED: &str = "pässwörd of jürgen";
const DECOMPOSED: &str = "pa\u{308}sswo\u{308}rd of ju\u{308}rgen";

async fn create(
    h: &Harness,
    username: &str,
    password: &str,
) -> Result<leadsmith::auth::operators::Operator, String> {
    let password = password.to_owned().into();
    h.console()
        .create_operator(username, "", Role::Sales, password)
        .await
        .map_err(|refusal| refusal.to_string())
}

on_both! {
    async fn a_username_is_one_in_every_spelling(h: Harness) {
        for (created, shown, spellings) in [
            ("ju\u{308}rgen", "jürgen", &["jürgen", "JÜRGEN", "JU\u{308}RGEN", " Ju\u{308}rgen "][..]),
            ("ΟΔΥΣΣΕΎΣ", "οδυσσεύς", &["οδυσσεύς", "οδυσσεύσ", "ΟΔΥΣΣΕΎΣ", "Οδυσσευ\u{301}ς"]),
            ("İsmail", "i\u{307}smail", &["İsmail", "i\u{307}smail", "I\u{307}SMAIL"]),
            ("Strauß", "strauß", &["strauß", "STRAUSS", "strauss"]),
            ("ǰan", "ǰan", &["ǰan", "J\u{30c}AN"]),
        ] {
            assert_eq!(create(&h, created, PASSWORD).await.unwrap().username, shown);
            for spelling in spellings {
                sign_in(h.channel(), spelling, PASSWORD)
                    .await
                    .unwrap_or_else(|status| panic!("{spelling}: {status:?}"));
                let taken = create(&h, spelling, PASSWORD).await.unwrap_err();
                assert!(taken.contains("already"), "{spelling}: {taken}");
            }
        }
        wrong_sign_in(&h, "jurgen").await;
    }

    async fn wrong_passwords_count_for_every_spelling(h: Harness) {
        create(&h, "jürgen", PASSWORD).await.unwrap();
        for spelling in ["jürgen", "JÜRGEN", "ju\u{308}rgen", "Jürgen", "JU\u{308}RGEN"] {
            wrong_sign_in(&h, spelling).await;
        }
        let refused = sign_in(h.channel(), "jürgen", PASSWORD).await.unwrap_err();
        assert_eq!(reason(&refused), "PASSWORD_ATTEMPTS_EXCEEDED");
        h.console().unlock_operator("JU\u{308}RGEN").await.unwrap();
        sign_in(h.channel(), "jürgen", PASSWORD).await.unwrap();
    }

    async fn a_username_shows_every_character(h: Harness) {
        for username in [
            "", " ", "a b", "\u{3164}", "\u{301}a", "a.\u{301}", "ada\u{fe0f}", "a\u{34f}da",
            "a\u{200d}da", "a\u{202e}da", "ada\x1b", "😀", &"ä".repeat(65),
        ] {
            let refused = create(&h, username, PASSWORD).await.unwrap_err();
            assert!(refused.starts_with("a username is 1 to 64 letters"), "{username:?}: {refused}");
        }
        let longest = "ᾧ".repeat(64);
        create(&h, &longest, PASSWORD).await.unwrap();
        // The letter is four characters, of nine bytes, when it is taken apart.
        let apart: String = "ω\u{314}\u{342}\u{345}".repeat(64);
        sign_in(h.channel(), &apart, PASSWORD).await.unwrap();
    }

    async fn a_password_is_one_however_its_accents_are_composed(h: Harness) {
        for (username, set, other) in [
            ("ada", COMPOSED, DECOMPOSED),
            ("bob", DECOMPOSED, COMPOSED),
        ] {
            create(&h, username, set).await.unwrap();
            for password in [set, other] {
                sign_in(h.channel(), username, password).await.unwrap();
            }
            let plain = "password of jurgen";
            assert!(sign_in(h.channel(), username, plain).await.is_err());
            let caller = h.with_token(&sign_in(h.channel(), username, other).await.unwrap());
            change_password(&caller, other, "ano\u{308}ther long horse").await.unwrap();
            change_password(&caller, "anöther long horse", set).await.unwrap();
        }
    }

    async fn a_password_hashed_before_it_was_normalised_still_works(h: Harness) {
        let operator = create(&h, "ada", PASSWORD).await.unwrap();
        let before = Argon2::default().hash_password(DECOMPOSED.as_bytes()).unwrap().to_string();
        let id = match h.database.backend {
            Backend::Sqlite => format!("x'{}'", operator.id.simple()),
            Backend::Postgres => format!("'{}'", operator.id),
        };
        let sql = format!("UPDATE operators SET password_hash = '{before}' WHERE id = {id}");
        h.database.connect().await.execute_unprepared(&sql).await.unwrap();
        let caller = h.with_token(&sign_in(h.channel(), "ada", DECOMPOSED).await.unwrap());
        assert!(sign_in(h.channel(), "ada", COMPOSED).await.is_err(), "as before");
        // Set again, it is normalised.
        change_password(&caller, DECOMPOSED, DECOMPOSED).await.unwrap();
        sign_in(h.channel(), "ada", COMPOSED).await.unwrap();
    }

    async fn a_new_password_can_be_typed(h: Harness) {
        for control in ['\0', '\t', '\n', '\r', '\u{1b}', '\u{7f}', '\u{85}'] {
            let wrong = format!("a very long{control}password");
            let refused = create(&h, "ada", &wrong).await.unwrap_err();
            assert!(refused.contains("control characters"), "{refused}");
            let refused = change_password(&h.sales, PASSWORD, &wrong).await.unwrap_err();
            let found = crate::harness::violations(&refused);
            assert_eq!(found[0].0, "new_password");
            assert!(found[0].1.contains("control characters"), "{found:?}");
        }
        // 21 bytes as they are sent, and 14 in NFC.
        let short = "e\u{301}".repeat(7);
        assert!(change_password(&h.sales, PASSWORD, &short).await.is_err());
        let longest = "é".repeat(512);
        change_password(&h.sales, PASSWORD, &longest).await.unwrap();
        sign_in(h.channel(), "sales", &"e\u{301}".repeat(512)).await.unwrap();
    }
}

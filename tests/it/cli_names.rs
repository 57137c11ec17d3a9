//! Names and passwords on the command line: which are accepted, and how they are printed.

use leadsmith::core::role::Role;
use sea_orm::ConnectionTrait;

use crate::harness::{PASSWORD, sign_in};
use crate::on_both;
use crate::program::leadsmith;

on_both! {
    async fn a_password_is_what_was_typed_and_nothing_else(h: Harness) {
        let run = |arguments: &str| leadsmith(arguments).database(&h.database.url).quiet();
        for (index, input) in [
            PASSWORD.to_owned(),
            format!("{PASSWORD}\n"),
            format!("{PASSWORD}\r\n"),
            format!("\u{feff}{PASSWORD}\r\n"),
            format!("{PASSWORD}\nand more\n"),
        ]
        .iter()
        .enumerate()
        {
            let create = format!("operator create --username ada{index} --role VIEWER");
            let ended = run(&create).input(input).run().await;
            assert_eq!(ended.code, Some(0), "{input:?}: {ended:?}");
            sign_in(h.channel(), &format!("ada{index}"), PASSWORD).await.unwrap();
        }
        let commands = [
            "operator create --username bob --role VIEWER",
            "operator set-password --username sales",
        ];
        for (index, control) in ['\0', '\t', '\u{1b}', '\u{7f}', '\u{85}', '\r'].into_iter().enumerate() {
            // A CR is part of the line end only as the last character before the LF.
            let input = format!("{PASSWORD}{control}\u{20ac}\n");
            let ended = run(commands[index % 2]).input(&input).run().await;
            assert_eq!(ended.code, Some(1), "{input:?}: {ended:?}");
            assert!(ended.err.contains("must not contain control characters"), "{ended:?}");
        }
        sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
    }

    async fn a_display_name_is_one_line_that_only_shows(h: Harness) {
        let create = |username: &str, display_name: &str| {
            let command = format!("operator create --username {username} --role VIEWER");
            leadsmith(&command)
                .database(&h.database.url)
                .quiet()
                .argument("--display-name").argument(display_name)
                .input(PASSWORD)
                .run()
        };
        for wrong in [
            "Ada\u{1b}[31m", "Ada\nroot", "Ada\tKing", "Ada\u{202e}gniK", "Ada\u{2066}", "Ada\u{2028}K",
            "Ada\u{9b}31m", &"a".repeat(201), &"é".repeat(50_000),
        ] {
            let ended = create("ada", wrong).await;
            assert_eq!(ended.code, Some(1), "{wrong:?}: {ended:?}");
            assert!(ended.err.contains("a display name is at most 200 characters"), "{ended:?}");
        }
        for (username, given, kept) in [
            ("ada", " Ada  King ", "Ada  King"),
            ("bob", "\u{200b}", "bob"),
            ("cem", &"é".repeat(200), &"é".repeat(200)),
        ] {
            let ended = create(username, given).await;
            assert_eq!(ended.code, Some(0), "{given:?}: {ended:?}");
            let listed = leadsmith("operator list").database(&h.database.url).quiet().run().await;
            assert!(listed.out.contains(&format!("{username} ({kept})\n")), "{listed:?}");
        }
    }

    async fn what_is_stored_already_is_printed_without_effect(h: Harness) {
        let db = h.database.connect().await;
        h.service_account("robot", Role::Viewer).await;
        db.execute_unprepared(
            "UPDATE operators SET display_name = 'a\u{1b}[2J\nroot\u{202e}' WHERE username = 'viewer'",
        )
        .await
        .unwrap();
        db.execute_unprepared("UPDATE service_accounts SET certificate_name = 'DNS:x\u{1b}[2J\r'")
            .await
            .unwrap();
        let run = |arguments: &str| leadsmith(arguments).database(&h.database.url).quiet();
        let listed = run("operator list").run().await.out;
        assert!(listed.contains(r"viewer (a\u{1b}[2J\u{a}root\u{202e})"), "{listed:?}");
        let listed = run("service-account list").run().await.out;
        assert!(listed.contains(r"DNS:x\u{1b}[2J\u{d}"), "{listed:?}");
        for command in ["operator disable", "operator unlock"] {
            let ended = run(command).argument("--username").argument("no\u{1b}[2J\nbody\u{202e}").run().await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
            assert!(!ended.err.contains(['\u{1b}', '\u{202e}']), "{ended:?}");
        }
        let ended = run("backup").argument("a\u{1b}[2J/\nb").run().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
        assert!(!ended.err.contains('\u{1b}'), "{ended:?}");
    }

    async fn names_of_accounts_and_certificates_show_every_character(h: Harness) {
        let run = |arguments: &str, flag: &str, value: &str| {
            leadsmith(arguments)
                .database(&h.database.url)
                .quiet()
                .argument(flag)
                .argument(value)
                .run()
        };
        let create = "service-account create --role VIEWER";
        for wrong in ["", "a b", "\u{3164}", "a\u{200b}", "a\u{1b}", "\u{301}a", &"a".repeat(65)] {
            let ended = run(create, "--name", wrong).await;
            assert_eq!(ended.code, Some(1), "{wrong:?}: {ended:?}");
            assert!(ended.err.contains("a service account's name is 1 to 64"), "{ended:?}");
        }
        let ended = run(create, "--name", " bu\u{308}ro ").await;
        assert!(ended.out.ends_with(" büro VIEWER\n"), "{ended:?}");
        for spelling in ["büro", "bu\u{308}ro"] {
            let ended = run("service-account create-key", "--name", spelling).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        let ended = run(create, "--name", "büro").await;
        assert!(ended.err.contains("already"), "{ended:?}");

        let set = "service-account set-certificate --name büro";
        for wrong in [
            "DNS:", "DNS:a b", "DNS:a\u{1b}", "URI:a\nb", "DNS:bücher.example", "DNS:a\u{202e}",
            "DNS:*.example", "x.example", &format!("DNS:{}", "a".repeat(197)),
        ] {
            let ended = run(set, "--certificate-name", wrong).await;
            assert_eq!(ended.code, Some(1), "{wrong:?}: {ended:?}");
            assert!(ended.err.contains("a certificate's name is DNS:NAME or URI:NAME"), "{ended:?}");
        }
        let longest = format!("DNS:{}", "a".repeat(196));
        let ended = run(set, "--certificate-name", &longest).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let accounts = h.console().accounts().await.unwrap();
        assert_eq!(accounts[0].0.certificate_name.as_ref(), Some(&longest));
    }
}

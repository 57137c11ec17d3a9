//! The accepted command lines, and the help.

use std::collections::BTreeSet;

use super::SECRET;
use crate::program::leadsmith;

/// The subcommands in a help text.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The flags in a help text, each with its description.
fn flags(help: &str) -> Vec<(String, String)> {
    let mut flags: Vec<(String, String)> = Vec::new();
    let options = help.lines().skip_while(|line| *line != "Options:").skip(1);
    for line in options {
        let text = line.trim_start();
        let long = match text.as_bytes() {
            [b'-', b'-', ..] => Some(text),
            [b'-', _, b',', b' ', b'-', b'-', ..] => Some(&text[4..]),
            _ => None,
        };
        if let Some(long) = long {
            let name = long.split_whitespace().next().unwrap();
            flags.push((name.to_owned(), long.to_owned()));
        } else if let Some((_, about)) = flags.last_mut() {
            about.push('\n');
            about.push_str(text);
        }
    }
    flags
}

/// An option that applies to a single run must not have a variable, which could be left set by mistake.
const OF_ONE_RUN: [&str; 16] = [
    "--certificate-name",
    "--display-name",
    "--first-day",
    "--force",
    "--id",
    "--last-day",
    "--name",
    "--output",
    "--owner",
    "--role",
    "--service",
    "--steps",
    "--time-zone",
    "--username",
    "--watch",
    "--yes",
];

fn variable(flag: &str) -> String {
    let name = flag.trim_start_matches('-').replace('-', "_");
    format!("LEADSMITH_{}", name.to_uppercase())
}

#[tokio::test]
async fn every_help_names_the_environment_variable_of_every_setting() {
    let mut paths = vec![String::new()];
    let mut commands = BTreeSet::new();
    let mut flags_seen = BTreeSet::new();
    while let Some(path) = paths.pop() {
        let ended = leadsmith(&format!("{path} --help")).run().await;
        assert_eq!(ended.err, "", "{path}");
        let help = ended.done();
        let below = subcommands(&help);
        if below.is_empty() {
            commands.insert(path.trim().to_owned());
        }
        paths.extend(below.iter().map(|name| format!("{path} {name}")));
        for (flag, about) in flags(&help) {
            if ["--help", "--version"].contains(&flag.as_str()) {
                continue;
            }
            if OF_ONE_RUN.contains(&flag.as_str()) {
                assert!(!about.contains("[env: "), "{path} {flag}: {about}");
            } else {
                let variable = format!("[env: {}", variable(&flag));
                assert!(about.contains(&variable), "{path} {flag}: {about}");
            }
            flags_seen.insert(flag);
        }
    }
    for command in [
        "serve",
        "demo",
        "migrate up",
        "migrate down",
        "migrate status",
        "operator create",
        "operator list",
        "operator set-password",
        "operator set-role",
        "operator disable",
        "operator enable",
        "operator unlock",
        "service-account create",
        "service-account list",
        "service-account create-key",
        "service-account disable",
        "service-account enable",
        "service-account revoke-key",
        "backup",
        "restore",
        "healthcheck",
        "dashboard",
        "config",
        "completions",
        "man",
    ] {
        assert!(
            commands.contains(command),
            "{command} is not in {commands:?}"
        );
    }
    assert!(flags_seen.len() >= 20, "{flags_seen:?}");
}

#[tokio::test]
async fn a_password_as_an_argument_is_not_taken() {
    let create = "operator create --username ada --role SALES --password";
    for arguments in [format!("{create} {SECRET}"), format!("{create}={SECRET}")] {
        let ended = leadsmith(&arguments).run().await;
        ended.misused("unexpected argument '--password'");
    }
}

#[tokio::test]
async fn what_a_command_is_to_do_comes_from_its_flags_alone() {
    let with_all = |arguments: &str| {
        let run = leadsmith(arguments).quiet();
        OF_ONE_RUN.iter().fold(run, |run, flag| {
            let value = match *flag {
                "--force" | "--yes" => "true",
                "--id" => "0190a5f2-0000-7000-8000-000000000001",
                "--role" => "ADMIN",
                "--steps" => "2",
                _ => "ada",
            };
            run.env(&variable(flag), value)
        })
    };
    for (arguments, missing) in [
        ("operator create", "--username"),
        ("operator create --username ada", "--role"),
        ("operator disable", "--username"),
        ("service-account create --role SALES", "--name"),
        ("service-account create-key", "--name"),
        ("service-account disable", "--name"),
        ("service-account revoke-key", "--id"),
    ] {
        with_all(arguments).run().await.misused(missing);
    }
    let folder = tempfile::tempdir().unwrap();
    let (url, backup) = (
        format!("sqlite:{}", folder.path().join("x.db").display()),
        folder.path().join("backup.db"),
    );
    leadsmith("migrate up").database(&url).run().await.done();
    std::fs::write(&backup, "something else").unwrap();
    for command in ["backup", "restore"] {
        let run = with_all(&format!("{command} {}", backup.display())).database(&url);
        // Without the warnings of variables that are no settings.
        run.env("LEADSMITH_LOG", "error")
            .run()
            .await
            .refused("use --force");
    }
    assert_eq!(std::fs::read(&backup).unwrap(), b"something else");
    let unconfirmed = with_all("migrate down").database(&url);
    let unconfirmed = unconfirmed.env("LEADSMITH_LOG", "error").run().await;
    unconfirmed.refused("add --yes");
    let reverted = with_all("migrate down --yes")
        .database(&url)
        .run()
        .await
        .done();
    assert_eq!(reverted.matches("pending").count(), 1, "{reverted}");
}

//! The documents: every link works, and the manual lists exactly the reasons and settings of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use clap::{Command, CommandFactory};
use leadsmith::cli::Cli;

use crate::harness::markdown::{blocks, documents, in_root, read, table};

/// Each flag with its environment variable and its default. Both may be empty.
type Flags = BTreeMap<String, (String, String)>;

/// The lines outside of code blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line);
        }
    }
    lines
}

/// The targets of the links.
fn links(text: &str) -> Vec<String> {
    let text = prose(text).join("\n");
    // Every second part is code.
    let text: String = text.split('`').step_by(2).collect();
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// The anchors of the headings, as GitHub generates them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() < line.len() && heading.starts_with(' ') {
            let anchor = heading.trim().to_lowercase().replace(' ', "-");
            let is_kept = |c: &char| c.is_alphanumeric() || ['-', '_'].contains(c);
            anchors.insert(anchor.chars().filter(is_kept).collect());
        }
    }
    anchors
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let mut checked = 0;
    for document in documents() {
        for link in links(&read(&document)) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = match file {
                "" => in_root(&document),
                _ => in_root(&document).parent().unwrap().join(file),
            };
            assert!(target.exists(), "{document} links to {link}");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let exists = anchors(&text).contains(anchor);
                assert!(exists, "{document} links to {link}");
            }
            checked += 1;
        }
    }
    assert!(checked > 50);
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines");
}

#[test]
fn the_summary_lists_every_chapter_once() {
    let mut listed = links(&read("docs/src/SUMMARY.md"));
    listed.sort();
    let chapters: Vec<String> = documents()
        .iter()
        .filter_map(|path| path.strip_prefix("docs/src/"))
        .filter(|name| *name != "SUMMARY.md")
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, chapters);
}

/// The reasons of `error_reason.proto`, each with the code at the start of its comment.
fn reasons() -> BTreeMap<String, String> {
    let proto = read("proto/leadsmith/v1/error_reason.proto");
    let (_, body) = proto.split_once("enum ErrorReason {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let mut reasons = BTreeMap::new();
    let mut code = None;
    for line in body.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("// ") {
            code = code.or(comment.split('.').next());
            continue;
        }
        if let Some(value) = line.strip_prefix("ERROR_REASON_")
            && let Some((reason, number)) = value.split_once(" = ")
            && number != "0;"
        {
            reasons.insert(reason.to_owned(), code.unwrap_or_default().to_owned());
        }
        code = None;
    }
    reasons
}

#[test]
fn every_reason_is_a_row_of_the_manual_and_the_other_way_round() {
    let manual = read("docs/src/errors.md");
    let rows = table(&manual, "| Reason | Code | What to do |");
    let listed: BTreeMap<String, String> = rows
        .iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(listed.len(), rows.len(), "a reason is listed twice");
    assert_eq!(listed, reasons());
}

/// The flags of a command, without those of its subcommands.
fn flags(command: &Command) -> Flags {
    let mut flags = Flags::new();
    for argument in command.get_arguments() {
        let Some(name) = argument.get_long() else {
            continue;
        };
        let variable = argument.get_env().map(|name| name.to_string_lossy());
        let default = argument.get_default_values().first();
        let default = default.map(|value| value.to_string_lossy());
        flags.insert(
            format!("--{name}"),
            (
                variable.unwrap_or_default().into_owned(),
                default.unwrap_or_default().into_owned(),
            ),
        );
    }
    flags
}

/// The flags of a command and of all its subcommands.
fn all_flags(command: &Command) -> Flags {
    let mut all = flags(command);
    for subcommand in command.get_subcommands() {
        all.extend(all_flags(subcommand));
    }
    all
}

/// The flags in a table of settings.
fn listed(text: &str, header: &str) -> Flags {
    let words = |cell: &str| -> Vec<String> {
        let words = cell.split(", ").map(|word| word.trim_matches('`'));
        words.map(str::to_owned).collect()
    };
    let mut listed = Flags::new();
    for row in table(text, header) {
        let default = row[2].trim_matches('`');
        for (flag, variable) in words(&row[0]).into_iter().zip(words(&row[1])) {
            listed.insert(flag, (variable, default.to_owned()));
        }
    }
    listed
}

#[test]
fn every_setting_is_in_the_manual_with_its_variable_and_its_default() {
    let manual = read("docs/src/settings.md");
    let command = Cli::command();
    let mut serve = flags(command.find_subcommand("serve").unwrap());
    serve.extend(flags(&command));
    let header = "| Flag of `serve` | Environment variable | Default | Meaning |";
    assert_eq!(listed(&manual, header), serve);

    let mut healthcheck = flags(command.find_subcommand("healthcheck").unwrap());
    // The same as for `serve`.
    for flag in ["--listen", "--tls-certificate"] {
        assert_eq!(healthcheck.remove(flag), serve.remove(flag));
    }
    // In the table of flags without a variable.
    healthcheck.remove("--service");
    let header = "| Flag of `healthcheck` | Environment variable | Default | Meaning |";
    assert_eq!(listed(&manual, header), healthcheck);

    let dashboard = flags(command.find_subcommand("dashboard").unwrap());
    let header = "| Flag of `dashboard` | Environment variable | Default | Meaning |";
    let own = listed(&manual, header);
    let with_variable = dashboard
        .iter()
        .filter(|(_, (variable, _))| !variable.is_empty());
    for (flag, value) in with_variable {
        let other = match flag.as_str() {
            "--listen" | "--tls-certificate" => continue,
            flag => healthcheck.get(flag).or(own.get(flag)),
        };
        assert_eq!(other, Some(value), "{flag}");
    }
    assert!(
        own.keys().all(|flag| dashboard.contains_key(flag)),
        "{own:?}"
    );
}

#[test]
fn every_flag_without_a_variable_is_in_the_manual() {
    let manual = read("docs/src/settings.md");
    let rows = table(&manual, "| Flag | Default | Command | Meaning |");
    let listed: BTreeSet<String> = rows
        .iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    let flags: BTreeSet<String> = all_flags(&Cli::command())
        .into_iter()
        .filter(|(_, (variable, _))| variable.is_empty())
        .map(|(flag, _)| flag)
        .collect();
    assert_eq!(listed, flags);
}

#[test]
fn the_example_of_the_readme_is_that_of_the_manual() {
    let python = |document: &str| {
        let blocks = blocks(&read(document));
        let block = blocks.into_iter().find(|block| block.language == "python");
        block.unwrap().lines
    };
    assert_eq!(python("README.md"), python("docs/src/clients.md"));
}

//! The manual lists exactly the events that the code logs, with their levels and fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The levels and the fields of each message. A message that is logged at several places has all of them.
type Events = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a macro call whose opening parenthesis was read already.
fn arguments(code: &str) -> Vec<String> {
    let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
    let mut all = vec![String::new()];
    for character in code.chars() {
        let ends = !is_text && depth == 0;
        match character {
            ')' if ends => break,
            ',' if ends => {
                all.push(String::new());
                continue;
            }
            '"' if !is_escaped => is_text = !is_text,
            '(' | '[' | '{' if !is_text => depth += 1,
            ')' | ']' | '}' if !is_text => depth -= 1,
            _ => {}
        }
        is_escaped = is_text && character == '\\' && !is_escaped;
        all.last_mut().unwrap().push(character);
    }
    let all = all.iter().map(|argument| argument.trim().to_owned());
    all.filter(|argument| !argument.is_empty()).collect()
}

/// The name of a field in an argument such as `name = value`, `%name` or `?name`.
fn field(argument: &str) -> String {
    let comment = |line: &&str| !line.trim_start().starts_with("//");
    let argument = argument
        .lines()
        .filter(comment)
        .collect::<Vec<_>>()
        .join(" ");
    let name = argument
        .split_once('=')
        .map_or(argument.as_str(), |(name, _)| name);
    name.trim().trim_start_matches(['%', '?']).to_owned()
}

/// The text of a literal, whose line breaks are escaped.
fn literal(argument: &str) -> Option<String> {
    let text = argument.strip_prefix('"')?.strip_suffix('"')?;
    let lines = text.split("\\\n").enumerate();
    let lines = lines.map(|(index, line)| if index == 0 { line } else { line.trim_start() });
    Some(lines.collect())
}

fn logged() -> Events {
    let mut files = Vec::new();
    sources(&Path::new(crate::ROOT).join("src"), &mut files);
    let mut events = Events::new();
    let mut of_calls = BTreeSet::new();
    for file in files {
        let code = fs::read_to_string(&file).unwrap();
        let mut add = |level: &str, message: String, fields: BTreeSet<String>| {
            let event = events.entry(message).or_default();
            event.0.insert(level.to_lowercase());
            event.1.extend(fields);
        };
        for level in ["error", "warn", "info", "debug", "trace"] {
            for (_, rest) in code
                .match_indices(&format!("tracing::{level}!("))
                .map(|(at, found)| (at, &code[at + found.len()..]))
            {
                let mut arguments = arguments(rest);
                let message = literal(&arguments.pop().unwrap());
                let message = message.unwrap_or_else(|| panic!("no message: {}", file.display()));
                add(
                    level,
                    message,
                    arguments.iter().map(|one| field(one)).collect(),
                );
            }
        }
        // The line of a call has one list of fields for all messages.
        for (at, found) in code.match_indices("write_line!(") {
            let arguments = arguments(&code[at + found.len()..]);
            let level = arguments[0].strip_prefix("Level::").unwrap().to_owned();
            add(
                &level,
                literal(&arguments[1]).unwrap(),
                BTreeSet::from(["see below".to_owned()]),
            );
        }
        if let Some((_, rest)) = code.split_once("tracing::event!(") {
            let arguments = arguments(rest);
            of_calls.extend(
                arguments[1..arguments.len() - 1]
                    .iter()
                    .map(|one| field(one)),
            );
        }
    }
    assert!(of_calls.len() > 10, "{of_calls:?}");
    events.insert("FIELDS OF CALLS".to_owned(), (BTreeSet::new(), of_calls));
    events
}

/// The rows of the table with this header, with the words in code of each cell.
fn table(manual: &str, header: &str) -> Vec<Vec<BTreeSet<String>>> {
    let words = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let rows = manual.lines().skip_while(|line| *line != header).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows
        .map(|row| row.trim_matches('|').split('|').map(words).collect())
        .collect();
    assert!(!rows.is_empty(), "there is no table {header}");
    rows
}

#[test]
fn the_manual_lists_every_event_with_its_levels_and_fields() {
    let manual = Path::new(crate::ROOT).join("docs/src/logs.md");
    let manual = fs::read_to_string(manual).unwrap();
    let mut listed = Events::new();
    for row in table(&manual, "| Message | Level | Fields | When |") {
        let message = row[0].iter().next().expect("a message").clone();
        let twice = listed.insert(message.clone(), (row[1].clone(), row[2].clone()));
        assert!(twice.is_none(), "{message} is listed twice");
    }
    let calls = table(&manual, "| Field of a call | Meaning |").into_iter();
    let calls = calls.flat_map(|row| row[0].clone()).collect();
    listed.insert("FIELDS OF CALLS".to_owned(), (BTreeSet::new(), calls));
    let logged = logged();
    for (message, event) in &logged {
        assert_eq!(listed.get(message), Some(event), "{message}");
    }
    for message in listed.keys() {
        assert!(logged.contains_key(message), "not logged: {message}");
    }
}

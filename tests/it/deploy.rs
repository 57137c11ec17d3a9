//! The files under `deploy/`: they use metrics, settings and pages that exist, and every alert is documented and tested.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use clap::CommandFactory;
use leadsmith::cli::Cli;
use serde_json::Value;

use crate::harness::markdown::{in_root, read};

const RULES: &str = "deploy/prometheus/leadsmith.rules.yml";
const TESTS: &str = "deploy/prometheus/leadsmith.rules.test.yml";
const CONFIG: &str = "deploy/prometheus/prometheus.yml";
const DASHBOARD: &str = "deploy/grafana/leadsmith.json";
const UNIT: &str = "deploy/systemd/leadsmith.service";
/// The largest exposure of the unit, as `systemd-analyze security` computes it, in tenths.
const EXPOSURE: u32 = 20;

/// What follows a text in each line that contains it.
fn after<'a>(text: &'a str, what: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().filter_map(move |line| line.split_once(what));
    lines.map(|(_, rest)| rest.trim().trim_matches('"'))
}

/// The words of a text that may be names of metrics or variables.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(move |word| word.starts_with(prefix))
}

/// The names of the metrics in the manual, which are those of a server.
fn metrics() -> BTreeSet<String> {
    let manual = read("docs/src/metrics.md");
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Checks that a text uses no other metrics.
fn metrics_exist(file: &str, text: &str, metrics: &BTreeSet<String>) {
    let mut found = 0;
    for prefix in ["leadsmith_", "grpc_server_"] {
        for word in words(text, prefix) {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|ending| word.strip_suffix(ending))
                .filter(|name| metrics.contains(*name));
            let exists = family.is_some() || metrics.contains(word);
            assert!(exists, "{file} uses {word}, which is not in the manual");
            found += 1;
        }
    }
    assert!(found > 10, "{file}");
}

#[test]
fn alerts_and_dashboard_use_metrics_that_exist() {
    let metrics = metrics();
    metrics_exist(RULES, &read(RULES), &metrics);
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut queries = String::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        for target in targets {
            queries += target["expr"].as_str().unwrap();
            queries.push('\n');
        }
    }
    metrics_exist(DASHBOARD, &queries, &metrics);
    let unused: Vec<&String> = metrics
        .iter()
        .filter(|name| name.contains("leadsmith_") && !queries.contains(name.as_str()))
        .collect();
    assert!(unused.is_empty(), "the dashboard does not show {unused:?}");
}

#[test]
fn every_alert_is_in_the_manual_and_tested() {
    let rules = read(RULES);
    let alerts: Vec<&str> = after(&rules, "- alert: ").collect();
    let manual = read("docs/src/alerts.md");
    let documented: Vec<&str> = after(&manual, "## ").collect();
    assert_eq!(documented, alerts);
    let runbooks: Vec<String> = alerts
        .iter()
        .map(|alert| format!("docs/src/alerts.md#{}", alert.to_lowercase()))
        .collect();
    let linked: Vec<&str> = after(&rules, "runbook: ").collect();
    assert_eq!(linked, runbooks);
    let tests = read(TESTS);
    for alert in &alerts {
        let fires = format!("alertname=\"{alert}\"");
        assert!(tests.contains(&fires), "{TESTS} has no test of {alert}");
    }
    for needed in ["for: ", "severity: ", "summary: ", "description: "] {
        let count = rules.lines().filter(|line| line.trim().starts_with(needed));
        assert_eq!(count.count(), alerts.len(), "{needed}");
    }
}

/// The variables of all settings.
fn variables() -> BTreeSet<String> {
    let command = Cli::command();
    let mut all = BTreeSet::from(["LEADSMITH_DATABASE_URL_FILE".to_owned()]);
    let subcommands = command.get_subcommands();
    for command in subcommands.chain([&command]) {
        let names = command.get_arguments().filter_map(|flag| flag.get_env());
        all.extend(names.map(|name| name.to_str().unwrap().to_owned()));
    }
    all
}

#[test]
fn units_and_manifests_set_settings_that_exist() {
    let mut variables = variables();
    // Of the build of the image.
    variables.extend([
        "LEADSMITH_COMMIT".to_owned(),
        "LEADSMITH_COMMIT_DATE".to_owned(),
    ]);
    let mut files = vec![
        UNIT.to_owned(),
        "deploy/compose.yaml".to_owned(),
        "Dockerfile".to_owned(),
    ];
    for entry in std::fs::read_dir(in_root("deploy/kubernetes")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        files.push(format!("deploy/kubernetes/{name}"));
    }
    let mut found = 0;
    for file in files {
        let text = read(&file);
        for word in words(&text, "LEADSMITH_").filter(|word| *word != "LEADSMITH_") {
            assert!(variables.contains(word), "{file} sets {word}");
            found += 1;
        }
    }
    assert!(found > 15, "{found}");
}

/// Runs a tool on files of the repository and returns what it printed.
fn tool(name: &str, arguments: &[&str], files: &[&str]) -> String {
    let files: Vec<PathBuf> = files.iter().map(|file| in_root(file)).collect();
    let output = Command::new(name).args(arguments).args(files).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{name} cannot be run ({error}): run the tests by scripts/test, which installs it")
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {text}{errors}");
    text
}

#[test]
fn promtool_accepts_the_rules_and_every_alert_fires_and_clears() {
    let promtool = std::env::var("LEADSMITH_TEST_PROMTOOL");
    let promtool = promtool.unwrap_or_else(|_| "promtool".to_owned());
    tool(&promtool, &["check", "rules", "--lint-fatal"], &[RULES]);
    tool(&promtool, &["check", "config"], &[CONFIG]);
    tool(&promtool, &["test", "rules"], &[TESTS]);
}

#[test]
fn the_unit_is_hardened() {
    let arguments = ["security", "--offline=true", "--no-pager"];
    let report = tool("systemd-analyze", &arguments, &[UNIT]);
    let (_, rest) = report.split_once("Overall exposure level").unwrap();
    let (_, level) = rest.split_once(": ").unwrap();
    let level: f32 = level.split_whitespace().next().unwrap().parse().unwrap();
    assert!(level * 10.0 < EXPOSURE as f32, "{level}");
    let unit = read(UNIT);
    // The exit code of a wrong setting, as in docs/src/operate.md.
    assert!(unit.contains("RestartPreventExitStatus=2\n"));
}

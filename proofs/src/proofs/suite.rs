//! The tests that check what no other proof does: Search, ListDuplicates, BatchGet, totals, and the property model, which
//! compares random calls on leads, opportunities, orders and queues with a small model. Each is shown to fail by the bugs
//! in [`TESTS`]. The long form tries 2,000 histories of the model.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::harness::bugs::{Bug, VARIABLE};
use crate::harness::context::Context;
use crate::harness::database::Kind;
use crate::harness::report::Findings;

const MODEL: &str = "model::random_calls_do_what_the_model_says";
/// The tests, and the bug that each must find.
const TESTS: &[(Bug, &str)] = &[
    (
        "query-not-folded",
        "lists::search::a_part_of_a_text_finds_its_lead",
    ),
    (
        "phone-not-compared",
        "lists::duplicates::look_alikes_share_the_email_the_phone_or_the_company_with_the_name",
    ),
    (
        "missing-shifts",
        "lists::batches::leads_are_returned_in_the_order_of_the_ids",
    ),
    (
        "deactivated-uncounted",
        "lists::totals::a_list_and_a_search_say_how_many_leads_match",
    ),
    ("skip-frees-all", MODEL),
    ("archived-takes-orders", MODEL),
    ("revert-keeps-client", MODEL),
];

/// The number of histories in the short and in the long form. With a bug, the first that shows it is the last.
const HISTORIES: [u32; 2] = [40, 2_000];
/// What a test prints that found something else than it should.
const COMPARED: &str = "left == right";
/// The reasons of errors of a machine that is too busy.
const BUSY: [&str; 2] = ["DATABASE_UNAVAILABLE", "DEADLINE_EXCEEDED"];
/// Of the output of a test that failed, this many characters are printed.
const PRINTED: usize = 2_000;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let bug = context.program.bug();
    let database = match context.kind {
        Kind::Sqlite => "sqlite",
        Kind::Postgres => "postgres",
    };
    let chosen = TESTS
        .iter()
        .filter(|(of, _)| bug.is_none_or(|bug| bug == *of));
    let mut names: Vec<String> = chosen
        .map(|(_, test)| format!("{test}::{database}"))
        .collect();
    names.dedup();
    let histories = match bug {
        Some(_) => HISTORIES[1],
        None => context.size(HISTORIES[0], HISTORIES[1]),
    };
    let output = run_tests(context, &names, histories).await?;
    for name in &names {
        let line = |outcome: &str| format!("test {name} ... {outcome}");
        let has = |outcome: &str| output.lines().any(|found| found == line(outcome));
        ensure!(has("ok") || has("FAILED"), "{name} did not run: {output}");
        if has("FAILED") {
            let failure = failure(&output, name);
            // A test may also fail because the machine is too busy. That does not show the bug.
            let is_busy = BUSY.iter().any(|reason| failure.contains(reason));
            let is_shown = failure.contains(COMPARED) && !is_busy;
            ensure!(bug.is_none() || is_shown, "{failure}");
            findings.broke(failure);
        }
    }
    findings.fact("tests", names.len());
    findings.fact("histories of the model", histories);
    findings.finish()
}

/// Runs these tests, of the build with the bugs if one of them is active, and returns the output.
async fn run_tests(context: &Context<'_>, names: &[String], histories: u32) -> Result<String> {
    let tests = context.tests()?;
    let mut command = Command::new(tests.program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADSMITH_")) {
        command.env_remove(name);
    }
    command
        .current_dir(tests.source.join("tests"))
        .env("LEADSMITH_TEST_HISTORIES", histories.to_string())
        .arg("--exact")
        .args(names)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(bug) = context.program.bug() {
        command.env(VARIABLE, bug);
    }
    // Kept until the tests have ended.
    let database = context.database()?;
    if database.kind() == Kind::Postgres {
        let (cluster, _) = database.cluster()?;
        command.env("LEADSMITH_TEST_POSTGRES_URL", cluster.url("postgres"));
    }
    let output = command.output().await.context("the tests do not start")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a test that failed has printed.
fn failure(output: &str, name: &str) -> String {
    let heading = format!("---- {name} stdout ----");
    let (_, printed) = output.split_once(&heading).unwrap_or_default();
    let printed = printed.split("\n---- ").next().unwrap_or_default();
    let printed: String = printed.trim().chars().take(PRINTED).collect();
    format!("{name} failed: {printed}")
}

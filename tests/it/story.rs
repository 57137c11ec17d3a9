//! The demo's story with the real program and the real grpcurl: every printed line is run in a shell, and its
//! result must be as the line says.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::demo::{Demo, grpcurl};

/// Runs a printed line in a shell. Returns its output and error output, and whether it succeeded.
fn paste(line: &str, token: &str) -> (bool, String) {
    let line = line.replacen("grpcurl", grpcurl().to_str().unwrap(), 1);
    let output = Command::new("sh")
        .arg("-c")
        .arg(line)
        .env("TOKEN", token)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn every_line_the_demo_prints_works() {
    let demo = Demo::start().await;
    let text = &demo.text;
    assert!(text.starts_with("Leadsmith demo is ready"), "{text}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("grpcurl"))
        .collect();
    assert_eq!(lines.len(), 33, "{text}");

    let mut lead = String::new();
    for (number, line) in lines.iter().enumerate() {
        let (mut succeeded, mut answer) = paste(line, &demo.token);
        // The demo's worker needs a moment.
        for _ in 0..100 {
            if number != 27 || answer.contains("provision-client") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            (succeeded, answer) = paste(line, &demo.token);
        }
        // The three calls that the story says are rejected, with readable details, and the stream, which grpcurl ends.
        let refusal = match number {
            5 => Some([
                "InvalidArgument",
                "CURRENT_PASSWORD_REQUIRED",
                "current_password",
            ]),
            11 => Some([
                "FailedPrecondition",
                "OPPORTUNITY_CLOSED",
                "\"allowed\": \"Reopen\"",
            ]),
            15 => Some([
                "FailedPrecondition",
                "LEAD_DEACTIVATED",
                "\"allowed\": \"Reactivate\"",
            ]),
            32 => Some([
                "\"type\": \"lead.created\"",
                "\"type\": \"lead.converted\"",
                "DeadlineExceeded",
            ]),
            _ => None,
        };
        if let Some(parts) = refusal {
            assert!(!succeeded, "{line}\n{answer}");
            for part in parts {
                assert!(answer.contains(part), "{part} is not in\n{answer}");
            }
            continue;
        }
        assert!(succeeded, "{line}\n{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        check(number, &answer, &mut lead);
    }

    assert!(demo.stop().success(), "SIGTERM ends the demo in order");
}

/// The expected content of the response to each line of the story.
fn check(number: usize, answer: &Value, lead: &mut String) {
    match number {
        0 => assert_eq!(answer["principal"]["name"], "ada"),
        1 => {
            let leads = answer["leads"].as_array().unwrap();
            assert_eq!(leads.len(), 8, "the open ones of the dozen");
            assert!(leads.iter().all(|lead| lead["state"] == "LEAD_STATE_OPEN"));
        }
        2 => {
            assert_eq!(answer["leads"].as_array().unwrap().len(), 1);
            *lead = answer["leads"][0]["id"].as_str().unwrap().to_owned();
        }
        3 => assert_eq!(answer["lead"]["id"], *lead),
        4 => {
            assert_eq!(answer["lead"]["phone"], "+351 21 000 000");
            assert_eq!(answer["lead"]["customFields"]["tier"], "gold");
            assert_eq!(answer["lead"]["email"], "maria@aurora.example", "untouched");
        }
        6 => assert_eq!(answer["lead"]["email"], "maria.g@aurora.example"),
        7 => assert_eq!(answer["lead"]["state"], "LEAD_STATE_DEACTIVATED"),
        8 => {
            assert_eq!(answer["leads"][0]["id"], *lead);
            assert_eq!(answer["leads"][0]["state"], "LEAD_STATE_DEACTIVATED");
        }
        9 => {
            let found = answer["opportunities"].as_array().unwrap();
            let of_lead = found.iter().find(|one| one["leadId"] == *lead).unwrap();
            assert_eq!(of_lead["leadState"], "LEAD_STATE_DEACTIVATED");
        }
        10 => {
            assert_eq!(answer["opportunity"]["leadId"], *lead);
            assert_eq!(answer["opportunity"]["state"], "OPPORTUNITY_STATE_LOST");
            assert_eq!(answer["opportunity"]["stage"], "OPPORTUNITY_STAGE_CLOSED");
            let close = &answer["opportunity"]["close"];
            assert_eq!(close["reason"], "No budget this year");
            assert_eq!(close["stage"], "OPPORTUNITY_STAGE_NEGOTIATION");
        }
        12 => {
            assert_eq!(answer["opportunity"]["state"], "OPPORTUNITY_STATE_OPEN");
            assert_eq!(
                answer["opportunity"]["stage"],
                "OPPORTUNITY_STAGE_NEGOTIATION"
            );
            assert_eq!(answer["opportunity"]["close"], Value::Null);
        }
        13 => {
            assert_eq!(answer["opportunity"]["stage"], "OPPORTUNITY_STAGE_BUYING");
            assert_eq!(answer["opportunity"]["probability"], 80);
            assert_eq!(answer["opportunity"]["leadState"], "LEAD_STATE_DEACTIVATED");
        }
        14 => {
            let entries = answer["entries"].as_array().unwrap();
            let rpcs: Vec<&str> = entries
                .iter()
                .map(|entry| entry["rpc"].as_str().unwrap())
                .collect();
            let names = ["Update", "Reopen", "Close", "Create"];
            assert_eq!(
                rpcs,
                names.map(|name| format!("leadsmith.v1.OpportunityService/{name}"))
            );
        }
        16 => assert_eq!(answer["lead"]["state"], "LEAD_STATE_OPEN"),
        17 => {
            assert_eq!(answer["lead"]["state"], "LEAD_STATE_CONVERTED");
            assert_eq!(answer["client"]["id"], *lead);
        }
        18 => assert_eq!(answer["client"]["id"], *lead),
        19 => {
            let entries = answer["entries"].as_array().unwrap();
            let rpcs: Vec<&str> = entries
                .iter()
                .map(|entry| entry["rpc"].as_str().unwrap())
                .collect();
            let names = [
                "Convert",
                "Reactivate",
                "Deactivate",
                "Update",
                "Update",
                "Create",
            ];
            assert_eq!(
                rpcs,
                names.map(|name| format!("leadsmith.v1.LeadService/{name}"))
            );
        }
        20 => {
            assert_eq!(answer["lead"]["conversion"]["clientId"], *lead);
            assert_eq!(answer["client"]["leadIds"][0], answer["lead"]["id"]);
            let outcomes = answer["report"]["outcomes"].as_array().unwrap();
            let kept = "CONVERSION_OUTCOME_KEPT";
            assert!(outcomes.iter().all(|field| field["outcome"] == kept));
        }
        21 => {
            assert_eq!(answer["lead"]["state"], "LEAD_STATE_OPEN");
            assert_ne!(answer["lead"]["id"], *lead);
        }
        22 => {
            assert_eq!(answer["order"]["state"], "ORDER_STATE_COMPLETE");
            assert_eq!(answer["run"]["outcome"], "RUN_OUTCOME_SUCCEEDED");
            assert_eq!(answer["lead"]["state"], "LEAD_STATE_CONVERTED");
            assert_eq!(
                answer["client"]["conversion"]["trigger"],
                "CONVERSION_TRIGGER_ORDER_ACTION"
            );
        }
        23 => assert_eq!(answer["orderQueues"][0]["name"], "default"),
        24 => assert_eq!(answer["run"]["kind"], "RUN_KIND_COMMENT"),
        25 => assert_eq!(answer["runs"].as_array().unwrap().len(), 2),
        26 => assert_eq!(answer["order"]["step"], "setup"),
        27 => {
            let entries = answer["runs"].as_array().unwrap();
            let line =
                |entry: &Value| format!("{} {}", entry["kind"], entry["action"]).replace('"', "");
            let lines: Vec<String> = entries.iter().map(line).collect();
            let expected = [
                "RUN_KIND_RUN provision-client",
                "RUN_KIND_RUN add-services",
                "RUN_KIND_CLAIM add-services",
                "RUN_KIND_RUN sign",
            ];
            assert_eq!(lines, expected);
            assert_eq!(entries[1]["claimRunId"], entries[2]["id"]);
            assert_eq!(entries[2]["actor"]["name"], "worker");
        }
        28 => assert_eq!(answer["lead"]["state"], "LEAD_STATE_OPEN"),
        29 => {
            let found = &answer["duplicates"][0];
            assert_eq!(found["lead"]["lastName"], "Goncalves");
            assert_eq!(found["shared"][0], "SHARED_FIELD_PHONE");
        }
        30 => {
            let dashboard = &answer["dashboard"];
            assert_eq!(dashboard["timeZone"], "Europe/Berlin");
            assert_eq!(dashboard["conversionsByDay"].as_array().unwrap().len(), 30);
            let leads = dashboard["leadsByState"].as_array().unwrap();
            assert!(
                leads.iter().all(|state| state["leads"] != Value::Null),
                "{leads:?}"
            );
        }
        31 => {
            let events = answer["events"].as_array().unwrap();
            let types: Vec<&str> = events
                .iter()
                .map(|event| event["type"].as_str().unwrap())
                .collect();
            assert_eq!(types[0], "lead.created");
            assert_eq!(events[0]["after"]["lead"]["lastName"], "Goncalves");
            assert!(events.iter().all(|event| event["actor"]["name"] == "ada"));
            assert_eq!(events.len(), 3);
        }
        _ => panic!("the story has a line that nobody checks"),
    }
}

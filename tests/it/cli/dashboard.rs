//! `leadsmith dashboard`: the figures of a running server, in a terminal, as JSON, and kept up to date.

use std::time::Duration;

use leadsmith_proto::Lead;
use serde_json::Value;

use crate::harness::{Harness, PASSWORD};
use crate::on_both;
use crate::program::{Program, leadsmith, leadsmith_on_a_terminal};

fn dashboard(h: &Harness, flags: &str) -> Program {
    leadsmith(&format!("dashboard --listen {} {flags}", h.server.address)).quiet()
}

fn as_viewer(h: &Harness, flags: &str) -> Program {
    dashboard(h, flags).env("LEADSMITH_TOKEN", &h.viewer.token)
}

async fn convert(h: &Harness, name: &str) {
    let lead = h.sales.create(Lead {
        last_name: name.into(),
        source: "\u{202e}Fair".into(),
        ..Lead::default()
    });
    let lead = lead.await.unwrap();
    h.sales.convert(&lead.id).await.unwrap();
}

on_both! {
    async fn the_figures_are_shown_as_tables_and_bars_and_as_json(h: Harness) {
        convert(&h, "Lovelace").await;
        let lead = h.sales.create_lead("Byron").await;
        h.sales.create_sale(&lead.id, "Engine").await;
        let shown = as_viewer(&h, "--time-zone Asia/Kathmandu").run().await.done();
        let bar = "#".repeat(44);
        for line in [
            format!("  OPEN                          1  {bar}"),
            "  DEACTIVATED                   0".to_owned(),
            format!("  CONTACT                       1  {bar}"),
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line:?} is not in {shown}");
        }
        assert!(shown.contains("(Asia/Kathmandu)"), "{shown}");
        assert!(shown.contains("\nConversions: 1, median time from creation "), "{shown}");
        assert!(shown.contains("100.0%"), "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");

        let json = as_viewer(&h, "--output json --first-day 2026-01-01 --last-day 2026-01-02").run().await.done();
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["leads_by_state"][2], serde_json::json!({"state": "LEAD_STATE_CONVERTED", "leads": 1}));
        assert_eq!(json["conversions_by_day"].as_array().unwrap().len(), 2);
        assert_eq!(json["median_time_to_conversion"], Value::Null);
        assert_eq!(json["time_zone"], "UTC");
    }

    async fn an_operator_signs_in_for_the_command_only(h: Harness) {
        let sessions = "SELECT count(*) FROM sessions";
        let before = h.count(sessions).await;
        let shown = dashboard(&h, "--username viewer").input(&format!("{PASSWORD}\n")).run().await.done();
        assert!(shown.contains("\nLeads\n"), "{shown}");
        assert_eq!(h.count(sessions).await, before, "the session was ended");
        let refused = dashboard(&h, "--username viewer").input("wrong\n").run().await;
        refused.refused("cannot be shown");
        let without = dashboard(&h, "").run().await;
        without.refused("no credentials: set LEADSMITH_TOKEN");
        assert_eq!(without.code, Some(2));
        let unknown = as_viewer(&h, "--time-zone Mars").run().await;
        unknown.refused("time_zone is \"Mars\"");
        let file = h.database.folder.path().join("token");
        std::fs::write(&file, format!("{}\n", h.viewer.token)).unwrap();
        let shown = dashboard(&h, "--output json").env("LEADSMITH_TOKEN_FILE", file.to_str().unwrap());
        shown.run().await.done();
        let nobody = dashboard(&h, "").env("LEADSMITH_TOKEN", "not-a-token").run().await;
        nobody.refused("cannot be shown");
        leadsmith("dashboard --listen 127.0.0.1:1").quiet().env("LEADSMITH_TOKEN", "x").run().await.refused("cannot be shown");
    }

    async fn it_is_kept_up_to_date_by_the_events(h: Harness) {
        let folder = tempfile::tempdir().unwrap();
        let printed = folder.path().join("printed");
        let mut command = tokio::process::Command::new(crate::program::binary());
        let mut child = command
            .args(["dashboard", "--watch", "--output", "json", "--listen", &h.server.address.to_string()])
            .env("LEADSMITH_TOKEN", &h.viewer.token)
            .stdout(std::fs::File::create(&printed).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = || -> Vec<Value> {
            let text = std::fs::read_to_string(&printed).unwrap();
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            whole.map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let shows = async |conversions: i64| {
            for _ in 0..1_000 {
                if lines().last().is_some_and(|line| line["conversions"] == conversions) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("{conversions} is not shown: {:?}", lines());
        };
        shows(0).await;
        convert(&h, "Lovelace").await;
        shows(1).await;
        for name in ["Byron", "Babbage", "Menabrea"] {
            convert(&h, name).await;
        }
        shows(4).await;
        // A reading for each second with a change, not for each of the eight changes.
        assert!(lines().len() <= 7, "{:?}", lines());
        let interrupt = format!("kill -INT {}", child.id().unwrap());
        std::process::Command::new("sh").args(["-c", &interrupt]).status().unwrap();
        assert!(child.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn colours_are_for_terminals() {
    let h = Harness::start(crate::harness::Backend::Sqlite).await;
    h.sales.create_lead("Lovelace").await;
    let flags = format!("dashboard --listen {}", h.server.address);
    let coloured = leadsmith_on_a_terminal(&flags)
        .env("LEADSMITH_TOKEN", &h.viewer.token)
        .run()
        .await;
    assert!(
        coloured.out.contains("\u{1b}[1mLeads\u{1b}[0m"),
        "{coloured:?}"
    );
    let plain = leadsmith_on_a_terminal(&flags)
        .env("LEADSMITH_TOKEN", &h.viewer.token)
        .env("NO_COLOR", "1");
    let plain = plain.run().await;
    assert!(!plain.out.contains('\u{1b}'), "{plain:?}");
}

//! Servers whose clocks differ, and clocks that run ahead for a moment: the order of changes is kept, nothing is
//! valid for too long, and nothing is deleted too early.

use std::time::Duration as StdDuration;

use chrono::{DateTime, Duration, Utc};
use leadsmith::app::{self, Running};
use leadsmith::core::clock::Clock;
use leadsmith::core::role::Role;
use leadsmith_proto::{self as proto, Lead};
use tonic_types::StatusExt;

use crate::harness::{
    Backend, Caller, Harness, OF_LEADS, PASSWORD, eventually, is_let_in, reason, sign_in,
};
use crate::on_both;

/// Another server on the same database with a clock that is wrong by this much. It continuously deletes records
/// that were kept long enough.
async fn another(h: &Harness, wrong: Duration) -> Running {
    let clock = Clock::default();
    clock.set_wrong(wrong);
    let mut settings = h.database.settings();
    settings.limits.retention_interval = StdDuration::from_millis(20);
    app::start(&settings, clock).await.unwrap()
}

/// Long enough for several rounds.
async fn a_while() {
    tokio::time::sleep(StdDuration::from_millis(400)).await;
}

fn time(lead: &Lead) -> DateTime<Utc> {
    let time = lead.update_time.unwrap();
    DateTime::from_timestamp(time.seconds, time.nanos.try_into().unwrap()).unwrap()
}

async fn create(caller: &Caller, request_id: &str) -> Lead {
    let request = proto::CreateLeadRequest {
        lead: Some(Lead {
            last_name: "Lovelace".into(),
            ..Lead::default()
        }),
        request_id: request_id.into(),
        ..Default::default()
    };
    let answer = caller.leads().create(request).await.unwrap();
    answer.into_inner().lead.unwrap()
}

async fn phone(caller: &Caller, id: &str, phone: &str) -> Lead {
    let change = Lead {
        id: id.into(),
        phone: phone.into(),
        ..Lead::default()
    };
    caller.update(change, &["phone"]).await.unwrap()
}

fn manual(key: &str) -> proto::OrderAction {
    proto::OrderAction {
        key: key.into(),
        name: key.into(),
        r#type: proto::ActionType::Manual.into(),
        ..Default::default()
    }
}

on_both! {
    async fn lists_are_in_the_order_in_which_things_were_made(h: Harness) {
        let behind = another(&h, Duration::seconds(-5)).await;
        let callers = [h.sales.clone(), h.sales.at(&behind)];
        let lead = h.sales.create_lead("Clocks").await;
        let keys: Vec<String> = (0..8).map(|n| format!("action-{n}")).collect();
        let actions = keys.iter().map(|key| manual(key)).collect();
        let order = h.sales.create_order(&lead.id, actions).await;
        for (n, key) in keys.iter().enumerate() {
            callers[n % 2].run(&order.id, key).await.unwrap();
        }
        let mut runs = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListRunsRequest {
                order_id: order.id.clone(),
                page_size: 3,
                page_token,
            };
            let page = callers[1].orders().list_runs(request).await.unwrap().into_inner();
            runs.extend(page.runs.into_iter().map(|run| run.action));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        runs.reverse();
        assert_eq!(runs, keys);

        let (mut orders, mut opportunities) = (vec![order.id], Vec::new());
        for n in 0..6 {
            let caller = &callers[n % 2];
            orders.push(caller.create_order(&lead.id, Vec::new()).await.id);
            let request = proto::CreateOpportunityRequest {
                opportunity: Some(proto::Opportunity {
                    lead_id: lead.id.clone(),
                    name: format!("opportunity {n}"),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let made = caller.opportunities().create(request).await.unwrap().into_inner();
            opportunities.push(made.opportunity.unwrap().id);
        }
        for caller in callers {
            let request = proto::ListOrdersRequest { lead_id: lead.id.clone(), ..Default::default() };
            let listed = caller.orders().list(request).await.unwrap().into_inner().orders;
            let listed: Vec<String> = listed.into_iter().rev().map(|order| order.id).collect();
            assert_eq!(listed, orders);
            let request = proto::ListOpportunitiesRequest {
                lead_id: lead.id.clone(),
                ..Default::default()
            };
            let listed = caller.opportunities().list(request).await.unwrap().into_inner();
            let listed = listed.opportunities.into_iter().rev().map(|one| one.id);
            assert_eq!(listed.collect::<Vec<_>>(), opportunities);
        }
        behind.stop().await.unwrap();
    }

    async fn a_lockout_lasts_for_its_time_though_the_clock_ran_ahead(h: Harness) {
        h.operator("ada", Role::Sales).await;
        h.clock.set_wrong(Duration::days(1));
        for _ in 0..5 {
            sign_in(h.channel(), "ada", "not the password").await.unwrap_err();
        }
        h.clock.set_wrong(Duration::zero());
        let status = sign_in(h.channel(), "ada", PASSWORD).await.unwrap_err();
        assert_eq!(reason(&status), "PASSWORD_ATTEMPTS_EXCEEDED");
        let details = status.get_error_details();
        let wait = details.retry_info().and_then(|info| info.retry_delay).unwrap();
        assert!(wait <= StdDuration::from_secs(15 * 60), "{wait:?}");
        h.clock.advance(Duration::minutes(15));
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
    }

    async fn wrong_passwords_count_though_the_clock_runs_ahead(h: Harness) {
        h.operator("ada", Role::Sales).await;
        for _ in 0..5 {
            sign_in(h.channel(), "ada", "not the password").await.unwrap_err();
        }
        for _ in 0..3 {
            // While the clock is wrong, SQLite counts attempts by it. Afterwards no attempt is forgotten.
            h.clock.set_wrong(Duration::days(1));
            let status = sign_in(h.channel(), "ada", "not the password").await.unwrap_err();
            if h.database.backend == Backend::Postgres {
                assert_eq!(reason(&status), "PASSWORD_ATTEMPTS_EXCEEDED");
            }
            h.clock.set_wrong(Duration::zero());
            let status = sign_in(h.channel(), "ada", PASSWORD).await.unwrap_err();
            assert_eq!(reason(&status), "PASSWORD_ATTEMPTS_EXCEEDED");
        }
    }

    async fn a_session_lasts_for_its_time_though_the_clock_ran_ahead(h: Harness) {
        h.clock.set_wrong(Duration::days(3_650));
        let token = sign_in(h.channel(), "sales", PASSWORD).await.unwrap();
        let ahead = h.with_token(&token);
        assert!(is_let_in(&ahead).await);
        h.clock.set_wrong(Duration::zero());
        // New servers, because they have not cached the token.
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(h.another_server(|_| {}).await);
        }
        assert!(is_let_in(&ahead.at(&servers[0])).await);
        let far = "SELECT count(*) FROM sessions WHERE expire_time > '2030-01-01'";
        eventually("it is cut", async || h.count(far).await == 0).await;
        h.clock.advance(Duration::minutes(11 * 60 + 55));
        assert!(is_let_in(&ahead.at(&servers[1])).await);
        let later = h.clock.now() + Duration::hours(11);
        let later = later.format("%Y-%m-%dT%H:%M:%S+00:00");
        let prolonged = format!("SELECT count(*) FROM sessions WHERE expire_time > '{later}'");
        eventually("it is prolonged", async || h.count(&prolonged).await > 0).await;
        h.clock.advance(Duration::hours(13));
        assert!(!is_let_in(&ahead.at(&servers[2])).await);
    }

    async fn nothing_is_deleted_by_a_clock_that_runs_ahead(h: Harness) {
        let id = "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e57";
        let caller = h.service_account("crm", Role::Sales).await;
        let first = create(&caller, id).await;
        let rows = async || {
            let mut rows = Vec::new();
            for table in ["idempotency_records", "sessions", "events"] {
                rows.push(h.count(&format!("SELECT count(*) FROM {table}")).await);
            }
            rows
        };
        let before = rows().await;
        // A server that starts with a wrong clock, and one whose clock changes while it runs.
        let ahead = another(&h, Duration::days(3_650)).await;
        let clock = Clock::default();
        let mut settings = h.database.settings();
        settings.limits.retention_interval = StdDuration::from_millis(20);
        let leaping = app::start(&settings, clock.clone()).await.unwrap();
        a_while().await;
        clock.set_wrong(Duration::days(3_650));
        a_while().await;
        clock.set_wrong(Duration::zero());
        a_while().await;
        assert_eq!(rows().await, before);
        for server in [&ahead, &leaping] {
            assert_eq!(create(&caller.at(server), id).await, first, "it is the same call");
        }
        assert_eq!(h.count("SELECT count(*) FROM leads").await, 1);
        ahead.stop().await.unwrap();
        leaping.stop().await.unwrap();
    }

    async fn what_a_wrong_clock_stamped_is_kept_for_its_time_and_no_longer(h: Harness) {
        let caller = h.service_account("crm", Role::Sales).await;
        h.clock.set_wrong(Duration::days(3_650));
        create(&caller, "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e58").await;
        h.clock.set_wrong(Duration::zero());
        create(&caller, "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e59").await;
        let server = h.another_server(|settings| {
            settings.limits.retention_interval = StdDuration::from_millis(20);
            settings.limits.keep_events = 3;
        })
        .await;
        h.clock.advance(Duration::hours(2));
        a_while().await;
        let answers = "SELECT count(*) FROM idempotency_records";
        assert_eq!(h.count(answers).await, 2);
        h.clock.advance(Duration::hours(49));
        eventually("both answers go", async || h.count(answers).await == 0).await;
        let events = &format!("SELECT count(*) FROM events WHERE {OF_LEADS}");
        assert_eq!(h.count(events).await, 2);
        h.clock.advance(Duration::hours(24));
        eventually("both events go", async || h.count(events).await == 0).await;
        server.stop().await.unwrap();
    }

    async fn a_record_does_not_stay_in_a_future_that_never_was(h: Harness) {
        // A key does not expire, whatever the clock shows.
        let robot = h.service_account("robot", Role::Sales).await;
        let lead = robot.create_lead("Ahead").await;
        // Slightly ahead, like the clocks of replicas: times still increase.
        h.clock.set_wrong(Duration::seconds(5));
        let little = phone(&robot, &lead.id, "1").await;
        h.clock.set_wrong(Duration::zero());
        let after = phone(&robot, &lead.id, "2").await;
        assert!(time(&after) > time(&little));
        // Far ahead: the next change has the current time.
        h.clock.set_wrong(Duration::days(3_650));
        let far = phone(&robot, &lead.id, "3").await;
        h.clock.set_wrong(Duration::zero());
        let back = phone(&robot, &lead.id, "4").await;
        assert!(time(&far) - time(&back) > Duration::days(3_600));
        let next = phone(&robot, &lead.id, "5").await;
        assert!(time(&next) > time(&back));
        let phones: Vec<String> = h.sales.history(&lead.id).await.into_iter()
            .map(|entry| entry.changes[0].new_value.clone())
            .take(5)
            .collect();
        assert_eq!(phones, ["5", "4", "3", "2", "1"], "in the order of the versions");
    }
}

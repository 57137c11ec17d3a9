//! Many workers, over several servers; and what a claim leaves behind: stored responses, erased leads.

use std::collections::BTreeSet;

use chrono::Duration;
use leadsmith_proto::{self as proto, RunOutcome};
use sea_orm::ConnectionTrait;
use tokio::task::JoinSet;

use super::super::{MANUAL, action};
use super::{claim, claiming, external, order, release, report, reporting, seconds, send};
use crate::harness::{Backend, Harness, eventually, metadata, reason};
use crate::on_both;

/// Orders with the EXTERNAL action `install`.
async fn many(h: &Harness, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        ids.insert(order(h, vec![external("install", &[])]).await.id);
    }
    ids
}

on_both! {
    async fn a_retry_gets_the_same_claims_until_a_lead_of_theirs_is_erased(h: Harness) {
        many(&h, 3).await;
        let request = proto::ClaimActionsRequest {
            request_id: "5d6f52a5-8a3f-4b0c-9c61-6a0f0a4c2f11".into(),
            ..claiming(&["install"], 2)
        };
        let first = send(&h.sales, request.clone()).await.unwrap();
        assert_eq!(first.len(), 2);
        for run in &first {
            report(&h.sales, &run.id, RunOutcome::Succeeded).await.unwrap();
        }
        assert_eq!(send(&h.sales, request.clone()).await.unwrap(), first);
        // Each of them alone ends the stored response, also the one that does not come first.
        let lead = first[1].lead.clone().unwrap();
        let kept = "SELECT count(*) FROM idempotency_records WHERE length(response) > 0";
        let before = h.count(kept).await;
        h.admin.erase(&lead.id).await.unwrap();
        assert_eq!(h.count(kept).await, before - 1);
        let status = send(&h.sales, request).await.unwrap_err();
        assert_eq!((reason(&status), metadata(&status, "lead_id")), ("LEAD_ERASED".to_owned(), lead.id));
        assert_eq!(claim(&h.sales, &["install"], 10).await.len(), 1, "the retry claimed nothing");
    }

    async fn nothing_is_said_of_an_erased_lead(h: Harness) {
        let order = order(&h, vec![external("install", &[]), external("bill", &["install"])]).await;
        h.admin.erase(&order.lead_id).await.unwrap();
        let run = claim(&h.sales, &["install"], 1).await.remove(0);
        let said = proto::ReportActionRequest { note: "Ada's".into(), ..reporting(&run.id, RunOutcome::Succeeded) };
        assert_eq!(reason(&h.sales.orders().report_action(said).await.unwrap_err()), "LEAD_ERASED");
        assert_eq!(reason(&release(&h.sales, &run.id).await.unwrap_err()), "LEAD_ERASED");
        report(&h.sales, &run.id, RunOutcome::Succeeded).await.unwrap();
    }

    async fn many_workers_on_two_servers_get_each_action_once(h: Harness) {
        let orders = many(&h, 40).await;
        let other = h.another_server(|_| {}).await;
        let mut workers = JoinSet::new();
        for number in 0..16 {
            let caller = if number % 2 == 0 { h.sales.clone() } else { h.sales.at(&other) };
            workers.spawn(async move {
                let (mut mine, mut empty) = (Vec::new(), 0);
                while empty < 3 {
                    let found = claim(&caller, &["install"], 1 + number % 3).await;
                    empty = if found.is_empty() { empty + 1 } else { 0 };
                    for run in found {
                        report(&caller, &run.id, RunOutcome::Succeeded).await.unwrap();
                        mine.push(run.order_id);
                    }
                }
                mine
            });
        }
        let mut done: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
        // Workers give up when others are in their way.
        done.extend(claim(&h.sales, &["install"], 100).await.into_iter().map(|run| run.order_id));
        assert_eq!(done.len(), orders.len());
        assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), orders);
        other.stop().await.unwrap();
    }

    async fn an_order_that_a_previous_version_wrote_is_claimed_too(h: Harness) {
        let ready = order(&h, vec![action("sign", MANUAL, &[]), external("install", &["sign"])]).await;
        let waiting = order(&h, vec![action("sign", MANUAL, &[]), external("install", &["sign"])]).await;
        h.sales.run(&ready.id, "sign").await.unwrap();
        let db = h.database.connect().await;
        db.execute_unprepared("DELETE FROM claimable_actions").await.unwrap();
        assert_eq!(claim(&h.sales, &["install"], 10).await, []);
        db.execute_unprepared("UPDATE orders SET claims_version = version - 1").await.unwrap();
        let found = claim(&h.sales, &["install"], 10).await;
        assert_eq!((found.len(), found[0].order_id.as_str()), (1, ready.id.as_str()));
        assert_eq!(claim(&h.sales, &["install"], 10).await, []);
        h.sales.run(&waiting.id, "sign").await.unwrap();
        assert_eq!(claim(&h.sales, &["install"], 10).await.len(), 1);
    }

    async fn what_a_previous_version_left_open_is_not_hidden_by_its_other_orders(h: Harness) {
        for action in ["survey", "ship"] {
            for _ in 0..60 {
                order(&h, vec![external(action, &[])]).await;
            }
        }
        let open = [action("sign", MANUAL, &[])];
        let done = order(&h, [vec![external("train", &[])], open.to_vec()].concat()).await;
        h.sales.run(&done.id, "train").await.unwrap();
        let mut wanted = Vec::new();
        for key in ["install", "train", "bill", "call"] {
            wanted.push((key, order(&h, vec![external(key, &[])]).await.id));
        }
        let failed = order(&h, vec![external("pack", &[])]).await.id;
        let run = claim(&h.sales, &["pack"], 1).await.remove(0);
        report(&h.sales, &run.id, RunOutcome::Failed).await.unwrap();
        let db = h.database.connect().await;
        db.execute_unprepared("DELETE FROM claimable_actions").await.unwrap();
        db.execute_unprepared("UPDATE orders SET claims_version = NULL").await.unwrap();
        // A worker that looked at 50 orders, whatever actions they have, would seldom find all of these.
        let found = async |request| -> BTreeSet<String> {
            send(&h.sales, request).await.unwrap().into_iter().map(|run| run.order_id).collect()
        };
        let ids = |orders: &[(&str, String)]| orders.iter().map(|(_, id)| id.clone()).collect();
        assert_eq!(found(claiming(&["install", "train"], 10)).await, ids(&wanted[..2]));
        assert_eq!(found(claiming(&["bill"], 10)).await, ids(&wanted[2..3]));
        assert_eq!(found(claiming(&["pack", "call"], 10)).await, ids(&wanted[3..]));
        let retry = proto::ClaimActionsRequest { retry_failed: true, ..claiming(&["call", "pack"], 10) };
        assert_eq!(found(retry).await, BTreeSet::from([failed]));
        // The job of a server that starts lists the others, in more than one transaction.
        let other = h.another_server(|_| {}).await;
        let unlisted = "SELECT count(*) FROM orders WHERE coalesce(claims_version, 0) <> version";
        eventually("all orders are listed", async || h.count(unlisted).await == 0).await;
        assert_eq!(h.count("SELECT count(*) FROM claimable_actions WHERE action = 'ship'").await, 60);
        assert_eq!(h.count("SELECT count(*) FROM claimable_actions").await, 125, "the claimed ones too");
        other.stop().await.unwrap();
    }

    async fn a_response_with_large_records_has_fewer_claims(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        // Of 360 KB, in several requests.
        for part in 0..6 {
            let keys: Vec<String> = (0..15).map(|number| format!("field{part}_{number}")).collect();
            let change = proto::Lead {
                id: lead.id.clone(),
                custom_fields: keys.iter().map(|key| (key.clone(), "x".repeat(4_000))).collect(),
                ..Default::default()
            };
            let paths: Vec<String> = keys.iter().map(|key| format!("custom_fields.{key}")).collect();
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            h.sales.update(change, &paths).await.unwrap();
        }
        for _ in 0..9 {
            h.sales.create_order(&lead.id, vec![external("install", &[])]).await;
        }
        let first = claim(&h.sales, &["install"], 100).await.len();
        assert!((4..9).contains(&first), "{first}");
        assert_eq!(first + claim(&h.sales, &["install"], 100).await.len(), 9);
    }
}

/// On PostgreSQL, whose clock decides. With SQLite there is one server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_whose_clocks_differ_agree_on_who_holds_a_claim() {
    let h = Harness::start(Backend::Postgres).await;
    many(&h, 1).await;
    let mut callers = vec![h.sales.clone()];
    let mut servers = Vec::new();
    for wrong in [-10, 10, -3_600] {
        let clock = leadsmith::core::clock::Clock::default();
        clock.set_wrong(Duration::seconds(wrong));
        let server = leadsmith::app::start(&h.database.settings(), clock)
            .await
            .unwrap();
        callers.push(h.sales.at(&server));
        servers.push(server);
    }
    let request = proto::ClaimActionsRequest {
        lease: Some(seconds(10)),
        ..claiming(&["install"], 1)
    };
    for caller in &callers {
        let run = send(caller, request.clone()).await.unwrap().remove(0);
        for other in &callers {
            assert_eq!(send(other, request.clone()).await.unwrap(), []);
            let refused = other.skip(&run.order_id, "install").await.unwrap_err();
            assert_eq!(reason(&refused), "ACTION_CLAIMED");
        }
        // The same principal over another server.
        release(&callers[0], &run.id).await.unwrap();
    }
    for server in servers {
        server.stop().await.unwrap();
    }
}

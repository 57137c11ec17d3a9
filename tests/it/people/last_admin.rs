//! The last enabled ADMIN stays one, whoever changes operators at the same time.

use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use tokio::task::JoinSet;

use super::{disable, enable, get, update};
use crate::harness::{metadata, reason};
use crate::on_both;

/// How many ADMINs are taken away at the same time.
const CALLERS: usize = 64;

on_both! {
    async fn the_last_admin_can_be_neither_disabled_nor_demoted(h: Harness) {
        let id = h.admin.id.to_string();
        let demoted = || proto::Operator {
            id: id.clone(),
            role: proto::Role::Sales.into(),
            ..Default::default()
        };
        let by_machine = h.service_account("robot", Role::Admin).await;
        for refused in [
            disable(&h.admin, &id).await.unwrap_err(),
            update(&by_machine, demoted(), &["role"]).await.unwrap_err(),
        ] {
            assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
            assert_eq!((reason(&refused).as_str(), metadata(&refused, "operator_id")), ("LAST_ADMIN", id.clone()));
        }
        let sentence = h.console().disable_operator("admin").await.unwrap_err().to_string();
        assert!(sentence.contains("last enabled operator with the role ADMIN"), "{sentence}");
        let named = proto::Operator { display_name: "Chief".into(), ..demoted() };
        update(&h.admin, named, &["display_name"]).await.expect("its name may change");

        // A disabled ADMIN does not count, and an enabled one does.
        let other = h.operator("other", Role::Admin).await.id.to_string();
        disable(&h.admin, &other).await.unwrap();
        assert_eq!(reason(&disable(&h.admin, &id).await.unwrap_err()), "LAST_ADMIN");
        enable(&h.admin, &other).await.unwrap();
        update(&h.admin, demoted(), &["role"]).await.unwrap();
        assert_eq!(reason(&disable(&by_machine, &other).await.unwrap_err()), "LAST_ADMIN");
    }

    async fn one_admin_is_left_by_64_callers_over_3_servers(h: Harness) {
        let servers = [h.another_server(|_| {}).await, h.another_server(|_| {}).await];
        let robot = h.service_account("robot", Role::Admin).await;
        let mut ids = vec![h.admin.id.to_string()];
        let console = h.console();
        for number in 1..8 {
            let password = crate::harness::PASSWORD.to_owned().into();
            let name = format!("admin{number}");
            let operator = console.create_operator(&name, "", Role::Admin, password).await.unwrap();
            ids.push(operator.id.to_string());
        }
        let callers = [robot.clone(), robot.at(&servers[0]), robot.at(&servers[1])];
        let mut calls = JoinSet::new();
        for number in 0..CALLERS {
            let (caller, id) = (callers[number % 3].clone(), ids[number % ids.len()].clone());
            calls.spawn(async move {
                if (number / 8) % 2 == 0 {
                    return disable(&caller, &id).await;
                }
                let role = proto::Role::Viewer.into();
                update(&caller, proto::Operator { id, role, ..Default::default() }, &["role"]).await
            });
        }
        for outcome in calls.join_all().await {
            if let Err(status) = outcome {
                let reason = reason(&status);
                assert!(["LAST_ADMIN", "WRITE_CONFLICT"].contains(&reason.as_str()), "{status:?}");
            }
        }
        let mut left = 0;
        for id in &ids {
            let operator = get(&robot, id).await;
            left += usize::from(operator.enabled && operator.role() == proto::Role::Admin);
        }
        assert_eq!(left, 1);
        let stored = "SELECT count(*) FROM operators WHERE role = 'ADMIN' AND disable_time IS NULL";
        assert_eq!(h.count(stored).await, 1);
        let gaps = "SELECT count(*) FROM operators WHERE username LIKE 'admin_' AND version <> \
                    (SELECT count(*) FROM history WHERE subject_id = operators.id)";
        assert_eq!(h.count(gaps).await, 0, "one entry for each version");
        for server in servers {
            server.stop().await.unwrap();
        }
    }
}

//! The last enabled ADMIN stays one, however many calls change operators at the same time.

use std::time::Duration;

use leadsmith::app::Running;
use leadsmith::config::ServeSettings;
use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use tokio::task::JoinSet;
use tonic::Status;

use super::{disable, enable, get, update};
use crate::harness::{Backend, Caller, Harness, metadata, reason};
use crate::on_both;

/// How many ADMINs are taken away at the same time.
const CALLERS: usize = 64;
/// How often a call is retried that fails because the machine is busy with other tests.
const RETRIES: usize = 5;

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

    async fn one_of_8_admins_is_left_by_64_callers_over_3_servers(h: Harness) {
        let servers = Servers::start(&h).await;
        let ids = admins(&h, 8).await;
        let outcomes = servers.race((0..CALLERS).map(|number| {
            // Each ADMIN is disabled and demoted, by 4 callers each.
            (ids[number % ids.len()].clone(), (number / 8) % 2 == 0)
        }));
        for outcome in outcomes.await {
            if let Err(status) = outcome {
                assert_eq!(reason(&status), "LAST_ADMIN", "{status:?}");
            }
        }
        servers.stop(&h, &ids).await;
    }

    async fn one_of_64_admins_is_left_by_64_callers_over_3_servers(h: Harness) {
        let servers = Servers::start(&h).await;
        let ids = admins(&h, CALLERS).await;
        let outcomes = servers.race(ids.iter().map(|id| (id.clone(), true))).await;
        let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(reason(&refused[0]), "LAST_ADMIN");
        servers.stop(&h, &ids).await;
    }
}

/// The enabled ADMINs: that of the harness, and new ones with the same password, `count` in all.
async fn admins(h: &Harness, count: usize) -> Vec<String> {
    let console = h.console();
    let password = || crate::harness::PASSWORD.to_owned().into();
    let mut ids = vec![h.admin.id.to_string()];
    for number in 1..count {
        let name = format!("admin{number}");
        let created = console.create_operator(&name, "", Role::Admin, password());
        ids.push(created.await.unwrap().id.to_string());
    }
    ids
}

/// Disables an ADMIN, or gives it another role.
async fn take_away(
    caller: &Caller,
    id: &str,
    is_disabling: bool,
) -> Result<proto::Operator, Status> {
    if is_disabling {
        return disable(caller, id).await;
    }
    let demoted = proto::Operator {
        id: id.to_owned(),
        role: proto::Role::Viewer.into(),
        ..Default::default()
    };
    update(caller, demoted, &["role"]).await
}

/// Three servers on one database, and a service account with the role ADMIN, which is no ADMIN that counts.
struct Servers {
    servers: Vec<Running>,
    /// The account at each server.
    callers: Vec<Caller>,
}

impl Servers {
    async fn start(h: &Harness) -> Self {
        let robot = h.service_account("robot", Role::Admin).await;
        // SQLite has one server.
        let count = match h.database.backend {
            Backend::Sqlite => 1,
            Backend::Postgres => 3,
        };
        let (mut servers, mut callers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            // No call fails because the machine is busy with other tests.
            let patient = |settings: &mut ServeSettings| {
                settings.limits.connection_wait = Duration::from_secs(20);
                settings.limits.default_deadline = Duration::from_secs(30);
            };
            let server = h.another_server(patient).await;
            callers.push(robot.at(&server));
            servers.push(server);
        }
        Self { servers, callers }
    }

    /// Takes ADMINs away at the same time, each by disabling (true) or demoting it.
    async fn race(
        &self,
        changes: impl Iterator<Item = (String, bool)>,
    ) -> Vec<Result<proto::Operator, Status>> {
        let mut calls = JoinSet::new();
        for (caller, (id, is_disabling)) in self.callers.iter().cycle().zip(changes) {
            let caller = caller.clone();
            calls.spawn(async move {
                let mut outcome = take_away(&caller, &id, is_disabling).await;
                for _ in 0..RETRIES {
                    let is_busy = outcome
                        .as_ref()
                        .is_err_and(|status| reason(status) == "DATABASE_UNAVAILABLE");
                    if !is_busy {
                        break;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    outcome = take_away(&caller, &id, is_disabling).await;
                }
                outcome
            });
        }
        calls.join_all().await
    }

    /// Checks that one ADMIN is left and that every change has its entry, and stops the servers.
    async fn stop(self, h: &Harness, ids: &[String]) {
        let mut left = 0;
        for id in ids {
            let operator = get(&self.callers[0], id).await;
            left += usize::from(operator.enabled && operator.role() == proto::Role::Admin);
        }
        assert_eq!(left, 1);
        let stored = "SELECT count(*) FROM operators WHERE role = 'ADMIN' AND disable_time IS NULL";
        assert_eq!(h.count(stored).await, 1);
        let gaps = "SELECT count(*) FROM operators WHERE username LIKE 'admin%' AND version <> \
                    (SELECT count(*) FROM history WHERE subject_id = operators.id)";
        assert_eq!(h.count(gaps).await, 0, "one entry for each version");
        for server in self.servers {
            server.stop().await.unwrap();
        }
    }
}

//! Operators: who sees what, and every change with its history.

use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use tonic::Code;
use uuid::Uuid;

use super::{OTHER, changes, create, disable, enable, get, history, new_operator, update};
use crate::harness::{PASSWORD, eventually, is_let_in, metadata, reason, sign_in, violations};
use crate::on_both;

on_both! {
    async fn everyone_sees_who_can_own_a_lead_and_an_admin_sees_more(h: Harness) {
        let ada = create(&h.admin, "Ada", proto::Role::Sales).await;
        assert_eq!((ada.username.as_str(), ada.display_name.as_str()), ("ada", "ada"));
        assert_eq!((ada.role(), ada.enabled, ada.etag.as_str()), (proto::Role::Sales, true, "\"1\""));
        assert_eq!(ada.create_time, ada.update_time);
        assert_eq!(get(&h.admin, &ada.id).await, ada);
        let public = proto::Operator {
            id: ada.id.clone(),
            username: "ada".into(),
            display_name: "ada".into(),
            enabled: true,
            ..Default::default()
        };
        for caller in [&h.sales, &h.viewer] {
            assert_eq!(get(caller, &ada.id).await, public);
        }
        disable(&h.admin, &ada.id).await.unwrap();
        let list = async |caller: &crate::harness::Caller, enabled| {
            let mut request = proto::ListOperatorsRequest { page_size: 2, enabled, ..Default::default() };
            let mut names = Vec::new();
            loop {
                let page = caller.operators().list(request.clone()).await.unwrap().into_inner();
                let is_public = |one: &proto::Operator| one.etag.is_empty() && one.role == 0;
                assert!(page.operators.iter().all(|one| is_public(one) == (caller.id != h.admin.id)));
                names.extend(page.operators.into_iter().map(|operator| operator.username));
                if page.next_page_token.is_empty() {
                    return names;
                }
                request.page_token = page.next_page_token;
            }
        };
        assert_eq!(list(&h.admin, None).await, ["admin", "sales", "viewer", "ada"]);
        assert_eq!(list(&h.viewer, Some(true)).await, ["admin", "sales", "viewer"]);
        assert_eq!(list(&h.viewer, Some(false)).await, ["ada"]);
    }

    async fn every_change_stands_in_the_history_without_a_secret(h: Harness) {
        let ada = create(&h.admin, "ada", proto::Role::Sales).await;
        let renamed = proto::Operator { display_name: "Ada King".into(), ..ada.clone() };
        let updated = update(&h.admin, renamed.clone(), &["display_name"]).await.unwrap();
        assert_eq!((updated.display_name.as_str(), updated.etag.as_str()), ("Ada King", "\"2\""));
        let again = proto::Operator { etag: String::new(), ..renamed };
        assert_eq!(update(&h.admin, again, &["display_name"]).await.unwrap(), updated, "no change");
        let disabled = disable(&h.admin, &ada.id).await.unwrap();
        assert!(!disabled.enabled && disabled.disable_time.is_some());
        assert_eq!(disable(&h.admin, &ada.id).await.unwrap(), disabled, "no change");
        let enabled = enable(&h.admin, &ada.id).await.unwrap();
        assert!(enabled.enabled && enabled.disable_time.is_none());
        let reset = proto::ResetPasswordRequest {
            id: ada.id.clone(),
            new_password: OTHER.into(),
            ..Default::default()
        };
        h.admin.operators().reset_password(reset).await.unwrap();
        let unlock = proto::UnlockOperatorRequest { id: ada.id.clone(), ..Default::default() };
        h.admin.operators().unlock(unlock).await.unwrap();
        let end = proto::EndOperatorSessionsRequest { id: ada.id.clone(), ..Default::default() };
        h.admin.operators().end_sessions(end).await.unwrap();

        let entries = history(&h.admin, &ada.id).await;
        let told: Vec<_> = entries.iter().rev().map(changes).collect();
        let expected: [&[(&str, &str, &str)]; 7] = [
            &[("username", "", "ada"), ("display_name", "", "ada"), ("role", "", "SALES"), ("enabled", "", "true")],
            &[("display_name", "ada", "Ada King")],
            &[("enabled", "true", "false")],
            &[("enabled", "false", "true")],
            &[("password", "", "")],
            &[("locks", "", "")],
            &[("sessions", "", "")],
        ];
        assert_eq!(told, expected);
        for entry in &entries {
            let actor = entry.actor.as_ref().unwrap();
            assert_eq!((actor.kind(), actor.name.as_str()), (proto::PrincipalKind::Operator, "admin"));
            assert!(entry.rpc.starts_with("leadsmith.v1.OperatorService/"), "{}", entry.rpc);
        }
        let events = "SELECT count(*) FROM events WHERE type LIKE 'operator.%' AND lead_id IN \
                      (SELECT id FROM operators WHERE username = 'ada')";
        assert_eq!(h.count(events).await, 7);
        for table in ["history", "events"] {
            let column = if table == "history" { "changes" } else { "record" };
            let text = format!("SELECT count(*) FROM {table} WHERE CAST({column} AS text) LIKE '%argon2%'");
            assert_eq!(h.count(&text).await, 0, "{table}");
        }
    }

    async fn a_change_needs_the_current_etag_and_fields_that_may_change(h: Harness) {
        let ada = create(&h.admin, "ada", proto::Role::Sales).await;
        update(&h.admin, proto::Operator { display_name: "A".into(), ..ada.clone() }, &[]).await.unwrap();
        let stale = update(&h.admin, ada.clone(), &["role"]).await.unwrap_err();
        assert_eq!((reason(&stale).as_str(), metadata(&stale, "etag").as_str()), ("ETAG_MISMATCH", "\"2\""));
        let request = proto::DisableOperatorRequest {
            id: ada.id.clone(),
            etag: ada.etag.clone(),
            ..Default::default()
        };
        let stale = h.admin.operators().disable(request).await.unwrap_err();
        assert_eq!(reason(&stale), "ETAG_MISMATCH");

        let current = proto::Operator { etag: String::new(), role: 0, ..ada.clone() };
        let wrong = update(&h.admin, current, &["username", "nonsense", "role"]).await.unwrap_err();
        let fields: Vec<_> = violations(&wrong).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["update_mask.paths[0]", "update_mask.paths[1]", "operator.role"]);
        let mut new = new_operator("a b", proto::Role::Unspecified);
        new.password = "short".into();
        new.operator.as_mut().unwrap().display_name = "two\nlines".into();
        let wrong = h.admin.operators().create(new).await.unwrap_err();
        let fields: Vec<_> = violations(&wrong).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["operator.username", "operator.display_name", "operator.role", "password"]);
        let taken = h.admin.operators().create(new_operator("ADA", proto::Role::Admin)).await.unwrap_err();
        assert_eq!(taken.code(), Code::AlreadyExists);
        assert_eq!((reason(&taken).as_str(), metadata(&taken, "operator_id")), ("DUPLICATE_OPERATOR", ada.id));
        let unknown = disable(&h.admin, &Uuid::now_v7().to_string()).await.unwrap_err();
        assert_eq!(reason(&unknown), "OPERATOR_NOT_FOUND");
    }

    async fn what_is_only_validated_changes_nothing(h: Harness) {
        let ada = create(&h.admin, "ada", proto::Role::Admin).await;
        let new = proto::CreateOperatorRequest { validate_only: true, ..new_operator("eve", proto::Role::Sales) };
        let preview = h.admin.operators().create(new).await.unwrap().into_inner().operator.unwrap();
        assert_eq!((preview.id.as_str(), preview.etag.as_str(), preview.create_time), ("", "", None));
        let request = proto::DisableOperatorRequest {
            id: ada.id.clone(),
            validate_only: true,
            ..Default::default()
        };
        let preview = h.admin.operators().disable(request).await.unwrap().into_inner().operator.unwrap();
        assert!(!preview.enabled && preview.etag == ada.etag);
        let request = proto::ResetPasswordRequest {
            id: ada.id.clone(),
            new_password: OTHER.into(),
            validate_only: true,
            ..Default::default()
        };
        h.admin.operators().reset_password(request).await.unwrap();
        assert_eq!(get(&h.admin, &ada.id).await, ada);
        assert_eq!(history(&h.admin, &ada.id).await.len(), 1);
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
        assert!(sign_in(h.channel(), "eve", PASSWORD).await.is_err());
    }

    async fn a_retry_gets_the_first_answer_whatever_the_password(h: Harness) {
        let mut request = proto::CreateOperatorRequest {
            request_id: Uuid::now_v7().to_string(),
            ..new_operator("ada", proto::Role::Sales)
        };
        let first = h.admin.operators().create(request.clone()).await.unwrap().into_inner();
        request.password = OTHER.into();
        let second = h.another_server(|_| {}).await;
        let admin = h.admin.at(&second);
        assert_eq!(admin.operators().create(request.clone()).await.unwrap().into_inner(), first);
        sign_in(h.channel(), "ada", PASSWORD).await.expect("the first password counts");
        request.operator.as_mut().unwrap().display_name = "another".into();
        let reused = admin.operators().create(request).await.unwrap_err();
        assert_eq!(reason(&reused), "REQUEST_ID_REUSED");
        let id = first.operator.unwrap().id;
        let disable = proto::DisableOperatorRequest {
            id: id.clone(),
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let done = h.admin.operators().disable(disable.clone()).await.unwrap().into_inner();
        enable(&h.admin, &id).await.unwrap();
        assert_eq!(admin.operators().disable(disable).await.unwrap().into_inner(), done);
        assert!(get(&h.admin, &id).await.enabled, "the retry changes nothing");
        second.stop().await.unwrap();
    }

    async fn losing_a_role_or_the_account_takes_effect_at_once_here_and_soon_everywhere(h: Harness) {
        let second = h.another_server(|_| {}).await;
        let ada = h.operator("ada", Role::Sales).await;
        let id = ada.id.to_string();
        assert!(is_let_in(&ada).await && is_let_in(&ada.at(&second)).await);
        ada.create_lead("Before").await;
        let demoted = proto::Operator { id: id.clone(), role: proto::Role::Viewer.into(), ..Default::default() };
        update(&h.admin, demoted, &["role"]).await.unwrap();
        let lead = || proto::Lead { last_name: "After".into(), ..Default::default() };
        let refused = ada.create(lead()).await.unwrap_err();
        assert_eq!(reason(&refused), "ROLE_INSUFFICIENT");
        eventually("the role is lost on the other server", async || {
            ada.at(&second).create(lead()).await.is_err()
        })
        .await;
        disable(&h.admin, &id).await.unwrap();
        assert!(!is_let_in(&ada).await);
        eventually("ended on the other server", async || !is_let_in(&ada.at(&second)).await).await;
        enable(&h.admin, &id).await.unwrap();
        assert!(!is_let_in(&ada).await, "the sessions have ended");
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
        second.stop().await.unwrap();
    }

    async fn an_admin_sees_and_removes_locks(h: Harness) {
        let ada = create(&h.admin, "ada", proto::Role::Sales).await;
        for _ in 0..5 {
            sign_in(h.channel(), "ada", "not the right password").await.unwrap_err();
        }
        assert_eq!(reason(&sign_in(h.channel(), "ada", PASSWORD).await.unwrap_err()), "PASSWORD_ATTEMPTS_EXCEEDED");
        let locks = get(&h.admin, &ada.id).await.locks;
        let [lock] = locks.as_slice() else { panic!("{locks:?}") };
        assert_eq!(lock.scope(), proto::OperatorLockScope::SignInFromAddress);
        assert_eq!(lock.address, "127.0.0.1");
        let end = lock.end_time.unwrap().seconds - h.clock.now().timestamp();
        assert!((1..=900).contains(&end), "{end}");
        assert!(get(&h.viewer, &ada.id).await.locks.is_empty());
        let listed = h.admin.operators().list(proto::ListOperatorsRequest::default()).await.unwrap();
        let locked: Vec<_> = listed.into_inner().operators.into_iter().map(|one| one.locks.len()).collect();
        assert_eq!(locked, [0, 0, 0, 1]);
        let request = proto::UnlockOperatorRequest { id: ada.id.clone(), ..Default::default() };
        h.admin.operators().unlock(request).await.unwrap();
        assert!(get(&h.admin, &ada.id).await.locks.is_empty());
        sign_in(h.channel(), "ada", PASSWORD).await.unwrap();
    }

    async fn the_command_line_stands_in_the_history_with_its_user(h: Harness) {
        let console = h.console();
        let ada = console.create_operator("ada", "Ada", Role::Sales, PASSWORD.to_owned().into()).await.unwrap();
        console.set_password("ada", OTHER.to_owned().into()).await.unwrap();
        console.unlock_operator("ada").await.unwrap();
        console.disable_operator("ada").await.unwrap();
        let entries = history(&h.admin, &ada.id.to_string()).await;
        let commands: Vec<_> = entries.iter().rev().map(|entry| entry.rpc.as_str()).collect();
        assert_eq!(commands, [
            "leadsmith operator create", "leadsmith operator set-password", "leadsmith operator unlock",
            "leadsmith operator disable",
        ]);
        for entry in entries {
            let actor = entry.actor.unwrap();
            assert_eq!((actor.kind(), actor.id.as_str()), (proto::PrincipalKind::CommandLine, ""));
            assert!(!actor.name.is_empty());
        }
    }
}

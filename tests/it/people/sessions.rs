//! Sessions: an operator sees and ends their own, an ADMIN those of everyone.

use chrono::Duration;
use leadsmith::core::role::Role;
use leadsmith_proto as proto;
use uuid::Uuid;

use super::history;
use crate::harness::{Caller, PASSWORD, is_let_in, reason, sign_in};
use crate::on_both;

async fn own(caller: &Caller) -> Vec<proto::Session> {
    let mut request = proto::ListSessionsRequest {
        page_size: 2,
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = caller
            .auth()
            .list_sessions(request.clone())
            .await
            .unwrap()
            .into_inner();
        all.extend(page.sessions);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

on_both! {
    async fn an_operator_sees_and_ends_their_own_sessions(h: Harness) {
        let first = h.operator("ada", Role::Viewer).await;
        let mut others = Vec::new();
        for _ in 0..2 {
            h.clock.advance(Duration::seconds(1));
            others.push(h.with_token(&sign_in(h.channel(), "ada", PASSWORD).await.unwrap()));
        }
        let sessions = own(&first).await;
        let current: Vec<_> = sessions.iter().map(|session| session.current).collect();
        assert_eq!(current, [false, false, true], "newest first");
        for session in &sessions {
            assert!(Uuid::try_parse(&session.id).is_ok());
            assert_eq!(session.peer_address, "127.0.0.1");
            assert_eq!(session.last_use_time, session.create_time);
            assert!(session.expire_time.unwrap().seconds - session.create_time.unwrap().seconds >= 12 * 3600);
        }
        let end = |id: &str| proto::EndSessionRequest { id: id.into(), ..Default::default() };
        let checked = proto::EndSessionRequest { validate_only: true, ..end(&sessions[0].id) };
        first.auth().end_session(checked).await.unwrap();
        assert!(is_let_in(&others[1]).await);
        first.auth().end_session(end(&sessions[0].id)).await.unwrap();
        assert!(!is_let_in(&others[1]).await && is_let_in(&others[0]).await);
        let strange = h.viewer.auth().end_session(end(&sessions[1].id)).await.unwrap_err();
        for gone in [strange, first.auth().end_session(end(&sessions[0].id)).await.unwrap_err()] {
            assert_eq!(reason(&gone), "SESSION_NOT_FOUND");
        }
        first.auth().end_other_sessions(proto::EndOtherSessionsRequest::default()).await.unwrap();
        assert!(is_let_in(&first).await && !is_let_in(&others[0]).await);
        assert_eq!(own(&first).await.len(), 1);
        let robot = h.service_account("robot", Role::Admin).await;
        let request = proto::ListSessionsRequest::default();
        let refused = robot.auth().list_sessions(request).await.unwrap_err();
        assert_eq!(reason(&refused), "OPERATOR_REQUIRED");
    }

    async fn an_admin_sees_and_ends_the_sessions_of_an_operator(h: Harness) {
        let ada = h.operator("ada", Role::Viewer).await;
        let other = h.with_token(&sign_in(h.channel(), "ada", PASSWORD).await.unwrap());
        let id = ada.id.to_string();
        let request = proto::ListOperatorSessionsRequest { id: id.clone(), ..Default::default() };
        let listed = h.admin.operators().list_sessions(request).await.unwrap().into_inner().sessions;
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().all(|session| !session.current));
        let newest = listed.iter().max_by_key(|session| session.create_time.unwrap().nanos);
        assert!(newest.is_some());
        let mut request = proto::EndOperatorSessionsRequest {
            id: id.clone(),
            session_id: listed[0].id.clone(),
            ..Default::default()
        };
        h.admin.operators().end_sessions(request.clone()).await.unwrap();
        assert_ne!(is_let_in(&ada).await, is_let_in(&other).await, "one of them has ended");
        let gone = h.admin.operators().end_sessions(request.clone()).await.unwrap_err();
        assert_eq!(reason(&gone), "SESSION_NOT_FOUND");
        request.session_id = String::new();
        h.admin.operators().end_sessions(request).await.unwrap();
        assert!(!is_let_in(&ada).await && !is_let_in(&other).await);
        assert_eq!(history(&h.admin, &id).await.len(), 3);
    }

    async fn the_last_use_is_kept_within_a_minute(h: Harness) {
        let robot = h.service_account("robot", Role::Viewer).await;
        let ada = h.operator("ada", Role::Viewer).await;
        h.clock.advance(Duration::minutes(10));
        let used = h.clock.now();
        assert!(is_let_in(&ada).await && is_let_in(&robot).await);
        let auth = &h.server.app.auth;
        auth.last_use.store(&auth.db).await.unwrap();
        let session = own(&ada).await.remove(0);
        let last = session.last_use_time.unwrap().seconds;
        assert!((used.timestamp()..=used.timestamp() + 60).contains(&last));
        let keys = proto::ListKeysRequest { id: robot.id.to_string(), ..Default::default() };
        let keys = h.admin.service_accounts().list_keys(keys).await.unwrap().into_inner().keys;
        let last = keys[0].last_use_time.unwrap().seconds;
        assert!((used.timestamp()..=used.timestamp() + 60).contains(&last));
    }
}

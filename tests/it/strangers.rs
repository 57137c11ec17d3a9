//! Callers with unknown tokens: they use few resources, and a rejected token is cached only briefly. Rejected
//! calls count as calls.

use std::time::{Duration, Instant};

use leadsmith::auth::tokens::{TokenKind, generate};
use leadsmith::core::role::Role;
use leadsmith_proto::{CreateLeadRequest, GetLeadRequest};
use sea_orm::ConnectionTrait;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::harness::{Backend, Caller, Harness, is_let_in, reason};
use crate::{on_both, raw};

const GET: &str = "leadsmith.v1.LeadService/Get";

/// The results of concurrent calls with each of these tokens.
async fn at_once(h: &Harness, tokens: Vec<String>) -> Vec<Status> {
    let mut calls = JoinSet::new();
    let channels = [h.channel(), h.channel(), h.channel()];
    for (number, token) in tokens.iter().enumerate() {
        let caller = Caller {
            channel: channels[number % channels.len()].clone(),
            ..h.with_token(token)
        };
        calls.spawn(async move {
            let get = GetLeadRequest::default();
            caller.leads().get(get).await.expect_err("a refusal")
        });
    }
    calls.join_all().await
}

fn unknown_tokens(count: usize) -> Vec<String> {
    let kinds = [TokenKind::Session, TokenKind::ApiKey];
    let token = |number: usize| generate(kinds[number % 2]).expose().to_owned();
    (0..count).map(token).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_tokens_take_nobody_elses_room() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let h = Harness::start_with(backend, |settings| settings.limits.max_calls = 4).await;
        let lead = h.sales.create_lead("Room").await;
        for tokens in [unknown_tokens(300), vec![unknown_tokens(1).remove(0); 300]] {
            let strangers = at_once(&h, tokens);
            let known = async {
                for _ in 0..40 {
                    assert_eq!(h.sales.get(&lead.id).await, lead, "is not refused");
                }
            };
            let (refused, ()) = tokio::join!(strangers, known);
            for status in &refused {
                let reasons = ["TOKEN_INVALID", "SERVER_OVERLOADED"];
                assert!(reasons.contains(&reason(status).as_str()), "{status:?}");
            }
            let invalid = |status: &&Status| reason(status) == "TOKEN_INVALID";
            assert!(
                refused.iter().any(|status| invalid(&status)),
                "some are looked up"
            );
        }
        // The burst has no lasting effect.
        let status = at_once(&h, unknown_tokens(1)).await.remove(0);
        assert_eq!(reason(&status), "TOKEN_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_with_one_good_token_wait_for_one_query() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let h = Harness::start(backend).await;
        let lead = h.sales.create_lead("Burst").await;
        // The token is not cached there.
        let server = h.another_server(|_| {}).await;
        let mut calls = JoinSet::new();
        let sales = h.sales.at(&server);
        for _ in 0..300 {
            let (caller, id) = (sales.clone(), lead.id.clone());
            calls.spawn(async move {
                let answer = caller.leads().get(GetLeadRequest { id }).await;
                answer.unwrap().into_inner().lead.unwrap()
            });
        }
        for found in calls.join_all().await {
            assert_eq!(found, lead);
        }
        server.stop().await.unwrap();
    }
}

on_both! {
    async fn a_credential_that_was_refused_is_taken_soon_after_it_becomes_valid(h: Harness) {
        let account = h.service_account("late", Role::Viewer).await;
        let db = h.database.connect().await;
        let revoked = |time: &str| format!("UPDATE api_keys SET revoke_time = {time}");
        db.execute_unprepared(&revoked("'2026-01-01T00:00:00+00:00'")).await.unwrap();
        assert!(!is_let_in(&account).await);
        db.execute_unprepared(&revoked("NULL")).await.unwrap();
        let begun = Instant::now();
        while !is_let_in(&account).await {
            assert!(begun.elapsed() < Duration::from_secs(2), "longer than a second");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A new token that was never tried is accepted by every server immediately.
        let server = h.another_server(|_| {}).await;
        let account = h.service_account("new", Role::Viewer).await;
        assert!(is_let_in(&account.at(&server)).await);
        server.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_refused_count_for_the_calls_a_second() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let h = Harness::start_with(backend, |settings| settings.limits.calls_per_second = 3).await;
        let mut calls = JoinSet::new();
        for _ in 0..12 {
            let viewer = h.viewer.clone();
            calls.spawn(async move {
                let create = CreateLeadRequest::default();
                viewer
                    .leads()
                    .create(create)
                    .await
                    .expect_err("not by a viewer")
            });
        }
        counts(calls.join_all().await, "ROLE_INSUFFICIENT");

        // An unknown RPC, and a malformed message.
        for (rpc, body, refusal) in [
            ("leadsmith.v1.LeadService/Nothing", vec![], "METHOD_UNKNOWN"),
            ("nothing.at/All", vec![], "METHOD_UNKNOWN"),
            (GET, vec![0xff; 9], "MESSAGE_MALFORMED"),
        ] {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let mut calls = JoinSet::new();
            for _ in 0..12 {
                let (channel, body) = (h.channel(), body.clone());
                let header = format!("Bearer {}", h.viewer.token);
                calls.spawn(async move {
                    let answer = raw::call(&channel, rpc, Some(header.as_bytes()), body).await;
                    answer.expect_err("a refusal")
                });
            }
            counts(calls.join_all().await, refusal);
        }
    }
}

/// Some are rejected for their own reason, the others because there were too many of these.
fn counts(refused: Vec<Status>, refusal: &str) {
    let as_such = refused
        .iter()
        .filter(|status| reason(status) == refusal)
        .count();
    let limited = |status: &&Status| reason(status) == "RATE_LIMITED";
    let limited: Vec<&Status> = refused.iter().filter(limited).collect();
    assert_eq!(as_such + limited.len(), refused.len(), "{refused:?}");
    assert!(
        as_such >= 1 && !limited.is_empty(),
        "{refusal}: {as_such} of {}",
        refused.len()
    );
    assert!(
        limited
            .iter()
            .all(|status| status.code() == Code::ResourceExhausted)
    );
}

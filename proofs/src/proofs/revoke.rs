//! Sessions are ended during many concurrent calls. After the response to SignOut the same server admits no call
//! with the token, and after 5 seconds no other server does. Shown to fail by `revoked-stays-cached`.
//!
//! A look-up that starts before a revocation and ends after it is rare here, because concurrent calls with one
//! token share a look-up. That case has its own test in `auth::identity_cache`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use leadsmith_proto as proto;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::client::Caller;
use crate::harness::context::{Context, OPERATOR, PASSWORD};
use crate::harness::report::Findings;

/// How many concurrent calls are made in each session.
const CALLS: usize = 16;
/// How soon every other server must reject the token.
const PROPAGATION: Duration = Duration::from_secs(5);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let servers = context.replicas(&fixture, 2, &[]).await?;
    let first = &servers[0].address;
    // On SQLite there is no other one.
    let second = &servers[servers.len() - 1].address;
    let sessions = context.size(300, 5_000);
    let (mut calls, mut admitted) = (0, 0);
    let mut last = None;
    for _ in 0..sessions {
        let caller = Caller::sign_in(first, OPERATOR, PASSWORD).await?;
        let elsewhere = caller.at(second).await?;
        findings.expect(is_admitted(&elsewhere).await, || {
            "a new session is rejected".into()
        });
        let ended_flag = Arc::new(AtomicBool::new(false));
        let mut concurrent = JoinSet::new();
        for _ in 0..CALLS {
            let (caller, ended_flag) = (caller.clone(), Arc::clone(&ended_flag));
            concurrent.spawn(async move {
                let mut made = 0;
                while !ended_flag.load(Ordering::Relaxed) {
                    is_admitted(&caller).await;
                    made += 1;
                }
                made
            });
        }
        tokio::task::yield_now().await;
        let request = caller.request(proto::SignOutRequest::default());
        caller.auth().sign_out(request).await?;
        let ended = Instant::now();
        ended_flag.store(true, Ordering::Relaxed);
        admitted += usize::from(is_admitted(&caller).await);
        calls += concurrent.join_all().await.into_iter().sum::<usize>();
        admitted += usize::from(is_admitted(&caller).await);
        last = Some((elsewhere, ended));
    }
    findings.expect(admitted == 0, || {
        format!("{admitted} calls were admitted after the response to SignOut")
    });
    if let Some((elsewhere, ended)) = last {
        tokio::time::sleep_until(ended + PROPAGATION).await;
        findings.expect(!is_admitted(&elsewhere).await, || {
            "another server admits a session 5 seconds after its end".into()
        });
    }
    findings.fact("sessions ended", sessions);
    findings.fact("concurrent calls", calls);
    findings.finish()
}

async fn is_admitted(caller: &Caller) -> bool {
    let request = caller.request(proto::WhoAmIRequest {});
    caller.auth().who_am_i(request).await.is_ok()
}

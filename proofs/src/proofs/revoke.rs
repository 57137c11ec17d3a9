//! Sessions are ended while many calls are made in them. After the answer to SignOut no call is admitted by
//! the server that gave it, and within 5 seconds by no other. Shown to fail by `revoked-stays-cached`.
//!
//! A look-up that began before a revocation and ends after it is seldom met here, because calls with one token
//! share theirs: that case has a test of its own in `auth::known`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use leadsmith::wire::proto;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::client::Caller;
use crate::harness::context::{Context, OPERATOR, PASSWORD};
use crate::harness::report::Findings;

/// How many calls are made at once in each session.
const CALLS: usize = 16;
/// Within what every other server refuses it.
const ELSEWHERE: Duration = Duration::from_secs(5);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let servers = context.replicas(&desk, 2, &[]).await?;
    let [here, there] = [&servers[0].address, &servers[1].address];
    let sessions = context.size(300, 5_000);
    let (mut calls, mut came_back) = (0, 0);
    let mut last = None;
    for _ in 0..sessions {
        let caller = Caller::sign_in(here, OPERATOR, PASSWORD).await?;
        let elsewhere = caller.at(there).await?;
        findings.expect(is_let_in(&elsewhere).await, || {
            "a new session is refused".into()
        });
        let over = Arc::new(AtomicBool::new(false));
        let mut beside = JoinSet::new();
        for _ in 0..CALLS {
            let (caller, over) = (caller.clone(), Arc::clone(&over));
            beside.spawn(async move {
                let mut made = 0;
                while !over.load(Ordering::Relaxed) {
                    is_let_in(&caller).await;
                    made += 1;
                }
                made
            });
        }
        tokio::task::yield_now().await;
        let request = caller.request(proto::SignOutRequest::default());
        caller.auth().sign_out(request).await?;
        let ended = Instant::now();
        over.store(true, Ordering::Relaxed);
        came_back += usize::from(is_let_in(&caller).await);
        calls += beside.join_all().await.into_iter().sum::<usize>();
        came_back += usize::from(is_let_in(&caller).await);
        last = Some((elsewhere, ended));
    }
    findings.expect(came_back == 0, || {
        format!("{came_back} calls were admitted after the response to SignOut")
    });
    if let Some((elsewhere, ended)) = last {
        tokio::time::sleep_until(ended + ELSEWHERE).await;
        findings.expect(!is_let_in(&elsewhere).await, || {
            "another server lets a session in 5 seconds after its end".into()
        });
    }
    findings.fact("sessions ended", sessions);
    findings.fact("calls beside", calls);
    findings.finish()
}

async fn is_let_in(caller: &Caller) -> bool {
    let request = caller.request(proto::WhoAmIRequest {});
    caller.auth().who_am_i(request).await.is_ok()
}

//! PostgreSQL fails during writes: it restarts, it fails over to a standby, or it shows a commit that its standby
//! does not have yet. No acknowledged change may be lost, none may be made twice, and every failed call must have
//! a code that the contract allows. Shown to fail by `outage-is-fault` and `seen-is-safe`.

mod leaders;
mod restarts;
mod standby;
mod writers;

use anyhow::Result;

use crate::harness::context::Context;
use crate::harness::report::Findings;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    standby::run(context, &mut findings).await?;
    if !findings.is_broken() {
        restarts::run(context, &mut findings).await?;
    }
    if !findings.is_broken() {
        leaders::run(context, &mut findings).await?;
    }
    findings.finish()
}

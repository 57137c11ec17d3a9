//! PostgreSQL fails while callers write: it restarts, it loses its leader to another, or it shows what
//! its standby does not have yet. Nothing answered OK is lost, nothing is done twice, and who was not
//! answered OK was told why by a code of the contract. Shown to fail by `outage-is-fault` and
//! `seen-is-safe`.

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

//! Replicas of one version start together on an empty database ([`together`]); and this version follows the
//! one before on one schema, under load ([`beside`]).
//!
//! The first is shown to fail by `migrate-unlocked`. The second, on PostgreSQL, where both versions
//! serve for a while, by `retyped-column`, which breaks the older one; on SQLite, where the newer one
//! takes the file over, by `rows-left-behind`, which loses what the older one kept.

mod beside;
mod load;
mod together;

use anyhow::Result;

use crate::harness::context::Context;
use crate::harness::report::Findings;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    together::run(context, &mut findings).await?;
    if !findings.is_broken() {
        beside::run(context, &mut findings).await?;
    }
    findings.finish()
}

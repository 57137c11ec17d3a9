//! Replicas of one version start together on an empty database ([`together`]). This version replaces the previous
//! one on the same database, under load ([`beside`]).
//!
//! The first is shown to fail by `migrate-unlocked`. The second is shown to fail on PostgreSQL, where both
//! versions serve at the same time, by `retyped-column`, which breaks the previous version; and on SQLite, where
//! this version takes over the file, by `rows-left-behind`, which loses the previous version's data.

mod beside;
mod load;
mod together;
mod work;

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

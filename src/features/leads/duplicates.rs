//! Look-alikes: other leads that probably are the same person or company as a lead.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::model::{Lead, Shared};
use super::{Leads, search, store};
use crate::core::page::PageInput;
use crate::db::search::Needles;
use crate::db::select::Part;
use crate::error::Result;

/// Another lead, and what it shares.
#[derive(Clone, Debug)]
pub struct Duplicate {
    /// The other lead.
    pub lead: Lead,
    /// What it shares, at least one.
    pub shared: Vec<Shared>,
}

impl Leads {
    /// Lists the leads in any state that share the email, the phone number, or the company and the name with a
    /// lead, newest first.
    ///
    /// # Errors
    /// `LEAD_NOT_FOUND`, and those of [`Leads::list`].
    pub async fn duplicates(&self, id: Uuid, page: PageInput<i64>) -> Result<Part<Duplicate>> {
        let lead = self.get(id).await?;
        let db = self.db.pages(page.principal).await?;
        list(&db, &lead, page.after, page.limit).await
    }
}

/// Lists the look-alikes of a lead, newest first, below the number `before`.
///
/// # Errors
/// Those of the database.
pub async fn list(
    db: &impl ConnectionTrait,
    lead: &Lead,
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Duplicate>> {
    // The lead itself is found too.
    let limit_of_each = limit + 1;
    let searched = lead.details.searched();
    let mut found = Vec::new();
    let email = lead.details.email_key();
    if !email.is_empty() {
        found.push(store::by_email(db, &email, before, limit_of_each).await?);
    }
    for parts in [searched.same_phone(), searched.same_name()]
        .into_iter()
        .flatten()
    {
        let needles = Needles::parts(parts);
        found.push(search::search(db, &needles, &[], before, limit_of_each).await?);
    }
    // Below the last lead of a list that has ended early, leads of this list may be missing.
    let truncated = found.iter().filter(|part| part.is_truncated);
    let last = truncated
        .filter_map(|part| part.rows.last())
        .map(|lead| lead.seq);
    let last = last.max();
    let leads: BTreeMap<i64, Lead> = found
        .into_iter()
        .flat_map(|part| part.rows)
        .filter(|other| other.id != lead.id && last.is_none_or(|last| other.seq >= last))
        .map(|other| (other.seq, other))
        .collect();
    let newest_first = leads.into_values().rev().filter_map(|other| {
        let shared = Shared::of(&lead.details, &other.details);
        // None if it was changed between two of the queries.
        (!shared.is_empty()).then_some(Duplicate {
            lead: other,
            shared,
        })
    });
    let mut part = Part::whole(
        newest_first
            .take(limit.try_into().unwrap_or(usize::MAX))
            .collect(),
    );
    part.is_truncated = last.is_some();
    Ok(part)
}

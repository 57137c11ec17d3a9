//! Look-alikes: other leads that probably are the same person or company as a lead.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Query, UnionType};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
};
use uuid::Uuid;

use super::model::{Lead, Shared};
use super::{Leads, search, store};
use crate::core::page::PageInput;
use crate::db::entities::lead::{Column, Entity};
use crate::db::search::Needles;
use crate::db::select::{self, Part};
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
    let searched = lead.details.searched();
    let parts = [searched.same_phone(), searched.same_name()];
    let sought = Sought {
        email: lead.details.email_key(),
        needles: parts.into_iter().flatten().map(Needles::pieces).collect(),
        before,
        // The lead itself is found too.
        limit: limit + 1,
    };
    let found = match db.get_database_backend() == DbBackend::Postgres {
        true => sought.on_postgres(db).await?,
        false => sought.on_sqlite(db).await?,
    };
    let is_truncated = found.is_truncated;
    let others = found.rows.into_iter().filter(|other| other.id != lead.id);
    let alike = others.filter_map(|other| {
        let shared = Shared::of(&lead.details, &other.details);
        // None if it was changed between two of the queries.
        (!shared.is_empty()).then_some(Duplicate {
            lead: other,
            shared,
        })
    });
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut part = Part::whole(alike.take(limit).collect());
    part.is_truncated = is_truncated;
    Ok(part)
}

/// What the look-alikes of a lead are found by.
struct Sought {
    /// The normalised email; may be empty.
    email: String,
    /// Pieces of the search text, each with all that a lead must have.
    needles: Vec<Needles>,
    before: Option<i64>,
    limit: u64,
}

impl Sought {
    /// One statement, because each takes PostgreSQL long to plan.
    async fn on_postgres(&self, db: &impl ConnectionTrait) -> Result<Part<Lead>> {
        let by_email = (!self.email.is_empty()).then(|| {
            let found = store::select_by_email(&self.email, self.before, self.limit);
            found.select_only().column(Column::Seq).into_query()
        });
        let by_text = self.needles.iter();
        let by_text =
            by_text.map(|needles| search::numbers_found(needles, self.before, self.limit));
        // In a subquery each, so that each has an order and a limit of its own.
        let mut all = by_email.into_iter().chain(by_text).map(|found| {
            let mut numbers = Query::select();
            numbers.column("seq").from_subquery(found, "found");
            numbers
        });
        let Some(mut numbers) = all.next() else {
            return Ok(Part::default());
        };
        for more in all {
            numbers.union(UnionType::Distinct, more);
        }
        let leads = Entity::find()
            .filter(Column::Seq.in_subquery(numbers))
            .order_by_desc(Column::Seq)
            .limit(self.limit);
        store::read_page(db, leads.build(DbBackend::Postgres), self.limit).await
    }

    async fn on_sqlite(&self, db: &impl ConnectionTrait) -> Result<Part<Lead>> {
        let mut found = Vec::new();
        if !self.email.is_empty() {
            let select = store::select_by_email(&self.email, self.before, self.limit);
            let statement = select.build(DbBackend::Sqlite);
            let statement = select::by_index(statement, "leads", "leads_email_state");
            found.push(store::read_page(db, statement, self.limit).await?);
        }
        for needles in &self.needles {
            found.push(search::search(db, needles, &[], self.before, self.limit).await?);
        }
        // Below the last lead of a list that has ended early, leads of that list may be missing.
        let truncated = found.iter().filter(|part| part.is_truncated);
        let last = truncated
            .filter_map(|part| part.rows.last())
            .map(|lead| lead.seq);
        let last = last.max();
        let leads = found.into_iter().flat_map(|part| part.rows);
        let leads: BTreeMap<i64, Lead> = leads
            .filter(|lead| last.is_none_or(|last| lead.seq >= last))
            .map(|lead| (lead.seq, lead))
            .collect();
        let mut part = Part::whole(leads.into_values().rev().collect());
        part.is_truncated = last.is_some();
        Ok(part)
    }
}

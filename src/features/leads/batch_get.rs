//! Several leads by their ids.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::model::Lead;
use super::{Leads, store};
use crate::error::Result;

/// Leads that were asked for by their ids.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The leads that were found, in the order of the ids.
    pub leads: Vec<Lead>,
    /// The ids that no lead has.
    pub missing: Vec<Uuid>,
    /// The ids that were not looked up, because the response would be too large.
    pub remaining: Vec<Uuid>,
}

impl Leads {
    /// Returns the leads with these ids, each once, in any state.
    ///
    /// # Errors
    /// Those of [`Leads::list`].
    pub async fn batch_get(&self, ids: Vec<Uuid>, principal: Uuid) -> Result<Batch> {
        let mut batch = Batch::default();
        let mut unique: Vec<Uuid> = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        let db = self.db.pages(principal).await?;
        let found = store::get_page(&db, unique).await?;
        // The page is in the order of the ids, so after its last lead nothing was looked up.
        let last = found.rows.last().map(|lead| lead.id);
        let last = last.filter(|_| found.is_truncated);
        let mut leads: HashMap<Uuid, Lead> =
            found.rows.into_iter().map(|lead| (lead.id, lead)).collect();
        let mut seen = HashSet::new();
        for id in ids.into_iter().filter(|id| seen.insert(*id)) {
            match leads.remove(&id) {
                Some(lead) => batch.leads.push(lead),
                None if last.is_some_and(|last| id > last) => batch.remaining.push(id),
                None => batch.missing.push(id),
            }
        }
        Ok(batch)
    }
}

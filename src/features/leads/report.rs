//! What the report of a conversion needs to read: what refers to the lead, and which other leads look like it. It is
//! read before the conversion is decided, for many conversions at a time, so that they need few connections.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::model::{LookAlike, MAX_LOOK_ALIKES, References};
use super::{Leads, duplicates, store};
use crate::db::reader::Reader;
use crate::error::Result;

impl Leads {
    /// What a report says beside the lead's own fields; nothing if there is no such lead.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn references(&self, lead_id: Uuid) -> Result<References> {
        let found = self.references.get(&self.db, lead_id).await?;
        Ok(found.unwrap_or_default())
    }
}

/// How many leads at a time look-alikes are searched for. With more conversions at a time, all of them would wait for the
/// searches, each of which takes PostgreSQL some milliseconds.
const MAX_SEARCHED: usize = 4;

/// Loads it for many leads.
pub(super) fn load(
    db: Reader,
    ids: Vec<Uuid>,
) -> BoxFuture<'static, Result<HashMap<Uuid, References>>> {
    Box::pin(async move {
        let mut all = store::references(&db, ids.clone()).await?;
        if ids.len() > MAX_SEARCHED {
            for id in ids {
                all.entry(id).or_default().look_alikes_omitted = true;
            }
            return Ok(all);
        }
        for lead in store::get_many(&db, ids).await? {
            let found = duplicates::list(&db, &lead, None, MAX_LOOK_ALIKES).await?;
            let look_alikes = found.rows.into_iter().map(|found| LookAlike {
                lead_id: found.lead.id,
                state: found.lead.state(),
                shared: found.shared,
            });
            all.entry(lead.id).or_default().look_alikes = look_alikes.collect();
        }
        Ok(all)
    })
}

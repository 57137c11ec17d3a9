//! What the report of a conversion needs to read: it is read before the conversion is decided.

use uuid::Uuid;

use super::model::{LookAlike, MAX_LOOK_ALIKES, References};
use super::{duplicates, store};
use crate::db::reader::Reader;
use crate::error::Result;

/// What refers to a lead, and which other leads look like it; nothing if there is no such lead.
///
/// # Errors
/// If the database cannot be read.
pub async fn references(db: &Reader, lead_id: Uuid) -> Result<References> {
    let (references, leads) = futures_util::try_join!(
        store::references(db, lead_id),
        store::get_many(db, vec![lead_id])
    )?;
    let Some(lead) = leads.first() else {
        return Ok(references);
    };
    let found = duplicates::list(db, lead, None, MAX_LOOK_ALIKES).await?;
    let look_alikes = found.rows.into_iter().map(|found| LookAlike {
        lead_id: found.lead.id,
        state: found.lead.state(),
        shared: found.shared,
    });
    Ok(References {
        look_alikes: look_alikes.collect(),
        ..references
    })
}

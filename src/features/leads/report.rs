//! What the report of a conversion needs to read: what refers to the lead, and which other leads look like it. It is
//! read before the conversion is decided, for many conversions at a time, so that they need few connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, try_join};
use uuid::Uuid;

use super::model::{LookAlike, MAX_LOOK_ALIKES, References};
use super::{Leads, duplicates, store};
use crate::db::batch_loader::BatchLoader;
use crate::db::reader::Reader;
use crate::error::Result;

/// With more conversions than this in flight on a server, look-alikes are not searched for: all conversions would wait
/// for the searches, each of which takes PostgreSQL some milliseconds.
const MAX_SEARCHING: usize = 4;

/// Reads what reports need.
#[derive(Debug)]
pub(super) struct Reports {
    references: BatchLoader<References>,
    look_alikes: BatchLoader<Vec<LookAlike>>,
    /// How many conversions are in flight.
    in_flight: Arc<AtomicUsize>,
}

impl Reports {
    pub fn new() -> Self {
        Self {
            references: BatchLoader::new(load_references).one_at_a_time(),
            look_alikes: BatchLoader::new(load_look_alikes).one_at_a_time(),
            in_flight: Arc::default(),
        }
    }
}

/// A call that may convert a lead. It is counted until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Converting(Arc<AtomicUsize>);

impl Drop for Converting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Leads {
    /// Counts a call that may convert a lead, until the result is dropped.
    pub fn converting(&self) -> Converting {
        let in_flight = Arc::clone(&self.reports.in_flight);
        in_flight.fetch_add(1, Ordering::Relaxed);
        Converting(in_flight)
    }

    /// What a report says beside the lead's own fields; nothing if there is no such lead.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn references(&self, lead_id: Uuid) -> Result<References> {
        let is_busy = self.reports.in_flight.load(Ordering::Relaxed) > MAX_SEARCHING;
        let look_alikes = async {
            match is_busy {
                true => Ok(None),
                false => self.reports.look_alikes.get(&self.db, lead_id).await,
            }
        };
        let references = self.reports.references.get(&self.db, lead_id);
        let (references, look_alikes) = try_join(references, look_alikes).await?;
        Ok(References {
            look_alikes: look_alikes.unwrap_or_default(),
            look_alikes_omitted: is_busy,
            ..references.unwrap_or_default()
        })
    }
}

fn load_references(
    db: Reader,
    ids: Vec<Uuid>,
) -> BoxFuture<'static, Result<HashMap<Uuid, References>>> {
    Box::pin(async move { store::references(&db, ids).await })
}

fn load_look_alikes(
    db: Reader,
    ids: Vec<Uuid>,
) -> BoxFuture<'static, Result<HashMap<Uuid, Vec<LookAlike>>>> {
    Box::pin(async move {
        let mut all = HashMap::new();
        for lead in store::get_many(&db, ids).await? {
            let found = duplicates::list(&db, &lead, None, MAX_LOOK_ALIKES).await?;
            let look_alikes = found.rows.into_iter().map(|found| LookAlike {
                lead_id: found.lead.id,
                state: found.lead.state(),
                shared: found.shared,
            });
            all.insert(lead.id, look_alikes.collect());
        }
        Ok(all)
    })
}

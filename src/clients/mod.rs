//! Clients: what converted leads are. There is no second record: a client is the lead it was, under
//! the same id, so a conversion can neither be half done nor be done twice.

pub mod api;
pub mod store;

use chrono::{DateTime, Utc};
use prost::Message;
use uuid::Uuid;

use crate::changes::desk::Desk;
use crate::error::{Error, Result};
use crate::leads::model::{Lead, LeadState, Status};
use crate::wire::page::{Page, Window};

/// A converted lead.
///
/// # Errors
/// [`Error::ClientNotFound`] when there is no such lead or it is not converted.
pub async fn get(desk: &Desk, id: Uuid) -> Result<Lead> {
    let lead = desk.leads.get(&desk.db, id).await?;
    lead.filter(|lead| lead.state() == LeadState::Converted)
        .ok_or(Error::ClientNotFound(id))
}

/// What List is asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this operator's.
    pub owner_id: Option<Uuid>,
    /// Only those converted after this.
    pub convert_time_after: Option<DateTime<Utc>>,
    /// Only those converted before this.
    pub convert_time_before: Option<DateTime<Utc>>,
}

/// A page of converted leads, the latest converted first.
///
/// # Errors
/// [`Error::PageTokenInvalid`].
pub async fn list<R: Message>(
    desk: &Desk,
    filter: &Filter,
    window: Window,
    render: fn(Lead) -> R,
) -> Result<Page<R>> {
    let before = window.begin()?;
    let db = desk.db.pages(window.principal).await?;
    let rows = store::list(&db, filter, before, window.limit()).await?;
    let position = |last: &Lead| match &last.status {
        Status::Converted { conversion } => (conversion.time, last.id),
        // The query asks for converted ones.
        Status::Open | Status::Deactivated { .. } => (last.update_time, last.id),
    };
    window.cut(rows, position, render)
}

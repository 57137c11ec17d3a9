//! Clients: converted leads. There is no second record: a client is the lead itself, under the same id. So
//! a conversion can neither be incomplete nor happen twice.

pub mod api;
pub mod store;

use chrono::{DateTime, Utc};
use tonic::Code;
use uuid::Uuid;

use crate::core::page::PageInput;
use crate::db::Db;
use crate::db::select::Part;
use crate::error::{Error, ErrorReason, Result};
use crate::features::leads::Leads;
use crate::features::leads::model::{Lead, LeadState};

/// The use cases of clients.
#[derive(Clone, Debug)]
pub struct Clients {
    db: Db,
    leads: Leads,
}

/// The position of a client in a list: the time of its conversion, and its id.
pub type Position = (DateTime<Utc>, Uuid);

/// The filter of List.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only clients of this operator.
    pub owner_id: Option<Uuid>,
    /// Only clients converted after this time.
    pub convert_time_after: Option<DateTime<Utc>>,
    /// Only clients converted before this time.
    pub convert_time_before: Option<DateTime<Utc>>,
}

impl Clients {
    /// Creates the use cases for this database.
    pub fn new(db: Db, leads: Leads) -> Self {
        Self { db, leads }
    }

    /// Returns a converted lead.
    ///
    /// # Errors
    /// `CLIENT_NOT_FOUND` if there is no such lead or it is not converted.
    pub async fn get(&self, id: Uuid) -> Result<Lead> {
        let found = self.leads.find(id).await?;
        let client = found.filter(|lead| lead.state() == LeadState::Converted);
        client.ok_or_else(|| not_found(id))
    }

    /// Lists converted leads, latest conversion first.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(&self, filter: &Filter, page: PageInput<Position>) -> Result<Part<Lead>> {
        let db = self.db.pages(page.principal).await?;
        store::list(&db, filter, page.after, page.limit).await
    }
}

fn not_found(id: Uuid) -> Error {
    let message = format_args!(
        "No client has the id {id}. Check the id, or convert the lead with this id first."
    );
    Error::new(Code::NotFound, ErrorReason::ClientNotFound, message)
        .with("client_id", id)
        .resource("Client", id)
}

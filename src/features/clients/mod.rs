//! Clients: converted leads. There is no second record: a client is the lead itself, under the same id. So
//! a conversion can neither be incomplete nor happen twice. A lead that was joined to a client is no client of its own.

pub mod api;
pub mod store;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::core::page::PageInput;
use crate::db::Db;
use crate::db::select::Part;
use crate::error::Result;
use crate::features::leads::Leads;
use crate::features::leads::model::Lead;

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

    /// Returns a client.
    ///
    /// # Errors
    /// `CLIENT_NOT_FOUND` if there is no such lead, it is not converted, or it was joined to another client.
    pub async fn get(&self, id: Uuid) -> Result<Lead> {
        let found = self.leads.find(id).await?;
        Lead::as_client(found.as_ref(), id).cloned()
    }

    /// Lists clients, latest conversion first.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(&self, filter: &Filter, page: PageInput<Position>) -> Result<Part<Lead>> {
        let db = self.db.pages(page.principal).await?;
        store::list(&db, filter, page.after, page.limit).await
    }
}

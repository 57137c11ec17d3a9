//! What lists of leads are asked for, and how they are ordered.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Lead, LeadState, fold};
use crate::wire::words::words;

/// What List is asked for.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The states wanted, at least one.
    pub states: Vec<LeadState>,
    /// Only this operator's.
    pub owner_id: Option<Uuid>,
    /// Only this country's; empty for all.
    pub country_code: String,
    /// Only of this source; empty for all.
    pub source: String,
    /// Created after.
    pub create_time_after: Option<DateTime<Utc>>,
    /// Created before.
    pub create_time_before: Option<DateTime<Utc>>,
    /// Changed after.
    pub update_time_after: Option<DateTime<Utc>>,
    /// Changed before.
    pub update_time_before: Option<DateTime<Utc>>,
}

words! {
    /// What a list can be ordered by.
    pub enum OrderKey {
        /// When it was created.
        CreateTime = "create_time",
        /// When it last changed.
        UpdateTime = "update_time",
        /// The last name, folded.
        LastName = "last_name",
        /// The company, folded.
        Company = "company",
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordering {
    /// By what.
    pub key: OrderKey,
    /// From the last to the first.
    pub descending: bool,
}

impl Ordering {
    /// Reads `order_by`; empty is `create_time desc`.
    pub fn parse(order_by: &str) -> Option<Self> {
        let order_by = if order_by.trim().is_empty() {
            "create_time desc"
        } else {
            order_by
        };
        let mut parts = order_by.split_whitespace();
        let key = OrderKey::from_word(parts.next()?)?;
        let descending = match parts.next() {
            None => false,
            Some("desc") => true,
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self { key, descending })
    }

    /// Where a lead stands in this order.
    pub fn position(&self, lead: &Lead) -> Position {
        let key = match self.key {
            OrderKey::CreateTime => PositionKey::Time(lead.create_time),
            OrderKey::UpdateTime => PositionKey::Time(lead.update_time),
            OrderKey::LastName => PositionKey::Text(fold(&lead.details.last_name)),
            OrderKey::Company => PositionKey::Text(fold(&lead.details.company)),
        };
        Position(key, lead.id)
    }
}

/// Where a lead stands in an order; ties are ordered by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position(pub PositionKey, pub Uuid);

/// What a lead is ordered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PositionKey {
    /// A time.
    #[serde(rename = "t")]
    Time(DateTime<Utc>),
    /// A folded name.
    #[serde(rename = "n")]
    Text(String),
}

//! The filters and orders of lists of leads.

use crate::core::text_enum::{TextEnum as _, text_enum};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Lead, LeadState, fold};

/// The filter of List.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The states to list, at least one.
    pub states: Vec<LeadState>,
    /// Only leads of this operator.
    pub owner_id: Option<Uuid>,
    /// Only leads of this country; empty for all.
    pub country_code: String,
    /// Only leads of this source; empty for all.
    pub source: String,
    /// Created after this time.
    pub create_time_after: Option<DateTime<Utc>>,
    /// Created before this time.
    pub create_time_before: Option<DateTime<Utc>>,
    /// Changed after this time.
    pub update_time_after: Option<DateTime<Utc>>,
    /// Changed before this time.
    pub update_time_before: Option<DateTime<Utc>>,
}

text_enum! {
    "snake_case"
    /// The field that a list is ordered by.
    pub enum OrderKey {
        /// The time of creation.
        CreateTime,
        /// The time of the last change.
        UpdateTime,
        /// The folded last name.
        LastName,
        /// The folded company.
        Company,
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordering {
    /// The field.
    pub key: OrderKey,
    /// Whether the order is descending.
    pub descending: bool,
}

impl Ordering {
    /// Parses `order_by`. An empty text means `create_time desc`.
    pub fn parse(order_by: &str) -> Option<Self> {
        let order_by = if order_by.trim().is_empty() {
            "create_time desc"
        } else {
            order_by
        };
        let mut parts = order_by.split_whitespace();
        let key = OrderKey::from_text(parts.next()?)?;
        let descending = match parts.next() {
            None => false,
            Some("desc") => true,
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self { key, descending })
    }

    /// The position of a lead in this order.
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

/// The position of a lead in an order: the value and the id, which breaks ties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position(pub PositionKey, pub Uuid);

/// The value that a lead is ordered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PositionKey {
    /// A time.
    #[serde(rename = "t")]
    Time(DateTime<Utc>),
    /// A folded name.
    #[serde(rename = "n")]
    Text(String),
}

/// The largest number of leads that is counted.
pub const MAX_TOTAL: u64 = 10_000;

/// How many leads match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The number in each state, exact up to [`MAX_TOTAL`]. A larger one means that there are more.
    pub by_state: Vec<(LeadState, u64)>,
    /// Whether the counting ended at [`MAX_TOTAL`] leads in all states together, so that the numbers are too small if
    /// there are more.
    pub counted_together: bool,
}

impl Total {
    /// The number in all states.
    pub fn all(&self) -> u64 {
        self.by_state.iter().map(|(_, count)| count).sum()
    }

    /// Whether there are more than are counted.
    pub fn is_bound(&self) -> bool {
        self.all() > MAX_TOTAL
    }

    /// Whether there may be more than `size`, the number in one of the states.
    pub fn is_bound_in_state(&self, size: u64) -> bool {
        size > MAX_TOTAL || (self.counted_together && self.is_bound())
    }
}

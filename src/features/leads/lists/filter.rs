//! The conditions of the filters of a list, and their indexes.

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{Condition, DbBackend, IdenStatic};

use crate::core::text_enum::TextEnum as _;
use crate::db::entities::lead::Column;
use crate::features::leads::model::{Filter, OrderKey};

/// A filter that has an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexedFilter {
    /// The owner.
    Owner,
    /// The country.
    Country,
    /// The source.
    Source,
    /// The time of creation.
    CreateTime,
    /// The time of the last change.
    UpdateTime,
}

impl IndexedFilter {
    pub(super) const EXACT: [Self; 3] = [Self::Owner, Self::Source, Self::Country];

    pub(super) fn column(self) -> Column {
        match self {
            Self::Owner => Column::OwnerId,
            Self::Country => Column::CountryCode,
            Self::Source => Column::Source,
            Self::CreateTime => Column::CreateTime,
            Self::UpdateTime => Column::UpdateTime,
        }
    }

    /// The index that finds leads by state and filter.
    pub(super) fn index(self) -> &'static str {
        match self {
            Self::Owner => "leads_owner",
            Self::Country => "leads_country",
            Self::Source => "leads_source",
            Self::CreateTime => "leads_state_create_time",
            Self::UpdateTime => "leads_state_update_time",
        }
    }

    /// The value that the column must have; empty if the filter is not set, or if it is a time.
    fn value(self, filter: &Filter) -> String {
        match self {
            Self::Owner => filter.owner_id.map(|id| id.to_string()).unwrap_or_default(),
            Self::Country => filter.country_code.clone(),
            Self::Source => filter.source.clone(),
            Self::CreateTime | Self::UpdateTime => String::new(),
        }
    }

    /// The filters that are set, without the one on the column of the order.
    pub(super) fn all(filter: &Filter, key: OrderKey) -> Vec<Self> {
        let mut all = Self::EXACT.to_vec();
        all.retain(|by| !by.value(filter).is_empty());
        let is_set = |bounds: [Option<DateTime<Utc>>; 2]| bounds.iter().any(Option::is_some);
        if key != OrderKey::CreateTime
            && is_set([filter.create_time_after, filter.create_time_before])
        {
            all.push(Self::CreateTime);
        }
        if key != OrderKey::UpdateTime
            && is_set([filter.update_time_after, filter.update_time_before])
        {
            all.push(Self::UpdateTime);
        }
        all
    }
}

/// The condition for the states of the filter.
pub(super) fn in_states(filter: &Filter) -> Expr {
    Expr::col(Column::State).is_in(filter.states.iter().map(|state| state.as_str()))
}

/// A column. SQLite has few statistics about its tables, so the `+` prevents it from using the index of a
/// column that is not the best one.
pub(super) fn column(backend: DbBackend, column: Column, may_use_index: bool) -> Expr {
    if may_use_index || backend == DbBackend::Postgres {
        Expr::col(column)
    } else {
        Expr::cust(format!("+{}", column.as_str()))
    }
}

/// The condition of one filter; no condition if the filter is not set.
pub(super) fn condition(
    backend: DbBackend,
    filter: &Filter,
    by: IndexedFilter,
    may_use_index: bool,
) -> Condition {
    let column = || column(backend, by.column(), may_use_index);
    let (after, before) = match by {
        IndexedFilter::CreateTime => (filter.create_time_after, filter.create_time_before),
        IndexedFilter::UpdateTime => (filter.update_time_after, filter.update_time_before),
        IndexedFilter::Owner | IndexedFilter::Country | IndexedFilter::Source => {
            let value = by.value(filter);
            if value.is_empty() {
                return Condition::all();
            }
            let exact = Condition::all().add(column().eq(value));
            if !may_use_index && backend == DbBackend::Sqlite {
                return exact;
            }
            // A literal, because with a bound value the planner does not detect that the partial index
            // without empty values can be used.
            return exact.add(Expr::cust(format!("{} <> ''", by.column().as_str())));
        }
    };
    between(column, after, before)
}

/// Only times after `after` and before `before`.
pub fn between(
    column: impl Fn() -> Expr,
    after: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
) -> Condition {
    // Stored times have whole microseconds, and PostgreSQL would truncate a bound to them.
    let after = after.map(|time| column().gt(time.trunc_subsecs(6)));
    let before = before.map(|time| {
        let truncated = time.trunc_subsecs(6);
        if truncated == time {
            column().lt(truncated)
        } else {
            column().lte(truncated)
        }
    });
    Condition::all().add_option(after).add_option(before)
}

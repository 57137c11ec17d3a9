//! The queries that list leads by filter and order, and how each uses an index.
//!
//! Without a filter, a page is a scan of the index of its state and order. If few leads match a filter,
//! such a scan would read all leads. So the matches of each filter are counted first, up to [`RARE_LIMIT`].
//! Leads that match a rare filter are found by that filter's index and sorted. If every filter is common, a scan
//! soon fills its page.

mod filter;
mod total;

use crate::core::text_enum::TextEnum as _;
use sea_orm::sea_query::{
    Asterisk, Expr, ExprTrait, Order, Query, SelectStatement, UnionType, Value,
};
use sea_orm::{Condition, ConnectionTrait, DbBackend, IdenStatic, Statement};

use super::model::{Filter, Lead, LeadState, OrderKey, Ordering, Position, PositionKey};
use super::store::read_page;
use crate::db::entities::lead::{Column, Entity};
use crate::db::select::{self, Part};
use crate::error::Result;
use filter::{column, condition, in_states};

pub use filter::{IndexedFilter, between};
pub use total::{TOTAL_ORDERING, total, total_statement};

/// The maximum number of leads that are found by a filter and sorted. If more match, at least one in 200 of
/// a million leads matches, and a scan for a page of 50 reads about 10,000.
pub const RARE_LIMIT: u64 = 5_000;

/// The plan for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Scan the index of state and order.
    Order,
    /// Scan the index of a filter, which is in the order of creation.
    Filter(IndexedFilter),
    /// Read all leads that match a filter, and sort them.
    Few(IndexedFilter),
}

/// Lists leads by filter and order, after the position `after`.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    ordering: Ordering,
    after: Option<&Position>,
    limit: u64,
) -> Result<Part<Lead>> {
    let plan = plan(db, filter, ordering).await?;
    let backend = db.get_database_backend();
    let statement = list_statement(backend, filter, ordering, plan, after, limit);
    read_page(db, statement, limit).await
}

/// Chooses the plan for a page.
pub async fn plan(db: &impl ConnectionTrait, filter: &Filter, ordering: Ordering) -> Result<Plan> {
    let all = IndexedFilter::all(filter, ordering.key);
    let scanned = all
        .iter()
        .copied()
        .find(|by| IndexedFilter::EXACT.contains(by));
    let scanned = scanned.filter(|_| ordering.key == OrderKey::CreateTime);
    if let (Some(by), [_]) = (scanned, all.as_slice()) {
        return Ok(Plan::Filter(by));
    }
    let mut fewest = None;
    for by in all {
        let count = count(db, filter, by).await?;
        if count < RARE_LIMIT && fewest.is_none_or(|(least, _)| count < least) {
            fewest = Some((count, by));
        }
    }
    Ok(match (fewest, scanned) {
        (Some((_, by)), _) => Plan::Few(by),
        (None, Some(by)) => Plan::Filter(by),
        (None, None) => Plan::Order,
    })
}

/// Counts the leads that match one filter, up to [`RARE_LIMIT`].
async fn count(db: &impl ConnectionTrait, filter: &Filter, by: IndexedFilter) -> Result<u64> {
    let backend = db.get_database_backend();
    let mut matches = Query::select();
    matches
        .expr(Expr::value(1))
        .from(Entity)
        .and_where(in_states(filter))
        .cond_where(condition(backend, filter, by, true))
        .limit(RARE_LIMIT);
    let mut count = Query::select();
    count
        .expr(Expr::cust("count(*)"))
        .from_subquery(matches, "matches");
    let row = db
        .query_one_raw(by_index(backend.build(&count), by))
        .await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(count.unsigned_abs())
}

/// The statement of [`list`].
pub fn list_statement(
    backend: DbBackend,
    filter: &Filter,
    ordering: Ordering,
    plan: Plan,
    after: Option<&Position>,
    limit: u64,
) -> Statement {
    let list = List {
        backend,
        filter,
        ordering,
        plan,
        after,
        limit,
    };
    match plan {
        Plan::Few(by) => by_index(backend.build(&list.sorted_matches()), by),
        Plan::Order | Plan::Filter(_) => backend.build(&list.scans()),
    }
}

/// Makes SQLite use a filter's index wherever `statement` selects from leads. SQLite knows how many leads an
/// average value has, but not how many this value has, and would choose a full scan.
fn by_index(statement: Statement, by: IndexedFilter) -> Statement {
    select::by_index(statement, "leads", by.index())
}

struct List<'a> {
    backend: DbBackend,
    filter: &'a Filter,
    ordering: Ordering,
    plan: Plan,
    after: Option<&'a Position>,
    limit: u64,
}

impl List<'_> {
    /// All leads that match the filters, sorted.
    fn sorted_matches(&self) -> SelectStatement {
        let mut few = Query::select();
        few.from(Entity)
            .and_where(in_states(self.filter))
            .cond_where(self.conditions());
        if self.backend == DbBackend::Sqlite {
            few.column(Column::Seq);
            return full_rows(self.page(few));
        }
        // OFFSET is an optimisation barrier: PostgreSQL finds these rows first, instead of scanning the
        // index of the order.
        few.column(Asterisk).offset(0);
        let mut page = Query::select();
        page.column(Asterisk).from_subquery(few, "few");
        self.page(page)
    }

    /// For each state, a scan of the index of that state and order. The scans are merged, so that for any
    /// set of states at most one page of rows is read for each state.
    fn scans(&self) -> SelectStatement {
        let scan = |state: &LeadState| {
            let mut scan = Query::select();
            scan.from(Entity)
                .and_where(Expr::col(Column::State).eq(state.as_str()))
                .cond_where(self.conditions());
            scan
        };
        if let [state] = self.filter.states.as_slice() {
            let mut scan = scan(state);
            scan.column((Entity, Asterisk));
            return self.page(scan);
        }
        let joins_rows = self.backend == DbBackend::Sqlite;
        let mut scans = self.filter.states.iter().map(|state| {
            let mut scan = scan(state);
            if joins_rows {
                // SQLite keeps the whole rows that it sorts in memory, however large they are. So it sorts
                // only keys.
                scan.columns([Column::Seq, self.column(), Column::Id]);
            } else {
                scan.column(Asterisk);
            }
            let mut all = Query::select();
            all.column(Asterisk).from_subquery(self.page(scan), "walk");
            all
        });
        let mut merged = scans.next().unwrap_or_default();
        for scan in scans {
            merged.union(UnionType::All, scan);
        }
        let order = self.order();
        merged
            .order_by(self.column(), order.clone())
            .order_by(Column::Id, order)
            .limit(self.limit);
        if joins_rows {
            full_rows(merged)
        } else {
            merged
        }
    }

    /// Selects the page from these rows.
    fn page(&self, mut select: SelectStatement) -> SelectStatement {
        let order = self.order();
        if let Some(Position(value, id)) = self.after {
            let row_key = Expr::tuple([self.key(), Expr::col(Column::Id)]);
            let bound = Expr::tuple([Expr::value(position_value(value)), Expr::value(*id)]);
            select.and_where(if self.ordering.descending {
                row_key.lt(bound)
            } else {
                row_key.gt(bound)
            });
        }
        select
            .order_by_expr(self.key(), order.clone())
            .order_by(Column::Id, order)
            .limit(self.limit);
        select
    }

    fn order(&self) -> Order {
        if self.ordering.descending {
            Order::Desc
        } else {
            Order::Asc
        }
    }

    fn column(&self) -> Column {
        match self.ordering.key {
            OrderKey::CreateTime => Column::CreateTime,
            OrderKey::UpdateTime => Column::UpdateTime,
            OrderKey::LastName => Column::LastNameKey,
            OrderKey::Company => Column::CompanyKey,
        }
    }

    /// The expression of the order.
    fn key(&self) -> Expr {
        let scans = !matches!(self.plan, Plan::Few(_));
        column(self.backend, self.column(), scans)
    }

    fn conditions(&self) -> Condition {
        let mut all = Condition::all();
        for by in IndexedFilter::EXACT
            .into_iter()
            .chain([IndexedFilter::CreateTime, IndexedFilter::UpdateTime])
        {
            let may_use_index = match self.plan {
                Plan::Few(few) => by == few,
                Plan::Filter(scanned) => by == scanned || by == IndexedFilter::CreateTime,
                Plan::Order => by.column().as_str() == self.column().as_str(),
            };
            all = all.add(condition(self.backend, self.filter, by, may_use_index));
        }
        all
    }
}

/// Joins the whole rows of the leads in `page`, by its column `seq`, in the order of the page.
fn full_rows(page: SelectStatement) -> SelectStatement {
    let mut full_rows = Query::select();
    let same = Expr::col((Entity, Column::Seq)).equals(("page", Column::Seq));
    full_rows
        .column((Entity, Asterisk))
        .from_subquery(page, "page")
        // SQLite does not reorder the tables of a CROSS JOIN.
        .cross_join(Entity)
        .and_where(same);
    full_rows
}

fn position_value(key: &PositionKey) -> Value {
    match key {
        PositionKey::Time(time) => (*time).into(),
        PositionKey::Text(text) => text.clone().into(),
    }
}

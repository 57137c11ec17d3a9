//! The queries that list leads by filter and order, and how each is answered by an index.
//!
//! Without a filter, a page is a walk along the index of its state and order. If few leads match a
//! filter, such a walk would read them all. So the matches of each filter are counted first, up to
//! [`FEW`]. Leads that match a rare filter are found by that filter's index and sorted. Where every
//! filter is common, a walk soon fills its page.

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::sea_query::{
    Asterisk, Expr, ExprTrait, Order, Query, SelectStatement, UnionType, Value,
};
use sea_orm::{Condition, ConnectionTrait, DbBackend, IdenStatic, Statement};

use super::model::{Filter, Lead, LeadState, OrderKey, Ordering, Position, PositionKey};
use super::store::read_page;
use crate::db::entities::lead::{Column, Entity};
use crate::db::select::Part;
use crate::error::Result;

/// As many leads as are found by a filter and sorted. Where more match, one in 200 does of a million,
/// and a walk for a page of 50 reads some 10,000.
pub const FEW: u64 = 5_000;

/// How a page finds its leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// By a walk along the index of their state and order.
    Order,
    /// By a walk along the index of a filter, which has them in the order of their creation.
    Filter(By),
    /// All that match a filter, sorted.
    Few(By),
}

/// A filter that an index serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The owner.
    Owner,
    /// The country.
    Country,
    /// The source.
    Source,
    /// When it was created.
    CreateTime,
    /// When it last changed.
    UpdateTime,
}

impl By {
    const EXACT: [Self; 3] = [Self::Owner, Self::Source, Self::Country];

    fn column(self) -> Column {
        match self {
            Self::Owner => Column::OwnerId,
            Self::Country => Column::CountryCode,
            Self::Source => Column::Source,
            Self::CreateTime => Column::CreateTime,
            Self::UpdateTime => Column::UpdateTime,
        }
    }

    /// The index that finds the leads of these states that match the filter.
    fn index(self) -> &'static str {
        match self {
            Self::Owner => "leads_owner",
            Self::Country => "leads_country",
            Self::Source => "leads_source",
            Self::CreateTime => "leads_state_create_time",
            Self::UpdateTime => "leads_state_update_time",
        }
    }

    /// What the filter asks the column to be; empty for anything, and for a time.
    fn value(self, filter: &Filter) -> String {
        match self {
            Self::Owner => filter.owner_id.map(|id| id.to_string()).unwrap_or_default(),
            Self::Country => filter.country_code.clone(),
            Self::Source => filter.source.clone(),
            Self::CreateTime | Self::UpdateTime => String::new(),
        }
    }

    /// The filters beside the order's own column.
    fn all(filter: &Filter, key: OrderKey) -> Vec<Self> {
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

/// A page of leads by filter and order, from behind `after`.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    ordering: Ordering,
    after: Option<&Position>,
    limit: u64,
) -> Result<Part<Lead>> {
    let path = path(db, filter, ordering).await?;
    let backend = db.get_database_backend();
    let statement = list_statement(backend, filter, ordering, path, after, limit);
    read_page(db, statement, limit).await
}

/// How a page is best found.
pub async fn path(db: &impl ConnectionTrait, filter: &Filter, ordering: Ordering) -> Result<Path> {
    let all = By::all(filter, ordering.key);
    let walked = all.iter().copied().find(|by| By::EXACT.contains(by));
    let walked = walked.filter(|_| ordering.key == OrderKey::CreateTime);
    if let (Some(by), [_]) = (walked, all.as_slice()) {
        return Ok(Path::Filter(by));
    }
    let mut fewest = None;
    for by in all {
        let count = count(db, filter, by).await?;
        if count < FEW && fewest.is_none_or(|(least, _)| count < least) {
            fewest = Some((count, by));
        }
    }
    Ok(match (fewest, walked) {
        (Some((_, by)), _) => Path::Few(by),
        (None, Some(by)) => Path::Filter(by),
        (None, None) => Path::Order,
    })
}

/// How many leads match one filter, up to [`FEW`].
async fn count(db: &impl ConnectionTrait, filter: &Filter, by: By) -> Result<u64> {
    let backend = db.get_database_backend();
    let mut matches = Query::select();
    matches
        .expr(Expr::value(1))
        .from(Entity)
        .and_where(in_states(filter))
        .cond_where(condition(backend, filter, by, true))
        .limit(FEW);
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
    path: Path,
    after: Option<&Position>,
    limit: u64,
) -> Statement {
    let list = List {
        backend,
        filter,
        ordering,
        path,
        after,
        limit,
    };
    match path {
        Path::Few(by) => by_index(backend.build(&list.few()), by),
        Path::Order | Path::Filter(_) => backend.build(&list.walks()),
    }
}

/// Has SQLite use a filter's index for the first time that `statement` reads leads. It knows how many leads
/// an average value has, not how many this one has, and would prefer to scan them all.
fn by_index(mut statement: Statement, by: By) -> Statement {
    if statement.db_backend == DbBackend::Sqlite {
        let leads = "FROM \"leads\"";
        let indexed = format!("{leads} INDEXED BY \"{}\"", by.index());
        statement.sql = statement.sql.replacen(leads, &indexed, 1);
    }
    statement
}

struct List<'a> {
    backend: DbBackend,
    filter: &'a Filter,
    ordering: Ordering,
    path: Path,
    after: Option<&'a Position>,
    limit: u64,
}

impl List<'_> {
    /// All that match the filters, sorted.
    fn few(&self) -> SelectStatement {
        let mut few = Query::select();
        few.from(Entity)
            .and_where(in_states(self.filter))
            .cond_where(self.conditions());
        if self.backend == DbBackend::Sqlite {
            few.column(Column::Seq);
            return whole(self.page(few));
        }
        // An offset has PostgreSQL find them by themselves, and not along the order.
        few.column(Asterisk).offset(0);
        let mut page = Query::select();
        page.column(Asterisk).from_subquery(few, "few");
        self.page(page)
    }

    /// For each state a walk along the index of that state and order, and the walks merged, so that no
    /// combination of states reads more rows than a page of each.
    fn walks(&self) -> SelectStatement {
        let walk = |state: &LeadState| {
            let mut walk = Query::select();
            walk.from(Entity)
                .and_where(Expr::col(Column::State).eq(state.word()))
                .cond_where(self.conditions());
            walk
        };
        if let [state] = self.filter.states.as_slice() {
            let mut walk = walk(state);
            walk.column((Entity, Asterisk));
            return self.page(walk);
        }
        let late = self.backend == DbBackend::Sqlite;
        let mut walks = self.filter.states.iter().map(|state| {
            let mut walk = walk(state);
            if late {
                // Of what is sorted SQLite keeps whole rows in memory, however large.
                walk.columns([Column::Seq, self.column(), Column::Id]);
            } else {
                walk.column(Asterisk);
            }
            let mut all = Query::select();
            all.column(Asterisk).from_subquery(self.page(walk), "walk");
            all
        });
        let mut merged = walks.next().unwrap_or_default();
        for walk in walks {
            merged.union(UnionType::All, walk);
        }
        let order = self.order();
        merged
            .order_by(self.column(), order.clone())
            .order_by(Column::Id, order)
            .limit(self.limit);
        if late { whole(merged) } else { merged }
    }

    /// Of these, the page.
    fn page(&self, mut select: SelectStatement) -> SelectStatement {
        let order = self.order();
        if let Some(Position(value, id)) = self.after {
            let here = Expr::tuple([self.key(), Expr::col(Column::Id)]);
            let there = Expr::tuple([Expr::value(position_value(value)), Expr::value(*id)]);
            select.and_where(if self.ordering.descending {
                here.lt(there)
            } else {
                here.gt(there)
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

    /// What is ordered by.
    fn key(&self) -> Expr {
        let walks = !matches!(self.path, Path::Few(_));
        column(self.backend, self.column(), walks)
    }

    fn conditions(&self) -> Condition {
        let mut all = Condition::all();
        for by in By::EXACT
            .into_iter()
            .chain([By::CreateTime, By::UpdateTime])
        {
            let serves = match self.path {
                Path::Few(few) => by == few,
                Path::Filter(walked) => by == walked || by == By::CreateTime,
                Path::Order => by.column().as_str() == self.column().as_str(),
            };
            all = all.add(condition(self.backend, self.filter, by, serves));
        }
        all
    }
}

/// The whole leads of a page that names them in its column `seq`, in the page's order.
fn whole(page: SelectStatement) -> SelectStatement {
    let mut whole = Query::select();
    let same = Expr::col((Entity, Column::Seq)).equals(("page", Column::Seq));
    whole
        .column((Entity, Asterisk))
        .from_subquery(page, "page")
        // SQLite keeps to the order in which these are joined.
        .cross_join(Entity)
        .and_where(same);
    whole
}

fn in_states(filter: &Filter) -> Expr {
    Expr::col(Column::State).is_in(filter.states.iter().map(|state| state.word()))
}

/// A column. SQLite, which knows little about what is in its tables, is kept from using the index of
/// one that does not serve.
fn column(backend: DbBackend, column: Column, serves: bool) -> Expr {
    if serves || backend == DbBackend::Postgres {
        Expr::col(column)
    } else {
        Expr::cust(format!("+{}", column.as_str()))
    }
}

/// What one filter asks for; nothing where it is not set.
fn condition(backend: DbBackend, filter: &Filter, by: By, serves: bool) -> Condition {
    let column = || column(backend, by.column(), serves);
    let (after, before) = match by {
        By::CreateTime => (filter.create_time_after, filter.create_time_before),
        By::UpdateTime => (filter.update_time_after, filter.update_time_before),
        By::Owner | By::Country | By::Source => {
            let value = by.value(filter);
            if value.is_empty() {
                return Condition::all();
            }
            let exact = Condition::all().add(column().eq(value));
            if !serves && backend == DbBackend::Sqlite {
                return exact;
            }
            // Written out: a bound value does not tell that the index without empty ones serves.
            return exact.add(Expr::cust(format!("{} <> ''", by.column().as_str())));
        }
    };
    between(column, after, before)
}

/// Only what was after `after` and before `before`.
pub fn between(
    column: impl Fn() -> Expr,
    after: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
) -> Condition {
    // What is stored has whole microseconds, to which PostgreSQL would cut a bound.
    let after = after.map(|time| column().gt(time.trunc_subsecs(6)));
    let before = before.map(|time| {
        let whole = time.trunc_subsecs(6);
        if whole == time {
            column().lt(whole)
        } else {
            column().lte(whole)
        }
    });
    Condition::all().add_option(after).add_option(before)
}

fn position_value(key: &PositionKey) -> Value {
    match key {
        PositionKey::Time(time) => (*time).into(),
        PositionKey::Text(text) => text.clone().into(),
    }
}

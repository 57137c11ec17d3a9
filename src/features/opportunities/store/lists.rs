//! The query that lists opportunities, newest first, and which index it uses.
//!
//! The indexes of the lead, the owner, the stage and the state are in the order of the list, so a page is a scan
//! of one of them. The opportunities of a client are those of several leads, which are found by the index of the lead
//! and sorted. The index of dates is not. It is used if few opportunities match, which then are sorted;
//! otherwise a scan of another index soon fills the page.

use sea_orm::sea_query::{Asterisk, Expr, ExprTrait, Order, Query, SelectStatement, UnionType};
use sea_orm::{Condition, ConnectionTrait, DbBackend, Statement};
use uuid::Uuid;

use super::view;
use crate::core::text_enum::TextEnum as _;
use crate::db::any_of;
use crate::db::entities::opportunity::{Column, Entity};
use crate::db::select::{self, Part};
use crate::error::Result;
use crate::features::leads;
use crate::features::opportunities::model::{Filter, OpportunityState, Stage, View};

/// The maximum number of opportunities that are found by their dates and sorted.
pub const RARE_LIMIT: u64 = 5_000;

/// The index that a page is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Scan the opportunities of the lead.
    Lead,
    /// Read all opportunities of the client and of the leads that were joined to it, and sort them.
    Client,
    /// Scan the opportunities of the owner in each of the states, and merge the scans.
    Owner,
    /// Scan the opportunities in the stage.
    Stage,
    /// Scan the opportunities in each of the states, and merge the scans.
    State,
    /// Read all opportunities in the states that are expected to close before the date, and sort them.
    Date,
}

impl Plan {
    /// The index.
    pub const fn index(self) -> &'static str {
        match self {
            Self::Lead | Self::Client => "opportunities_lead_seq",
            Self::Owner => "opportunities_owner_state_seq",
            Self::Stage => "opportunities_stage_seq",
            Self::State => "opportunities_state_seq",
            Self::Date => "opportunities_state_date",
        }
    }
}

/// Lists opportunities by filter, newest first, below the number `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    before: Option<i64>,
    limit: u64,
) -> Result<Part<View>> {
    let Some(filter) = filter.possible() else {
        return Ok(Part::default());
    };
    let plan = plan(db, &filter).await?;
    let of_client = match filter.client_id {
        Some(id) => leads::store::ids_of_client(db, id).await?,
        None => Some(Vec::new()),
    };
    let Some(of_client) = of_client else {
        return Ok(Part::default());
    };
    let backend = db.get_database_backend();
    let statement = list_statement(backend, &filter, (plan, &of_client), before, limit);
    let large = [Column::NextStep, Column::Description, Column::CloseReason];
    let part = select::page::<Entity>(db, statement, limit, &large).await?;
    let ids = part.rows.iter().map(|row| row.lead_id).collect();
    let names = leads::store::names(db, ids).await?;
    part.map(|row| {
        let lead = names.get(&row.lead_id).cloned();
        view(row, lead)
    })
}

/// Chooses the index for a page of a filter that [`Filter::possible`] has returned.
///
/// # Errors
/// If the database cannot be read.
pub async fn plan(db: &impl ConnectionTrait, filter: &Filter) -> Result<Plan> {
    if filter.lead_id.is_some() {
        return Ok(Plan::Lead);
    }
    if filter.client_id.is_some() {
        return Ok(Plan::Client);
    }
    if filter.expected_close_before.is_some() && count_by_date(db, filter).await? < RARE_LIMIT {
        return Ok(Plan::Date);
    }
    Ok(match (filter.owner_id, filter.stage) {
        (Some(_), _) => Plan::Owner,
        // The stage is that of every opportunity in the states.
        (None, None | Some(Stage::Closed)) => Plan::State,
        (None, Some(Stage::Contact | Stage::Meeting | Stage::Negotiation | Stage::Buying)) => {
            Plan::Stage
        }
    })
}

/// Counts the opportunities before the date of the filter, up to [`RARE_LIMIT`].
async fn count_by_date(db: &impl ConnectionTrait, filter: &Filter) -> Result<u64> {
    let backend = db.get_database_backend();
    let mut matches = Query::select();
    matches
        .expr(Expr::value(1))
        .from(Entity)
        .and_where(in_states(&filter.states))
        .cond_where(before_date(filter))
        .limit(RARE_LIMIT);
    let mut count = Query::select();
    count
        .expr(Expr::cust("count(*)"))
        .from_subquery(matches, "matches");
    let statement = by_index(backend.build(&count), Plan::Date);
    let row = db.query_one_raw(statement).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(count.unsigned_abs())
}

/// The statement of [`list`]. `of_client` are the leads of the filter's client, including the client.
pub fn list_statement(
    backend: DbBackend,
    filter: &Filter,
    (plan, of_client): (Plan, &[Uuid]),
    before: Option<i64>,
    limit: u64,
) -> Statement {
    let list = List {
        backend,
        filter,
        of_client,
        before,
        limit,
    };
    let select = match (plan, filter.states.as_slice()) {
        (Plan::Date | Plan::Client, _) => list.sorted_matches(),
        (Plan::Owner | Plan::State, [_, _, ..]) => list.merged_scans(),
        (Plan::Lead | Plan::Owner | Plan::Stage | Plan::State, states) => {
            let mut scan = list.matches(states);
            scan.column((Entity, Asterisk));
            list.page(scan)
        }
    };
    by_index(backend.build(&select), plan)
}

fn by_index(statement: Statement, plan: Plan) -> Statement {
    select::by_index(statement, "opportunities", plan.index())
}

fn in_states(states: &[OpportunityState]) -> Expr {
    Expr::col(Column::State).is_in(states.iter().map(|state| state.as_str()))
}

fn before_date(filter: &Filter) -> Condition {
    let date = filter.expected_close_before;
    Condition::all().add_option(date.map(|date| Expr::col(Column::ExpectedCloseDate).lt(date)))
}

struct List<'a> {
    backend: DbBackend,
    filter: &'a Filter,
    of_client: &'a [Uuid],
    before: Option<i64>,
    limit: u64,
}

impl List<'_> {
    /// The opportunities in these states that match the filter, without columns.
    fn matches(&self, states: &[OpportunityState]) -> SelectStatement {
        let mut matches = Query::select();
        matches.from(Entity).cond_where(before_date(self.filter));
        match states {
            [state] => matches.and_where(Expr::col(Column::State).eq(state.as_str())),
            states => matches.and_where(in_states(states)),
        };
        if let Some(lead_id) = self.filter.lead_id {
            matches.and_where(Expr::col(Column::LeadId).eq(lead_id));
        }
        if self.filter.client_id.is_some() {
            let ids = self.of_client.to_vec();
            matches.and_where(any_of(Expr::col(Column::LeadId), ids));
        }
        if let Some(owner_id) = self.filter.owner_id {
            matches.and_where(Expr::col(Column::OwnerId).eq(owner_id.to_string()));
            // A literal, because with a bound value the databases do not detect that they can use the
            // partial index without empty owners.
            matches.and_where(Expr::cust("owner_id <> ''"));
        }
        // CLOSED is the stage of all opportunities in the states of such a filter. PostgreSQL does not know that, and
        // would estimate too few rows from two conditions.
        let stage = self.filter.stage.filter(|stage| *stage != Stage::Closed);
        if let Some(stage) = stage {
            matches.and_where(Expr::col(Column::Stage).eq(stage.as_str()));
        }
        matches
    }

    /// Selects the page from these rows.
    fn page(&self, mut select: SelectStatement) -> SelectStatement {
        if let Some(before) = self.before {
            select.and_where(Expr::col(Column::Seq).lt(before));
        }
        select.order_by(Column::Seq, Order::Desc).limit(self.limit);
        select
    }

    /// All opportunities that match the filter, sorted.
    fn sorted_matches(&self) -> SelectStatement {
        let mut few = self.matches(&self.filter.states);
        if self.backend == DbBackend::Sqlite {
            few.column(Column::Seq);
            return full_rows(self.page(few));
        }
        // OFFSET is an optimisation barrier: PostgreSQL finds these rows first, instead of scanning an index
        // in the order of the list.
        few.column(Asterisk).offset(0);
        let mut page = Query::select();
        page.column(Asterisk).from_subquery(few, "few");
        self.page(page)
    }

    /// A scan for each state, merged, so that at most one page of rows is read for each state.
    fn merged_scans(&self) -> SelectStatement {
        let joins_rows = self.backend == DbBackend::Sqlite;
        let mut scans = self.filter.states.iter().map(|state| {
            let mut scan = self.matches(&[*state]);
            if joins_rows {
                scan.column(Column::Seq);
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
        merged.order_by(Column::Seq, Order::Desc).limit(self.limit);
        if joins_rows {
            full_rows(merged)
        } else {
            merged
        }
    }
}

/// Joins the whole rows in `page`, by its column `seq`, in the order of the page. SQLite keeps the whole rows
/// that it sorts in memory, so it sorts only numbers.
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

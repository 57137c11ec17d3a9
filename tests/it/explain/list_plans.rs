//! The plans of list statements: every order and set of states, with rare filters and with common ones.

use leadsmith::core::text_enum::TextEnum as _;
use leadsmith::features::leads::lists::{IndexedFilter, Plan, list_statement, plan};
use leadsmith::features::leads::model::{
    Filter, LeadState, OrderKey, Ordering, Position, PositionKey,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use uuid::Uuid;

use super::plan::{check, is_later, sqlite_plan};
use super::{LIMIT, choices_of_states};

pub fn filter(states: &[LeadState]) -> Filter {
    Filter {
        states: states.to_vec(),
        owner_id: None,
        country_code: String::new(),
        source: String::new(),
        create_time_after: None,
        create_time_before: None,
        update_time_after: None,
        update_time_before: None,
    }
}

/// The position after 1,000 pages of a list of OPEN leads.
async fn deep(db: &DatabaseConnection, ordering: Ordering) -> Position {
    let column = match ordering.key {
        OrderKey::CreateTime => "create_time",
        OrderKey::UpdateTime => "update_time",
        OrderKey::LastName => "last_name_key",
        OrderKey::Company => "company_key",
    };
    let direction = if ordering.descending { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT {column}, id FROM leads WHERE state = 'OPEN' \
         ORDER BY {column} {direction}, id {direction} LIMIT 1 OFFSET 50000"
    );
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    let id: Uuid = row.try_get_by_index(1).unwrap();
    let key = match ordering.key {
        OrderKey::CreateTime | OrderKey::UpdateTime => {
            PositionKey::Time(row.try_get_by_index(0).unwrap())
        }
        OrderKey::LastName | OrderKey::Company => {
            PositionKey::Text(row.try_get_by_index(0).unwrap())
        }
    };
    Position(key, id)
}

pub async fn every_list(db: &DatabaseConnection, problems: &mut Vec<String>) {
    let backend = db.get_database_backend();
    let mut checked = 0;
    for key in OrderKey::ALL {
        for descending in [false, true] {
            let ordering = Ordering {
                key: *key,
                descending,
            };
            let deep = deep(db, ordering).await;
            for states in choices_of_states() {
                for after in [None, Some(&deep)] {
                    let filter = filter(&states);
                    let statement =
                        list_statement(backend, &filter, ordering, Plan::Order, after, LIMIT);
                    assert_eq!(is_later(&statement.sql), after.is_some());
                    let rows = LIMIT * u64::try_from(states.len()).unwrap();
                    if let Err(problem) = check(db, statement, rows).await {
                        problems.push(format!("{states:?} by {ordering:?}: {problem}"));
                    }
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 8 * 7 * 2);
}

/// The name of a filter, and the function that sets it.
pub type Named = (&'static str, fn(&mut Filter));

/// Filters that no lead matches, alone and combined with others.
pub const RARE: [Named; 7] = [
    ("source", |filter| filter.source = "nobody".into()),
    ("country", |filter| filter.country_code = "FR".into()),
    ("owner", |filter| filter.owner_id = Some(Uuid::nil())),
    ("changed", |filter| {
        filter.update_time_after = "2100-01-01T00:00:00Z".parse().ok()
    }),
    ("created", |filter| {
        filter.create_time_before = "2000-01-01T00:00:00Z".parse().ok()
    }),
    ("source of a country", |filter| {
        filter.source = "bulk".into();
        filter.country_code = "FR".into();
    }),
    ("owner since, of a source", |filter| {
        filter.source = "bulk".into();
        filter.country_code = "DE".into();
        filter.owner_id = Some(Uuid::nil());
        filter.update_time_after = "2000-01-01T00:00:00Z".parse().ok();
    }),
];

/// In every order and for every set of states, no lead is read that does not match.
pub async fn rare_filters(db: &DatabaseConnection, problems: &mut Vec<String>) {
    for (name, set) in RARE {
        for key in OrderKey::ALL {
            for descending in [false, true] {
                let ordering = Ordering {
                    key: *key,
                    descending,
                };
                for states in choices_of_states() {
                    let mut filter = filter(&states);
                    set(&mut filter);
                    let plan = plan(db, &filter, ordering).await.unwrap();
                    let backend = db.get_database_backend();
                    let statement = list_statement(backend, &filter, ordering, plan, None, LIMIT);
                    if let Err(problem) = check_rare(db, statement, plan).await {
                        problems.push(format!("{name} in {states:?} by {ordering:?}: {problem}"));
                    }
                }
            }
        }
    }
}

/// When no lead matches a filter, the filter's own index is used.
pub async fn check_rare(
    db: &DatabaseConnection,
    statement: Statement,
    plan: Plan,
) -> Result<(), String> {
    let index = match plan {
        Plan::Order => return check(db, statement, LIMIT * 3).await,
        Plan::Filter(by) | Plan::Few(by) => match by {
            IndexedFilter::Owner => "leads_owner",
            IndexedFilter::Country => "leads_country",
            IndexedFilter::Source => "leads_source",
            IndexedFilter::CreateTime => "leads_state_create_time",
            IndexedFilter::UpdateTime => "leads_state_update_time",
        },
    };
    if db.get_database_backend() == DbBackend::Postgres {
        return check(db, statement, 1).await;
    }
    let lines = sqlite_plan(db, statement.clone()).await;
    let mut searches = lines.iter().filter(|(_, _, line)| {
        line.starts_with("SEARCH leads") && !line.contains("INTEGER PRIMARY KEY")
    });
    let scans = lines
        .iter()
        .any(|(_, _, line)| line.starts_with("SCAN leads"));
    if scans || !searches.all(|(_, _, line)| line.contains(index)) {
        return Err(format!("not by {index}: {lines:#?}\nof {statement}"));
    }
    Ok(())
}

/// When most leads match, reading the index of the requested order fills the page.
pub async fn common_filters(db: &DatabaseConnection, problems: &mut Vec<String>) {
    for key in OrderKey::ALL {
        for descending in [false, true] {
            let ordering = Ordering {
                key: *key,
                descending,
            };
            for states in choices_of_states() {
                let mut filter = filter(&states);
                filter.source = "bulk".into();
                filter.country_code = "DE".into();
                let plan = plan(db, &filter, ordering).await.unwrap();
                if let Plan::Few(IndexedFilter::Country | IndexedFilter::Source) = plan {
                    // Few leads are in the rarest state.
                    assert_eq!(states, [LeadState::Deactivated]);
                    continue;
                }
                let backend = db.get_database_backend();
                let statement = list_statement(backend, &filter, ordering, plan, None, LIMIT);
                let rows = LIMIT * u64::try_from(states.len()).unwrap();
                if let Err(problem) = check(db, statement, rows).await {
                    problems.push(format!("common in {states:?} by {ordering:?}: {problem}"));
                }
            }
        }
    }
}

//! The plans of the statements that count: the leads of a list, and those that a search finds. Counting ends soon after
//! the most that is counted.

use leadsmith::core::text_enum::TextEnum as _;
use leadsmith::db::search::Needles;
use leadsmith::features::leads::lists::{Plan, TOTAL_ORDERING, plan, total_statement};
use leadsmith::features::leads::model::{LeadState, MAX_TOTAL};
use leadsmith::features::leads::search;
use sea_orm::{DatabaseConnection, DbBackend};

use super::choices_of_states;
use super::list_plans::{RARE, check_rare, filter};
use super::plan::check;
use super::search_plans::{MEDIUM, SEARCHED, SELECTIVE};
use crate::bulk;

pub async fn every_total(db: &DatabaseConnection, problems: &mut Vec<String>) {
    let backend = db.get_database_backend();
    for state in LeadState::ALL {
        let all = filter(&[*state]);
        let statement = total_statement(backend, &all, Plan::Order, *state);
        if let Err(problem) = check(db, statement, MAX_TOTAL + 1).await {
            problems.push(format!("total of {state:?}: {problem}"));
        }
        for (name, set) in RARE {
            let mut filter = filter(&[*state]);
            set(&mut filter);
            let plan = plan(db, &filter, TOTAL_ORDERING).await.unwrap();
            let statement = total_statement(backend, &filter, plan, *state);
            if let Err(problem) = check_rare(db, statement, plan).await {
                problems.push(format!("total of {name} in {state:?}: {problem}"));
            }
        }
    }
    // SQLite counts the candidates of its own index, in blocks.
    if backend == DbBackend::Postgres {
        every_total_found(db, problems).await;
    }
}

/// How many rows are read to count the most that is counted: nine of ten leads are OPEN.
const COUNTED: u64 = MAX_TOTAL * 6 / 5;

async fn every_total_found(db: &DatabaseConnection, problems: &mut Vec<String>) {
    let rare = SELECTIVE
        .into_iter()
        .chain(MEDIUM)
        .map(|text| (text, SEARCHED));
    let common = bulk::COMMON.into_iter().map(|text| (text, COUNTED));
    for (query, rows) in rare.chain(common) {
        let needles = Needles::query(query).unwrap();
        for states in std::iter::once(Vec::new()).chain(choices_of_states()) {
            let has_many = states.is_empty() || states.contains(&LeadState::Open);
            if rows == COUNTED && !has_many {
                // All leads of the states are read, since they are fewer than are counted, and PostgreSQL chooses how.
                continue;
            }
            let statement = search::total_statement(DbBackend::Postgres, &needles, &states);
            if let Err(problem) = check(db, statement, rows).await {
                problems.push(format!("total of {query:?} in {states:?}: {problem}"));
            }
        }
    }
}

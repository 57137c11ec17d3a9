//! The plans of search statements: texts that many, some and few leads contain.

use leadsmith::db::search::Needles;
use leadsmith::features::leads::search::{
    NEWEST, compare_statement, index_statement, newest_statement,
};
use sea_orm::{DatabaseConnection, DbBackend};

use super::plan::check;
use super::{LIMIT, choices_of_states};
use crate::bulk;

/// Texts that one in 10,000 leads contains.
pub const SELECTIVE: [&str; 3] = ["zqx", "zqxjk", "zqxjkvwpyfgmcrlaoeui"];
/// Texts that about one in 300 leads and one in 5,000 leads contain.
pub const MEDIUM: [&str; 2] = ["pany 111", "name 4321"];

/// How many rows a search may read: all matches, or enough of them to fill a page. Few of the matches may
/// be in the requested states: one in a hundred here.
pub const SEARCHED: u64 = 6_000;

/// Somewhat more than the number of leads in the rarest state.
const FEW: u64 = 2_000;

pub async fn every_search(db: &DatabaseConnection, problems: &mut Vec<String>) {
    let backend = db.get_database_backend();
    for query in bulk::COMMON.into_iter().chain(SELECTIVE).chain(MEDIUM) {
        let needles = Needles::query(query).unwrap();
        for states in std::iter::once(Vec::new()).chain(choices_of_states()) {
            for before in [None, Some(60_000)] {
                let statement = if backend == DbBackend::Postgres {
                    index_statement(&needles, &states, before, LIMIT)
                } else {
                    // The candidates come from the index, which is only read by its keys.
                    compare_statement(&needles, &states, before, &[3, 77, 12_500], LIMIT)
                };
                if let Err(problem) = check(db, statement, SEARCHED).await {
                    problems.push(format!("{query:?} in {states:?}: {problem}"));
                }
                if backend == DbBackend::Postgres {
                    for newest in NEWEST {
                        let statement = newest_statement(&needles, &states, before, LIMIT, newest);
                        // These leads, and the newest lead, which shows which ones they are. When few
                        // leads are in a state, PostgreSQL may use the index of the state.
                        let rows = u64::try_from(newest).unwrap().max(FEW) + 2;
                        if let Err(problem) = check(db, statement, rows).await {
                            problems.push(format!("newest {query:?} in {states:?}: {problem}"));
                        }
                    }
                }
            }
        }
    }
}

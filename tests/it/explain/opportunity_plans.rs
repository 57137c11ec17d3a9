//! The plans of the lists of opportunities: every filter with every set of states.

use leadsmith::core::text_enum::TextEnum as _;
use leadsmith::features::opportunities::model::{Filter, OpportunityState, Stage};
use leadsmith::features::opportunities::store::lists::{Plan, RARE_LIMIT, list_statement, plan};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use uuid::Uuid;

use super::LIMIT;
use super::plan::{check, sqlite_plan};

const OWNER: &str = "01900000-0000-7000-8000-000000000001";
/// Of 100 opportunities, 90 are OPEN, 9 WON and 1 LOST.
const STATE: &str =
    "CASE WHEN seq % 100 = 7 THEN 'LOST' WHEN seq % 11 = 5 THEN 'WON' ELSE 'OPEN' END";
const STAGE: &str = "CASE seq % 4 WHEN 0 THEN 'CONTACT' WHEN 1 THEN 'MEETING' \
                     WHEN 2 THEN 'NEGOTIATION' ELSE 'BUYING' END";

/// Adds an opportunity to every lead.
async fn load(db: &DatabaseConnection) {
    let date = if db.get_database_backend() == DbBackend::Postgres {
        "DATE '2027-01-01' + CAST(seq % 3650 AS int)"
    } else {
        "date('2027-01-01', '+' || (seq % 3650) || ' days')"
    };
    let sql = format!(
        "INSERT INTO opportunities (id, lead_id, version, name, stage, state, probability, \
         expected_close_date, owner_id, next_step, description, create_time, update_time) \
         SELECT id, id, 1, 'Sale', CASE WHEN ({STATE}) = 'OPEN' THEN {STAGE} ELSE 'CLOSED' END, {STATE}, \
         0, {date}, CASE WHEN seq % 100 = 3 THEN '{OWNER}' ELSE '' END, '', '', create_time, update_time \
         FROM leads ORDER BY seq"
    );
    db.execute_unprepared(&sql).await.unwrap();
    db.execute_unprepared("ANALYZE").await.unwrap();
}

/// The number of one of the oldest opportunities, and the lead of one.
async fn deep(db: &DatabaseConnection) -> (i64, Uuid) {
    let sql = "SELECT seq, lead_id FROM opportunities ORDER BY seq LIMIT 1 OFFSET 2000";
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    (
        row.try_get_by_index(0).unwrap(),
        row.try_get_by_index(1).unwrap(),
    )
}

fn choices_of_states() -> Vec<Vec<OpportunityState>> {
    (1..8_usize)
        .map(|bits| {
            let all = OpportunityState::ALL.iter().enumerate();
            all.filter(|(bit, _)| bits & (1 << bit) != 0)
                .map(|(_, state)| *state)
                .collect()
        })
        .collect()
}

pub async fn every_list_of_opportunities(db: &DatabaseConnection, problems: &mut Vec<String>) {
    load(db).await;
    let (old, lead_id) = deep(db).await;
    let owner_id = Uuid::try_parse(OWNER).unwrap();
    let of_client = [lead_id, owner_id];
    let mut plans = Vec::new();
    for states in choices_of_states() {
        let all = Filter {
            lead_id: None,
            client_id: None,
            owner_id: None,
            states,
            stage: None,
            expected_close_before: None,
        };
        let mut filters = vec![
            Filter {
                lead_id: Some(lead_id),
                ..all.clone()
            },
            Filter {
                client_id: Some(lead_id),
                ..all.clone()
            },
            Filter {
                owner_id: Some(owner_id),
                ..all.clone()
            },
        ];
        for date in ["2027-01-05", "9999-12-31"] {
            let expected_close_before = date.parse().ok();
            filters.push(Filter {
                expected_close_before,
                ..all.clone()
            });
        }
        for stage in Stage::ALL {
            filters.push(Filter {
                stage: Some(*stage),
                ..all.clone()
            });
        }
        filters.push(all);
        for filter in filters.iter().filter_map(Filter::possible) {
            let plan = plan(db, &filter).await.unwrap();
            plans.push(plan);
            for before in [None, Some(old)] {
                let backend = db.get_database_backend();
                let statement = list_statement(backend, &filter, (plan, &of_client), before, LIMIT);
                if let Err(problem) = check_plan(db, statement, plan, &filter).await {
                    problems.push(format!("{filter:?} by {plan:?}: {problem}"));
                }
            }
        }
    }
    for plan in [
        Plan::Lead,
        Plan::Client,
        Plan::Owner,
        Plan::Stage,
        Plan::State,
        Plan::Date,
    ] {
        assert!(plans.contains(&plan), "{plan:?}");
    }
}

async fn check_plan(
    db: &DatabaseConnection,
    statement: Statement,
    plan: Plan,
    filter: &Filter,
) -> Result<(), String> {
    let states = filter.states.len();
    if db.get_database_backend() == DbBackend::Postgres {
        let rows = match plan {
            Plan::Date => RARE_LIMIT,
            Plan::Lead | Plan::Client | Plan::Owner | Plan::Stage | Plan::State => {
                LIMIT * u64::try_from(states).unwrap()
            }
        };
        return check(db, statement, rows).await;
    }
    let lines = sqlite_plan(db, statement.clone()).await;
    let merges = matches!(plan, Plan::Owner | Plan::State) && states > 1;
    let sorts = matches!(plan, Plan::Date | Plan::Client) || merges;
    for (_, _, line) in &lines {
        let by_key = line.contains("INTEGER PRIMARY KEY");
        let searches = line.starts_with("SEARCH opportunities");
        let wrong_index = searches && !by_key && !line.contains(plan.index());
        let scans = line.starts_with("SCAN opportunities");
        if scans || wrong_index || (line.contains("TEMP B-TREE") && !sorts) {
            return Err(format!(
                "not by {}: {lines:#?}\nof {statement}",
                plan.index()
            ));
        }
    }
    Ok(())
}

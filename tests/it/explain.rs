//! How the databases find the rows of a page among 100,000 leads: by an index, however the list is
//! ordered and however deep the page is. The plans are those of the service's own statements.

use std::time::{Duration, Instant};

use leadsmith::leads::lists::{By, Path, list_statement, path};
use leadsmith::leads::model::{Filter, LeadState, OrderKey, Ordering, Position, PositionKey, fold};
use leadsmith::leads::search::{NEWEST, compare_statement, index_statement, newest_statement};
use leadsmith::wire::proto::{ListLeadsRequest, SearchLeadsRequest};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::bulk;
use crate::harness::{Backend, Harness, reason};
use crate::lists;
use crate::on_both;

const LEADS: usize = 100_000;
/// A page, and the row that tells whether there is a next one.
pub const LIMIT: u64 = 51;

/// Parts of every ten-thousandth's.
const SELECTIVE: [&str; 3] = ["zqx", "zqxjk", "zqxjkvwpyfgmcrlaoeui"];
/// Parts of about one in three hundred's and one in five thousand's texts.
const MEDIUM: [&str; 2] = ["pany 111", "name 4321"];

/// Every choice of states but none at all.
fn choices_of_states() -> Vec<Vec<LeadState>> {
    (1..8_usize)
        .map(|bits| {
            let chosen = LeadState::ALL.iter().enumerate();
            chosen
                .filter(|(bit, _)| bits & (1 << bit) != 0)
                .map(|(_, state)| *state)
                .collect()
        })
        .collect()
}

fn filter(states: &[LeadState]) -> Filter {
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

/// Where the page 1,000 pages deep begins in a list of OPEN leads.
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

/// Checks a statement's plan: no table is scanned, and at most `rows` rows are sorted.
pub async fn check(db: &DatabaseConnection, statement: Statement, rows: u64) -> Result<(), String> {
    let plan = if db.get_database_backend() == DbBackend::Postgres {
        postgres(db, statement.clone(), rows).await
    } else {
        sqlite(db, statement.clone(), rows).await
    };
    plan.map_err(|problem| format!("{problem}\nof {statement}"))
}

/// PostgreSQL is asked what it did, not only what it meant to do.
async fn postgres(db: &DatabaseConnection, statement: Statement, rows: u64) -> Result<(), String> {
    let explain = Statement {
        sql: format!("EXPLAIN (ANALYZE, FORMAT JSON) {}", statement.sql),
        ..statement
    };
    let row = db.query_one_raw(explain).await.unwrap().unwrap();
    let plan: Value = row.try_get_by_index(0).unwrap();
    let mut nodes = vec![&plan[0]["Plan"]];
    let mut seen = 0;
    while let Some(node) = nodes.pop() {
        seen += 1;
        let children = node["Plans"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        nodes.extend(children);
        let kind = node["Node Type"].as_str().unwrap();
        let table = node["Relation Name"].as_str().unwrap_or_default();
        if kind == "Seq Scan" {
            return Err(format!("scans {table}: {plan:#}"));
        }
        // Rows that a node throws away it has read all the same.
        let read = total(node, "Actual Rows") + total(node, "Rows Removed by Filter");
        if kind.contains("Index Scan") && read > rows {
            return Err(format!("reads {read} rows of {table}: {plan:#}"));
        }
        let sorted: u64 = children
            .iter()
            .map(|child| total(child, "Actual Rows"))
            .sum();
        if kind.contains("Sort") && sorted > rows {
            return Err(format!("sorts {sorted} rows: {plan:#}"));
        }
    }
    assert!(seen > 1, "a plan: {plan:#}");
    Ok(())
}

/// How many rows over all loops.
fn total(node: &Value, what: &str) -> u64 {
    node[what].as_u64().unwrap_or(0) * node["Actual Loops"].as_u64().unwrap_or(1)
}

/// The lines of a plan: their numbers, those of the lines above them, and what they say.
async fn sqlite_plan(db: &DatabaseConnection, statement: Statement) -> Vec<(i32, i32, String)> {
    let explain = Statement {
        sql: format!("EXPLAIN QUERY PLAN {}", statement.sql),
        ..statement
    };
    let lines: Vec<(i32, i32, String)> = db
        .query_all_raw(explain)
        .await
        .unwrap()
        .iter()
        .map(|row| {
            (
                row.try_get_by_index(0).unwrap(),
                row.try_get_by_index(1).unwrap(),
                row.try_get_by_index(3).unwrap(),
            )
        })
        .collect();
    assert!(!lines.is_empty(), "a plan");
    lines
}

async fn sqlite(db: &DatabaseConnection, statement: Statement, rows: u64) -> Result<(), String> {
    let sql = statement.sql.clone();
    let lines = sqlite_plan(db, statement).await;
    let whole: Vec<&str> = lines.iter().map(|(_, _, line)| line.as_str()).collect();
    let whole = whole.join("\n");
    // A later page begins where the one before ended, instead of walking there.
    let later = is_later(&sql);
    for (_, parent, line) in &lines {
        let walk = line.starts_with("SEARCH leads USING") && line.contains("INDEX leads_state");
        if later && walk && !line.contains("(state=? AND (") {
            return Err(format!("walks from the beginning: {whole}"));
        }
        if line.starts_with("SCAN leads") || line.starts_with("SCAN lead_search") {
            return Err(format!("scans: {whole}"));
        }
        // Only what comes from a walk is sorted, which ends at the limit: never a table's own rows.
        let beside = lines.iter().filter(|(_, other, _)| other == parent);
        let merge = rows > LIMIT
            && beside.into_iter().all(|(_, _, line)| {
                !line.starts_with("SEARCH lead") && !line.starts_with("SCAN lead")
            });
        if line.contains("TEMP B-TREE") && !merge {
            return Err(format!("sorts: {whole}"));
        }
    }
    Ok(())
}

fn is_later(sql: &str) -> bool {
    ["\"id\") <", "\"id\") >"]
        .iter()
        .any(|there| sql.contains(there))
}

on_both! {
    async fn pages_among_very_many_leads_are_found_by_an_index(h: Harness) {
        let db = h.database.connect().await;
        let begin = Instant::now();
        bulk::load(&db, LEADS).await;
        println!("loading {LEADS} leads took {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(60));

        let mut problems = Vec::new();
        every_list(&db, &mut problems).await;
        every_search(&db, &mut problems).await;
        rare_filters(&db, &mut problems).await;
        common_filters(&db, &mut problems).await;
        if h.database.backend == Backend::Sqlite {
            // Nobody else has SQLite find out what is in its tables.
            db.execute_unprepared("DELETE FROM sqlite_stat1").await.unwrap();
            let db = h.database.connect().await;
            rare_filters(&db, &mut problems).await;
            common_filters(&db, &mut problems).await;
        }
        let first = problems.first();
        assert!(first.is_none(), "{} problems, the first: {}", problems.len(), first.unwrap());
        what_scans_is_rejected(&db).await;
        deep_pages_answer(&h).await;
        searches_answer(&h).await;
        slow_searches_leave_the_others_their_connections(&h).await;
        what_takes_too_long_is_ended(&h).await;
    }
}

async fn every_list(db: &DatabaseConnection, problems: &mut Vec<String>) {
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
                        list_statement(backend, &filter, ordering, Path::Order, after, LIMIT);
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

/// A filter by its name, and what sets it.
type Named = (&'static str, fn(&mut Filter));

/// Filters that no lead matches, each by itself and beside others.
const RARE: [Named; 7] = [
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

/// However the leads are ordered and whatever their states, none is read that nobody asked for.
async fn rare_filters(db: &DatabaseConnection, problems: &mut Vec<String>) {
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
                    let path = path(db, &filter, ordering).await.unwrap();
                    let backend = db.get_database_backend();
                    let statement = list_statement(backend, &filter, ordering, path, None, LIMIT);
                    if let Err(problem) = check_rare(db, statement, path).await {
                        problems.push(format!("{name} in {states:?} by {ordering:?}: {problem}"));
                    }
                }
            }
        }
    }
}

/// Where nothing matches a filter, its own index says so.
async fn check_rare(
    db: &DatabaseConnection,
    statement: Statement,
    path: Path,
) -> Result<(), String> {
    let index = match path {
        Path::Order => return check(db, statement, LIMIT * 3).await,
        Path::Filter(by) | Path::Few(by) => match by {
            By::Owner => "leads_owner",
            By::Country => "leads_country",
            By::Source => "leads_source",
            By::CreateTime => "leads_state_create_time",
            By::UpdateTime => "leads_state_update_time",
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

/// Where most leads match, a walk in the wanted order fills its page at once.
async fn common_filters(db: &DatabaseConnection, problems: &mut Vec<String>) {
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
                let path = path(db, &filter, ordering).await.unwrap();
                if let Path::Few(By::Country | By::Source) = path {
                    // Of those in the rarest state there are few.
                    assert_eq!(states, [LeadState::Deactivated]);
                    continue;
                }
                let backend = db.get_database_backend();
                let statement = list_statement(backend, &filter, ordering, path, None, LIMIT);
                let rows = LIMIT * u64::try_from(states.len()).unwrap();
                if let Err(problem) = check(db, statement, rows).await {
                    problems.push(format!("common in {states:?} by {ordering:?}: {problem}"));
                }
            }
        }
    }
}

async fn every_search(db: &DatabaseConnection, problems: &mut Vec<String>) {
    let backend = db.get_database_backend();
    for query in bulk::COMMON.into_iter().chain(SELECTIVE).chain(MEDIUM) {
        let query = fold(query);
        for states in std::iter::once(Vec::new()).chain(choices_of_states()) {
            for before in [None, Some(60_000)] {
                let statement = if backend == DbBackend::Postgres {
                    index_statement(&query, &states, before, LIMIT)
                } else {
                    // The candidates come from the index, which is read by its keys alone.
                    compare_statement(&query, &states, before, &[3, 77, 12_500], LIMIT)
                };
                if let Err(problem) = check(db, statement, SEARCHED).await {
                    problems.push(format!("{query:?} in {states:?}: {problem}"));
                }
                if backend == DbBackend::Postgres {
                    for newest in NEWEST {
                        let statement = newest_statement(&query, &states, before, LIMIT, newest);
                        // These, and the newest one to learn which they are. While few are in a
                        // state, PostgreSQL may go by that.
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

/// What a search may read: every lead that matches, or so many before a page of them is found. Few of
/// those that match may be in the states wanted, one of a hundred here.
const SEARCHED: u64 = 6_000;

/// How many of the leads here are in the rarest state, and some.
const FEW: u64 = 2_000;

/// The service finds what many share and what few do, the newest first.
async fn searches_answer(h: &Harness) {
    type Matches = fn(&usize) -> bool;
    let matches: [(&str, Matches); 3] = [
        ("edsger", |i| i % 4 == 3),
        ("lead9999", |i| *i == 9_999 || *i / 10 == 9_999),
        (" zqxjkvwpyfgmcrlaoeui", |i| i % 10_000 == 77),
    ];
    for (query, matches) in matches {
        let mut expected = (1..=LEADS).rev().filter(matches);
        let mut request = SearchLeadsRequest {
            query: query.trim().into(),
            page_size: 50,
            ..Default::default()
        };
        for _ in 0..3 {
            let answer = h
                .viewer
                .leads()
                .search(request.clone())
                .await
                .unwrap()
                .into_inner();
            for lead in answer.leads {
                let i = expected.next().unwrap();
                assert_eq!(lead.phone, format!("+49 30 {}", 1_000_000 + i), "{query}");
            }
            request.page_token = answer.next_page_token;
            if request.page_token.is_empty() {
                assert_eq!(expected.next(), None, "{query}");
                break;
            }
        }
    }
}

/// A text of two characters is compared with the text of every lead. A principal that does that many times at
/// once delays only itself.
async fn slow_searches_leave_the_others_their_connections(h: &Harness) {
    let lead = h.sales.create_lead("Neighbour").await;
    let mut searches = JoinSet::new();
    for _ in 0..64 {
        let viewer = h.viewer.clone();
        searches.spawn(async move {
            let request = SearchLeadsRequest {
                query: "~~".into(),
                ..Default::default()
            };
            viewer.leads().search(request).await.map(|_| ())
        });
    }
    let begun = Instant::now();
    let mut turns = 0;
    while turns < 10 || (begun.elapsed() < Duration::from_secs(3) && !searches.is_empty()) {
        assert_eq!(h.sales.get(&lead.id).await, lead);
        let request = ListLeadsRequest::default();
        let page = lists::list(&h.sales, request).await.unwrap();
        assert_eq!(page.leads[0], lead);
        while searches.try_join_next().is_some() {}
        turns += 1;
    }
    while let Some(search) = searches.join_next().await {
        let refused = search.unwrap().err();
        assert!(refused.is_none_or(|status| reason(&status) == "SERVER_OVERLOADED"));
    }
}

async fn what_takes_too_long_is_ended(h: &Harness) {
    let short = Duration::from_millis(10);
    let server = h
        .another_server(|settings| settings.limits.statement_time = short)
        .await;
    let viewer = h.viewer.at(&server);
    let request = SearchLeadsRequest {
        query: "~~".into(),
        ..Default::default()
    };
    let status = lists::search(&viewer, request).await.unwrap_err();
    assert_eq!(reason(&status), "QUERY_TOO_SLOW", "{status:?}");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("three characters"), "{status:?}");
    // The connections go on being used: what is fast enough is answered. How long these 8 take depends on
    // the machine, so one of them is enough.
    let mut answered = 0;
    for _ in 0..8 {
        let request = ListLeadsRequest::default();
        match lists::list(&viewer, request).await {
            Ok(_) => answered += 1,
            Err(status) => assert_eq!(reason(&status), "QUERY_TOO_SLOW", "{status:?}"),
        }
    }
    assert!(answered > 0, "no list within {short:?}");
    server.stop().await.unwrap();
}

/// The check itself can fail.
async fn what_scans_is_rejected(db: &DatabaseConnection) {
    let backend = db.get_database_backend();
    for sql in [
        "SELECT * FROM leads WHERE city = 'Paris'",
        "SELECT * FROM leads WHERE upper(company) = 'X' ORDER BY id LIMIT 51",
        "SELECT * FROM leads WHERE state = 'OPEN' ORDER BY country_code, id LIMIT 51",
        "SELECT * FROM lead_search WHERE text LIKE '%zqxjk%'",
    ] {
        let statement = Statement::from_string(backend, sql);
        let outcome = check(db, statement, LIMIT * 3).await;
        assert!(outcome.is_err(), "{sql} passed");
    }
}

/// The service itself goes a thousand pages deep.
async fn deep_pages_answer(h: &Harness) {
    let mut request = ListLeadsRequest {
        page_size: 1_000,
        states: vec![1, 2, 3],
        order_by: "create_time".into(),
        ..Default::default()
    };
    for _ in 0..50 {
        let answer = lists::list(&h.viewer, request.clone()).await.unwrap();
        assert_eq!(answer.leads.len(), 1_000);
        request.page_token = answer.next_page_token;
    }
    request.page_size = 50;
    let answer = lists::list(&h.viewer, request).await.unwrap();
    let phones: Vec<&str> = answer
        .leads
        .iter()
        .map(|lead| lead.phone.as_str())
        .collect();
    let expected: Vec<String> = (50_001..=50_050)
        .map(|i| format!("+49 30 {}", 1_000_000 + i))
        .collect();
    assert_eq!(phones, expected);
}

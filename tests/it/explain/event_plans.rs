//! The plans of the statements that read the event log: those of Watch, of retention and of `EventService.List`, among
//! an event for each lead and a second one for some.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use leadsmith::core::call::PrincipalKind;
use leadsmith::db::event_log::list::{
    Between, RARE_LIMIT, WINDOW, Wanted, count_statement, few_statement, newest_statement,
    window_statement,
};
use leadsmith::db::event_log::position::{Cover, EventRef, Position, Window};
use leadsmith::db::event_log::statements;
use leadsmith::features::events::model::{ListFilter, Subject};
use leadsmith::features::events::store::{Versions, condition, contents_statement};
use leadsmith_proto::ListEventsRequest;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use uuid::Uuid;

use super::LIMIT;
use super::plan::{check, sqlite_plan};
use crate::events::list::list;
use crate::harness::Harness;

/// How many leads have a second event.
const UPDATED: i64 = 20_000;
/// How many events a transaction wrote.
const BATCH: i64 = 10;
/// How many events the readers of the log read at once.
const PAGE: u64 = 64;
/// How many retention looks at.
const SCAN: u64 = 10_000;
const ACTOR: &str =
    r#"{"kind":"OPERATOR","id":"00000000-0000-7000-8000-000000000001","name":"bulk"}"#;

/// Adds the events, and their history.
async fn load(db: &DatabaseConnection) {
    let is_postgres = db.get_database_backend() == DbBackend::Postgres;
    let (json, event_id, history_id) = match is_postgres {
        true => ("::jsonb", "md5('e' || seq)::uuid", "md5('h' || seq)::uuid"),
        false => ("", "randomblob(16)", "randomblob(16)"),
    };
    let record = r#"{"changed":{"lead":[{"path":"/phone","before":"1","after":"2"}]}}"#;
    for (version, verb, last) in [(1, "created", i64::MAX), (2, "updated", UPDATED)] {
        let sql = format!(
            "INSERT INTO events (id, lead_id, type, subject_id, version, time, actor, record, transaction_id) \
             SELECT {event_id}, id, 'lead.{verb}', id, {version}, create_time, '{ACTOR}'{json}, '{record}'{json}, \
             1 + seq / {BATCH} FROM leads WHERE seq <= {last} ORDER BY seq"
        );
        db.execute_unprepared(&sql).await.unwrap();
        let sql = format!(
            "INSERT INTO history (id, lead_id, subject, subject_id, version, time, actor, rpc, changes, request_id) \
             SELECT {history_id}, id, 'LEAD', id, {version}, create_time, '{ACTOR}'{json}, 'bulk', '[]'{json}, id \
             FROM leads WHERE seq <= {last} ORDER BY seq"
        );
        if version == 1 || !is_postgres {
            db.execute_unprepared(&sql).await.unwrap();
        } else {
            let sql = sql.replace("md5('h' || seq)", "md5('i' || seq)");
            db.execute_unprepared(&sql).await.unwrap();
        }
    }
    db.execute_unprepared("ANALYZE").await.unwrap();
}

/// A lead in the middle of the log, and the number and time of its event.
async fn deep(db: &DatabaseConnection) -> (Uuid, i64, DateTime<Utc>) {
    let sql = "SELECT subject_id, seq, time FROM events WHERE type = 'lead.created' ORDER BY seq LIMIT 1 OFFSET 2000";
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    (
        row.try_get_by_index(0).unwrap(),
        row.try_get_by_index(1).unwrap(),
        row.try_get_by_index(2).unwrap(),
    )
}

pub async fn every_read_of_the_event_log(db: &DatabaseConnection, problems: &mut Vec<String>) {
    load(db).await;
    let (lead_id, seq, time) = deep(db).await;
    let mut check = Check { db, problems };
    check.watch(lead_id, seq).await;
    check.retention(seq).await;
    check.lists(lead_id, seq, time).await;
}

struct Check<'a> {
    db: &'a DatabaseConnection,
    problems: &'a mut Vec<String>,
}

impl Check<'_> {
    /// At most `rows` are read, and events are sorted only if `sorts`.
    async fn plan(&mut self, what: &str, statement: Statement, rows: u64, sorts: bool) {
        let outcome = match statement.db_backend == DbBackend::Postgres {
            true => check(self.db, statement, rows).await,
            false => sqlite(self.db, statement, sorts).await,
        };
        if let Err(problem) = outcome {
            self.problems.push(format!("{what}: {problem}"));
        }
    }

    async fn watch(&mut self, id: Uuid, seq: i64) {
        let backend = self.db.get_database_backend();
        let newest = Some(EventRef {
            transaction: seq,
            seq,
            id,
        });
        let page = PAGE + 1;
        if backend == DbBackend::Sqlite {
            let position = Position {
                newest,
                ..Position::after_seq(seq)
            };
            let statement = statements::after_number(&position, PAGE);
            self.plan("a page", statement, page, true).await;
        } else {
            let snapshot = Cover {
                bound: i64::MAX,
                unfinished: BTreeSet::from([7, seq / BATCH]),
            };
            // The last events of the log, and all from the middle of it.
            let count =
                "SELECT max(transaction_id), max(seq) FROM events WHERE actor ->> 'name' = 'bulk'";
            let count = Statement::from_string(backend, count);
            let row = self.db.query_one_raw(count).await.unwrap().unwrap();
            let last: i64 = row.try_get_by_index(0).unwrap();
            for (bound, unfinished) in [
                (last, BTreeSet::new()),
                (last, BTreeSet::from([7, seq / BATCH])),
                (seq / BATCH, BTreeSet::new()),
            ] {
                let position = Position {
                    read: Arc::new(Cover { bound, unfinished }),
                    window: None,
                    newest,
                };
                let what = format!("a new window from {bound}");
                let statement = statements::new_window(&position, PAGE);
                // Twice: those from the bound, and the unfinished ones.
                self.plan(&what, statement, 3 * page, true).await;
            }
            let near = Position {
                read: Arc::new(Cover::below(last)),
                ..Position::default()
            };
            let statement = statements::unread(&near, &snapshot);
            self.plan("what is unread", statement, 1_000, false).await;
            let window = Window {
                end: Arc::new(snapshot),
                after: seq,
            };
            let read = Position {
                read: Arc::new(Cover::below(seq / BATCH)),
                window: Some(window.clone()),
                newest,
            };
            let statement = statements::in_window(&read, &window, PAGE);
            self.plan("a part of a window", statement, 2 * page, true)
                .await;
        }
        let statement = statements::ends(backend);
        self.plan("the ends", statement, 2, false).await;
        let statement = statements::first_after(backend, seq);
        self.plan("a step of a bisection", statement, 1, false)
            .await;
        let statement = statements::last(backend);
        self.plan("the last event", statement, 1, false).await;
        let versions: Vec<Versions> = [id, Uuid::from_u128(1)]
            .into_iter()
            .map(|id| Versions {
                id,
                after: 0,
                until: 2,
            })
            .collect();
        let statement = contents_statement(backend, &versions);
        self.plan("what changed", statement, 4, true).await;
    }

    async fn retention(&mut self, seq: i64) {
        let backend = self.db.get_database_backend();
        let statement = statements::times(backend, 0, SCAN);
        self.plan("the oldest events", statement, SCAN, false).await;
        let statement = statements::deletable(backend, seq, 1_000);
        // And those of transactions that may still be running.
        self.plan("the events to delete", statement, 1_100, false)
            .await;
        if backend == DbBackend::Sqlite {
            let statement = statements::delete(backend, seq, seq);
            self.plan("their deletion", statement, 1_000, false).await;
        }
    }

    async fn lists(&mut self, lead_id: Uuid, seq: i64, time: DateTime<Utc>) {
        let backend = self.db.get_database_backend();
        let window = Between {
            after: seq,
            before: seq + WINDOW + 1,
        };
        let all = Between {
            after: 0,
            before: i64::MAX,
        };
        let rows = u64::try_from(WINDOW).unwrap();
        for filter in filters(time) {
            let wanted = wanted(&filter);
            let statement = window_statement(backend, &wanted, window, LIMIT);
            let what = format!("a window by {filter:?}");
            self.plan(&what, statement, rows, false).await;
            for records in [vec![lead_id], vec![lead_id, Uuid::from_u128(1)]] {
                let statement = few_statement(backend, &wanted, &records, all, LIMIT);
                let what = format!("few events by {filter:?}");
                self.plan(&what, statement, RARE_LIMIT, true).await;
                let statement = count_statement(backend, &records);
                self.plan("the number of events", statement, RARE_LIMIT, false)
                    .await;
            }
        }
        for range in [all, window] {
            let statement = newest_statement(backend, range);
            self.plan("the newest event of a range", statement, 1, false)
                .await;
        }
        let numbers: Vec<i64> = (seq..seq + 60).collect();
        let statement = statements::by_numbers(backend, &numbers);
        self.plan("events by their numbers", statement, 2 * PAGE, true)
            .await;
    }
}

fn filters(time: DateTime<Utc>) -> Vec<ListFilter> {
    let all = ListFilter {
        is_admin: true,
        ..ListFilter::default()
    };
    let actor_id = Some(Uuid::from_u128(7));
    vec![
        all.clone(),
        ListFilter {
            is_admin: false,
            ..all.clone()
        },
        ListFilter {
            actor_id,
            ..all.clone()
        },
        ListFilter {
            actor_kinds: BTreeSet::from([PrincipalKind::CommandLine]),
            ..all.clone()
        },
        ListFilter {
            types: BTreeSet::from(["lead.converted".to_owned(), "lead.updated".to_owned()]),
            ..all.clone()
        },
        ListFilter {
            subjects: BTreeSet::from([Subject::Order]),
            ..all.clone()
        },
        ListFilter {
            actor_id,
            types: BTreeSet::from(["lead.created".to_owned()]),
            time_after: Some(time - chrono::Duration::days(1)),
            time_before: Some(time + chrono::Duration::days(1)),
            ..all
        },
    ]
}

fn wanted(filter: &ListFilter) -> Wanted {
    Wanted {
        condition: condition(filter).unwrap(),
        records: None,
        time_after: filter.time_after,
        time_before: filter.time_before,
    }
}

/// No table is scanned, and events are sorted only if `sorts`.
async fn sqlite(db: &DatabaseConnection, statement: Statement, sorts: bool) -> Result<(), String> {
    let lines = sqlite_plan(db, statement.clone()).await;
    for (_, _, line) in &lines {
        // In other statements e is a part of the table, which is found already.
        let is_table = statement.sql.contains("events AS e");
        let scans = ["SCAN events", "SCAN e", "SCAN history", "SCAN h"]
            .iter()
            .filter(|scan| is_table || **scan != "SCAN e")
            .any(|scan| line == scan || line.starts_with(&format!("{scan} ")));
        // In the order of the numbers, until the limit.
        let by_number = line == "SCAN events" && statement.sql.contains("ORDER BY seq");
        if (scans && !by_number) || (line.contains("TEMP B-TREE") && !sorts) {
            return Err(format!("{lines:#?}\nof {statement}"));
        }
    }
    Ok(())
}

/// A list whose only matches are the oldest events of the log reaches them, by pages that are empty before.
pub async fn the_oldest_events_are_listed(h: &Harness) {
    let mut request = ListEventsRequest {
        types: vec!["operator.created".into()],
        ..Default::default()
    };
    let mut pages = Vec::new();
    loop {
        let page = list(&h.admin, request.clone()).await.unwrap();
        pages.push(page.events.len());
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(
        pages,
        [0, 3],
        "120,000 events are looked through in two pages"
    );
}

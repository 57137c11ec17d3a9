//! SQLite's search index: it contains exactly what the texts require, however they were written.

use std::collections::BTreeMap;

use leadsmith::app;
use leadsmith::db::migrate;
use leadsmith::db::search::index::PENDING;
use leadsmith_proto::{CreateLeadRequest, Lead, SearchLeadsRequest};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait};
use tokio::task::JoinSet;

use super::{pages, search};
use crate::harness::{Backend, Caller, TestDatabase, channel, count, update};
use crate::on_both;

/// Every set of the index, by its key.
async fn sets(db: &impl ConnectionTrait) -> BTreeMap<i64, Vec<u8>> {
    let sql = "SELECT key, blocks FROM search_index";
    let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql));
    let rows = rows.await.unwrap();
    rows.iter()
        .map(|row| {
            (
                row.try_get_by_index(0).unwrap(),
                row.try_get_by_index(1).unwrap(),
            )
        })
        .collect()
}

/// Fails unless the index equals one that is rebuilt from the texts, where a pending lead has the text noted in
/// the list, and the number of pending leads is within the limit.
pub async fn check(db: &DatabaseConnection) {
    let kept = sets(db).await;
    assert!(count(db, PENDING_LEADS).await <= PENDING);
    let other = "SELECT count(*) FROM search_pending AS p LEFT JOIN lead_search AS s USING (seq) \
                 WHERE p.current IS NOT s.text";
    assert_eq!(count(db, other).await, 0);
    let tx = db.begin().await.unwrap();
    for sql in [
        "UPDATE lead_search AS s SET text = p.indexed FROM search_pending AS p WHERE p.seq = s.seq",
        "DELETE FROM search_index",
    ] {
        tx.execute_unprepared(sql).await.unwrap();
    }
    migrations::fill_search_index(&tx).await.unwrap();
    let made = sets(&tx).await;
    tx.rollback().await.unwrap();
    let differing = made.iter().filter(|(key, set)| kept.get(key) != Some(set));
    let surplus = kept.keys().filter(|key| !made.contains_key(key));
    assert_eq!((differing.count(), surplus.count()), (0, 0));
}

const PENDING_LEADS: &str = "SELECT count(*) FROM search_pending";

async fn create(caller: &Caller, company: &str, phone: &str) -> Lead {
    let request = CreateLeadRequest {
        lead: Some(Lead {
            company: company.into(),
            phone: phone.into(),
            ..Lead::default()
        }),
        ..CreateLeadRequest::default()
    };
    let created = caller.leads().create(request).await.unwrap();
    created.into_inner().lead.unwrap()
}

/// The companies that a query finds, page by page.
async fn found(caller: &Caller, query: &str, page_size: i32) -> Vec<String> {
    let request = SearchLeadsRequest {
        query: query.into(),
        page_size,
        ..SearchLeadsRequest::default()
    };
    let leads = pages(async |page_token| {
        let request = SearchLeadsRequest {
            page_token,
            ..request.clone()
        };
        let page = search(caller, request).await.unwrap();
        (page.leads, page.next_page_token)
    });
    leads
        .await
        .into_iter()
        .flatten()
        .map(|lead| lead.company)
        .collect()
}

async fn set_next_seq(database: &TestDatabase, seq: i64) {
    let db = database.connect().await;
    let sql = match database.backend {
        Backend::Sqlite => format!(
            "UPDATE sqlite_sequence SET seq = {} WHERE name = 'leads'",
            seq - 1
        ),
        Backend::Postgres => format!("SELECT setval('leads_seq_seq', {seq}, FALSE)"),
    };
    db.execute_unprepared(&sql).await.unwrap();
}

/// The ends of blocks and segments of the index: 4 leads and 32,768; and the numbers at which a search reads more
/// segments.
const ENDS: [i64; 5] = [16, 32_768, 131_072, 1_179_648, 6_553_600];

on_both! {
    async fn what_is_written_at_once_is_indexed_as_one_by_one(h: Harness) {
        let mut callers = JoinSet::new();
        for number in 0..48 {
            let (caller, admin) = (h.sales.clone(), h.admin.clone());
            callers.spawn(async move {
                let lead = create(&caller, &format!("Company {number} Ångström"), "+44 20 7946").await;
                let renamed = Lead {
                    id: lead.id.clone(),
                    company: format!("Renamed {} ångström", number % 7),
                    phone: format!("+44 30 {number:07}"),
                    ..Lead::default()
                };
                let changed = update(renamed, &["company", "phone"]);
                caller.leads().update(changed).await.unwrap();
                if number % 12 == 0 {
                    admin.erase(&lead.id).await.unwrap();
                }
            });
        }
        callers.join_all().await;
        assert_eq!(found(&h.viewer, "company", 10).await, Vec::<String>::new());
        assert_eq!(found(&h.viewer, "ÅNGSTRÖM", 10).await.len(), 44);
        assert_eq!(found(&h.viewer, "30 0000047", 10).await, ["Renamed 5 ångström"]);
        if h.database.backend == Backend::Sqlite {
            check(&h.database.connect().await).await;
        }
    }

    async fn pages_go_on_over_the_ends_of_blocks_and_segments(h: Harness) {
        create(&h.sales, "Boundary first", "").await;
        let mut expected = vec!["Boundary first".to_owned()];
        for end in ENDS {
            set_next_seq(&h.database, end - 2).await;
            for number in end - 2..end + 2 {
                let company = format!("Boundary {number}");
                create(&h.sales, &company, "").await;
                expected.insert(0, company);
            }
        }
        for page_size in [1, 3, 50] {
            assert_eq!(found(&h.viewer, "boundary", page_size).await, expected, "{page_size}");
        }
        assert_eq!(found(&h.viewer, "boundary 32768", 2).await, ["Boundary 32768"]);
        assert_eq!(found(&h.viewer, "boundary 1179647", 2).await, ["Boundary 1179647"]);
        if h.database.backend == Backend::Sqlite {
            let db = h.database.connect().await;
            check(&db).await;
            assert_eq!(count(&db, PENDING_LEADS).await, 21);
            // An erasure applies the pending changes, so now the index finds all of them.
            let lead = create(&h.sales, "Gone", "").await;
            h.admin.erase(&lead.id).await.unwrap();
            assert_eq!(count(&db, PENDING_LEADS).await, 0);
            check(&db).await;
            for page_size in [1, 3, 50] {
                assert_eq!(found(&h.viewer, "boundary", page_size).await, expected, "{page_size}");
            }
        }
    }

    async fn leads_are_found_while_they_are_pending_and_after(h: Harness) {
        let mut callers = JoinSet::new();
        for number in 0..PENDING + 40 {
            let caller = h.sales.clone();
            callers.spawn(async move {
                let company = format!("Company {number:03} {}", ["even", "odd"][number as usize % 2]);
                create(&caller, &company, "").await
            });
        }
        let leads = callers.join_all().await;
        let expected = async |query: &str, count: usize| {
            assert_eq!(found(&h.viewer, query, 50).await.len(), count, "{query}");
            if h.database.backend == Backend::Sqlite {
                check(&h.database.connect().await).await;
            }
        };
        let all = leads.len();
        expected("company", all).await;
        expected("even", all / 2).await;
        expected("company 549", 1).await;

        // Their blocks are now in the index, with their earlier texts.
        let mut callers = JoinSet::new();
        for lead in leads.into_iter().take(100) {
            let caller = h.sales.clone();
            callers.spawn(async move {
                let company = lead.company.replace("Company", "Renamed").replace("even", "straight");
                let renamed = Lead { company, ..lead };
                caller.leads().update(update(renamed, &["company"])).await.unwrap()
            });
        }
        callers.join_all().await;
        expected("company", all - 100).await;
        expected("renamed", 100).await;
        let straight = found(&h.viewer, "straight", 50).await.len();
        expected("even", all / 2 - straight).await;
        assert!(straight > 0);
    }

    async fn a_database_from_before_is_indexed_by_the_migration(h: Harness) {
        let mut viewer = h.viewer.clone();
        for number in 0..20 {
            create(&h.sales, &format!("Before {number}"), "").await;
        }
        let _server = if h.database.backend == Backend::Postgres {
            h.server
        } else {
            // Now there are no pending changes.
            let lead = create(&h.sales, "Gone", "").await;
            h.admin.erase(&lead.id).await.unwrap();
            let url = h.database.url.clone().into();
            let db = h.database.connect().await;
            let before = sets(&db).await;
            db.close().await.unwrap();
            h.server.stop().await.unwrap();
            let steps = migrate::status(&url).await.unwrap();
            let from = steps.iter().position(|step| step.name == "m0010_search_index").unwrap();
            let newer = u32::try_from(steps.len() - from).unwrap();
            migrate::down(&url, newer).await.unwrap();
            let db = h.database.connect().await;
            let sql = "SELECT rowid FROM lead_search WHERE lead_search MATCH '\"before 1\"'";
            let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap();
            assert_eq!(rows.len(), 11, "the version before finds them");
            migrate::up(&url).await.unwrap();
            assert_eq!(sets(&db).await, before);
            let server = app::start(&h.database.settings(), h.clock.clone()).await.unwrap();
            viewer.channel = channel(server.address);
            server
        };
        assert_eq!(found(&viewer, "before 1", 50).await.len(), 11);
    }
}

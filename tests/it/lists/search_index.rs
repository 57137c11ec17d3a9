//! SQLite's search index: that it holds what the texts say and nothing else, however they came about.

use std::collections::BTreeMap;

use leadsmith::db::migrate;
use leadsmith::wire::proto::{CreateLeadRequest, Lead, SearchLeadsRequest};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tokio::task::JoinSet;

use super::{pages, search};
use crate::harness::{Backend, Caller, TestDatabase, update};
use crate::on_both;

/// Every set of the index, by its key.
async fn sets(db: &DatabaseConnection) -> BTreeMap<i64, Vec<u8>> {
    let sql = "SELECT key, members FROM search_index";
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

/// Fails unless the index is what the texts make from nothing. Nobody else may write meanwhile.
pub async fn check(db: &DatabaseConnection) {
    let kept = sets(db).await;
    db.execute_unprepared("DELETE FROM search_index")
        .await
        .unwrap();
    migrations::fill_search_index(db).await.unwrap();
    let made = sets(db).await;
    let differing = made.iter().filter(|(key, set)| kept.get(key) != Some(set));
    let surplus = kept.keys().filter(|key| !made.contains_key(key));
    assert_eq!((differing.count(), surplus.count()), (0, 0));
}

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

/// Where leaves and branches of the index end: 1,024 leads and 1,048,576.
const ENDS: [i64; 4] = [1_024, 2_048, 1_048_576, 2_097_152];

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

    async fn pages_go_on_over_the_ends_of_leaves_and_branches(h: Harness) {
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
        assert_eq!(found(&h.viewer, "boundary 1024", 2).await, ["Boundary 1024"]);
        assert_eq!(found(&h.viewer, "boundary 2097151", 2).await, ["Boundary 2097151"]);
        if h.database.backend == Backend::Sqlite {
            check(&h.database.connect().await).await;
        }
    }

    async fn a_database_from_before_is_indexed_by_the_migration(h: Harness) {
        for number in 0..20 {
            create(&h.sales, &format!("Before {number}"), "").await;
        }
        if h.database.backend == Backend::Sqlite {
            let url = h.database.url.clone().into();
            let before = sets(&h.database.connect().await).await;
            let steps = migrate::status(&url).await.unwrap();
            let from = steps.iter().position(|step| step.name == "m0010_search_index").unwrap();
            let newer = u32::try_from(steps.len() - from).unwrap();
            migrate::down(&url, newer).await.unwrap();
            let db = h.database.connect().await;
            let sql = "SELECT rowid FROM lead_search WHERE lead_search MATCH '\"before 1\"'";
            let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap();
            assert_eq!(rows.len(), 11, "the version before finds them");
            migrate::up(&url).await.unwrap();
            assert_eq!(sets(&h.database.connect().await).await, before);
        }
        assert_eq!(found(&h.viewer, "before 1", 50).await.len(), 11);
    }
}

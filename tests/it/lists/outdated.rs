//! Search texts that an older version has written: the migration and the service make them again.

use leadsmith::app;
use leadsmith::db::migrate;
use leadsmith_proto::{Lead, SearchLeadsRequest};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use super::search;
use crate::harness::{Backend, Caller, TestDatabase, channel, count, eventually};
use crate::on_both;

/// More than one batch of the migration.
const LEADS: usize = 1_100;

async fn finds(caller: &Caller, query: &str) -> usize {
    let request = SearchLeadsRequest {
        query: query.into(),
        page_size: 1,
        with_total: true,
        ..Default::default()
    };
    let answer = search(caller, request).await.unwrap();
    usize::try_from(answer.total_size).unwrap()
}

/// The texts as the version before this one writes them.
fn text_before(backend: Backend) -> String {
    let separator = match backend {
        Backend::Postgres => "chr(1)",
        Backend::Sqlite => "char(1)",
    };
    format!("'josé gonçalves' || {separator} || '+351 21 000-0000'")
}

/// Writes one lead's text as an older version does.
async fn write_before(database: &TestDatabase, db: &DatabaseConnection, id: &str) {
    let id = match database.backend {
        Backend::Postgres => format!("'{id}'"),
        Backend::Sqlite => format!("x'{}'", id.replace('-', "")),
    };
    let text = text_before(database.backend);
    let sql = match database.backend {
        Backend::Postgres => format!(
            "INSERT INTO lead_search (seq, text, trigrams) SELECT seq, {text}, '{{1,2,3}}' FROM leads WHERE id = {id} \
             ON CONFLICT (seq) DO UPDATE SET text = excluded.text, trigrams = excluded.trigrams"
        ),
        Backend::Sqlite => format!(
            "INSERT INTO search_pending (seq, indexed, current) SELECT seq, (SELECT s.text FROM lead_search AS s \
             WHERE s.seq = leads.seq), {text} FROM leads WHERE id = {id}; \
             INSERT OR REPLACE INTO lead_search (seq, text) SELECT seq, {text} FROM leads WHERE id = {id}"
        ),
    };
    db.execute_unprepared(&sql).await.unwrap();
}

fn jose() -> Lead {
    Lead {
        first_name: "José".into(),
        last_name: "Gonçalves".into(),
        phone: "+351 21 000-0000".into(),
        ..Lead::default()
    }
}

const OUTDATED: &str = "SELECT count(*) FROM lead_search WHERE text NOT LIKE '_%goncalves, jose%'";

on_both! {
    async fn a_text_that_an_older_version_writes_is_made_again(h: Harness) {
        let lead = h.sales.create(jose()).await.unwrap();
        // A newer lead, so that applying the pending texts does not hide what is wrong.
        h.admin.erase(&h.sales.create_lead("Gone").await.id).await.unwrap();
        let db = h.database.connect().await;
        write_before(&h.database, &db, &lead.id).await;
        assert_eq!(finds(&h.viewer, "gonçalves").await, 0, "it is outdated");
        // A server does it when it starts, and again later. On SQLite there is one at a time.
        h.server.stop().await.unwrap();
        let server = app::start(&h.database.settings(), h.clock.clone()).await.unwrap();
        let viewer = Caller { channel: channel(server.address), ..h.viewer.clone() };
        eventually("the text is made again", async || finds(&viewer, "gonçalves").await == 1).await;
        for query in ["goncalves, jose", "+351210000000", "JOSE GONCALVES"] {
            assert_eq!(finds(&viewer, query).await, 1, "{query}");
        }
        server.stop().await.unwrap();
        if h.database.backend == Backend::Sqlite {
            crate::lists::search_index::check(&db).await;
        }
    }

    async fn a_database_from_before_is_made_again_by_the_migration(h: Harness) {
        let mut viewer = h.viewer.clone();
        let db = h.database.connect().await;
        crate::bulk::load(&db, LEADS).await;
        db.execute_unprepared(
            "UPDATE leads SET first_name = 'José', last_name = 'Gonçalves', phone = '+351 21 000-0000'",
        )
        .await
        .unwrap();
        let sorted = "SELECT count(*) FROM lead_search";
        assert_eq!(count(&db, sorted).await, i64::try_from(LEADS).unwrap());
        db.close().await.unwrap();
        let url = h.database.url.clone().into();
        h.server.stop().await.unwrap();
        // The newest migration makes the texts.
        let steps = migrate::status(&url).await.unwrap();
        let from = steps.iter().position(|step| step.name == "m0024_search_texts").unwrap();
        migrate::down(&url, u32::try_from(steps.len() - from).unwrap()).await.unwrap();
        let db = h.database.connect().await;
        let backend = db.get_database_backend();
        let sql = "SELECT text FROM lead_search ORDER BY seq LIMIT 1";
        let row = db.query_one_raw(Statement::from_string(backend, sql)).await.unwrap().unwrap();
        let text: String = row.try_get_by_index(0).unwrap();
        assert_eq!(
            text,
            "josé gonçalves\u{1}example hosting company 1\u{1}lead1@mail.test\u{1}+351 21 000-0000",
            "as the version before this one writes it"
        );
        assert_eq!(count(&db, OUTDATED).await, i64::try_from(LEADS).unwrap());
        db.close().await.unwrap();
        migrate::up(&url).await.unwrap();
        let db = h.database.connect().await;
        assert_eq!(count(&db, OUTDATED).await, 0);
        if backend == DbBackend::Sqlite {
            crate::lists::search_index::check(&db).await;
        }
        db.close().await.unwrap();
        let server = app::start(&h.database.settings(), h.clock.clone()).await.unwrap();
        viewer.channel = channel(server.address);
        for query in ["gonçalves", "goncalves, jose", "+351210000000"] {
            assert_eq!(finds(&viewer, query).await, LEADS, "{query}");
        }
        server.stop().await.unwrap();
    }
}

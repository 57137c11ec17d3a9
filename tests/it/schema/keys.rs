//! The migration that recomputes the keys of emails and usernames in existing rows.

use std::collections::BTreeSet;

use leadsmith::app;
use leadsmith::core::clock::Clock;
use leadsmith::features::leads::model::email;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};

use super::{down, texts, up};
use crate::harness::{console, count};
use crate::on_both_empty;

/// The number of migrations from the one that recomputes keys to the last, both included.
const SINCE_KEYS: u32 = 14;

/// An id, as SQL.
fn id(db: &DatabaseConnection, number: usize) -> String {
    if db.get_database_backend() == DbBackend::Postgres {
        format!("'{}'", uuid::Uuid::from_u128(number as u128 + 1))
    } else {
        format!("x'{:032x}'", number + 1)
    }
}

/// Stores a lead as it was before keys were recomputed.
async fn insert_lead(db: &DatabaseConnection, number: usize, email: &str, key: &str) {
    let id = id(db, number);
    let sql = format!(
        "INSERT INTO leads (id, version, state, first_name, last_name, company, email, phone, fax, vat_id, \
         street, city, region, postal_code, country_code, language, owner_id, source, custom_fields, \
         last_name_key, company_key, email_key, create_time, update_time) VALUES ({id}, 1, 'OPEN', '', \
         'x', '', '{email}', '', '', '', '', '', '', '', '', '', '', '', '{{}}', 'x', '', '{key}', \
         '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00')"
    );
    db.execute_unprepared(&sql).await.unwrap();
}

/// Stores an operator as it was before usernames had keys.
async fn insert_operator(db: &DatabaseConnection, number: usize, username: &str) {
    let id = id(db, number);
    let sql = format!(
        "INSERT INTO operators (id, username, display_name, role, password_hash, create_time, update_time) \
         VALUES ({id}, '{username}', '', 'SALES', '', '2026-01-01 00:00:00+00:00', \
         '2026-01-01 00:00:00+00:00')"
    );
    db.execute_unprepared(&sql).await.unwrap();
}

on_both_empty! {
    async fn keys_of_what_is_there_are_made_anew(database: TestDatabase) {
        up(&database).await.unwrap();
        down(&database, SINCE_KEYS).await.unwrap();
        let db = database.connect().await;
        // More rows than the migration reads in one batch, including those whose keys change.
        let odd = [
            ("J\u{30c}AN@example.com", "\u{1f0}an@example.com", "j\u{30c}an@example.com"),
            ("ada@bücher.example", "ada@xn--bcher-kva.example", "ada@bücher.example"),
            ("bob@XN--BCHER-KVA.example", "bob@bücher.example", "bob@xn--bcher-kva.example"),
            ("Strauß@example.com", "STRAUSS@example.com", "strauß@example.com"),
        ];
        for number in 0..1_200 {
            let plain = format!("é{number}@example.com");
            let (email, key) = match odd.get(number / 300).filter(|_| number % 300 == 299) {
                Some((email, _, key)) => ((*email).to_owned(), (*key).to_owned()),
                None => (plain.clone(), plain),
            };
            insert_lead(&db, number, &email, &key).await;
        }
        for (number, username) in ["jürgen", "strauß", "strauss"].iter().enumerate() {
            insert_operator(&db, number, username).await;
        }
        up(&database).await.unwrap();
        let keys = "SELECT username || '=' || coalesce(username_key, '') FROM operators";
        let expected = ["jürgen=jürgen", "strauß=strauss", "strauss="].map(str::to_owned);
        assert_eq!(texts(&db, keys).await, BTreeSet::from(expected));

        let server = app::start(&database.settings(), Clock::default()).await.unwrap();
        let console = console(&server.app.db);
        for username in ["strauss", "strauß", "JU\u{308}RGEN"] {
            let found = console.operator(username).await.unwrap();
            let expected = if username.starts_with('J') { "jürgen" } else { username };
            assert_eq!(found.username, expected);
        }
        for (email, spelled, key) in odd {
            let sql = format!("SELECT count(*) FROM leads WHERE email = '{email}' AND email_key = ");
            let now = email::key(spelled);
            assert_eq!(email::key(email), now);
            assert_eq!(count(&db, &format!("{sql}'{now}'")).await, 1, "{email}");
            assert_eq!(count(&db, &format!("{sql}'{key}'")).await, i64::from(key == now), "{email}");
        }
        server.stop().await.unwrap();
        db.close().await.unwrap();
        down(&database, SINCE_KEYS).await.unwrap();
        let db = database.connect().await;
        for (email, _, key) in odd {
            let sql = format!("SELECT count(*) FROM leads WHERE email = '{email}' AND email_key = '{key}'");
            assert_eq!(count(&db, &sql).await, 1, "{email}");
        }
    }
}

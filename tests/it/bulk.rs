//! Large numbers of leads, written directly to the database, for the tests of query plans and page sizes.

use sea_orm::sqlx::postgres::PgPoolCopyExt;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use migrations::search_text::{self, Fields};

/// Parts of every loaded lead's company, of 3, 5 and 20 characters.
pub const COMMON: [&str; 3] = ["exa", "examp", "example hosting comp"];

/// Of 100 leads, 90 are OPEN, 9 CONVERTED and 1 DEACTIVATED.
const STATE: &str = "CASE WHEN i % 100 = 7 THEN 'DEACTIVATED' WHEN i % 11 = 5 THEN 'CONVERTED' \
                     ELSE 'OPEN' END";
const FIRST_NAME: &str = "CASE i % 4 WHEN 0 THEN 'Ada' WHEN 1 THEN 'Grace' WHEN 2 THEN 'Alan' \
                          ELSE 'Edsger' END";
const COMPANY: &str = "'Example Hosting Company ' || CAST(i % 30000 AS text) || \
                       CASE WHEN i % 10000 = 77 THEN ' zqxjkvwpyfgmcrlaoeui' ELSE '' END";
const ACTOR: &str =
    r#"'{"kind":"OPERATOR","id":"00000000-0000-7000-8000-000000000001","name":"bulk"}'"#;

/// Loads `count` leads with their search texts into a database without any.
pub async fn load(db: &DatabaseConnection, count: usize) {
    if db.get_database_backend() == DbBackend::Postgres {
        let time = |i: &str| format!("TIMESTAMPTZ '2024-01-01T00:00:00Z' + ({i}) * interval '1s'");
        let source = format!("generate_series(1, {count}) AS n(i)");
        let insert = insert(count, "", &source, "md5(i::text)::uuid", time, "::jsonb");
        db.execute_unprepared(&insert).await.unwrap();
        copy_search(db).await;
        db.execute_unprepared("ANALYZE").await.unwrap();
    } else {
        let time = |i: &str| {
            format!("strftime('%Y-%m-%dT%H:%M:%S+00:00', 1704067200 + ({i}), 'unixepoch')")
        };
        let numbers = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
        );
        let insert = insert(count, &numbers, "n", "randomblob(16)", time, "");
        db.execute_unprepared(&insert).await.unwrap();
        let search = format!(
            "INSERT INTO lead_search (seq, text) SELECT seq, {} FROM leads",
            search_text("char(1)")
        );
        db.execute_unprepared(&search).await.unwrap();
        migrations::fill_search_index(db).await.unwrap();
        db.execute_unprepared("ANALYZE").await.unwrap();
    }
    check_search_text(db).await;
}

fn insert(
    count: usize,
    with: &str,
    from: &str,
    id: &str,
    time: impl Fn(&str) -> String,
    json: &str,
) -> String {
    let (created, updated) = (time("i"), time(&format!("i * 7919 % {count}")));
    let when = |state: &str, value: &str| {
        format!("CASE WHEN ({STATE}) = '{state}' THEN {value} ELSE NULL END")
    };
    let actor = format!("{ACTOR}{json}");
    let columns = [
        ("id", id.to_owned()),
        ("version", "1".into()),
        ("state", STATE.into()),
        ("first_name", FIRST_NAME.into()),
        ("last_name", "'Name ' || CAST(i % 5000 AS text)".into()),
        ("company", COMPANY.into()),
        ("email", "'lead' || CAST(i AS text) || '@mail.test'".into()),
        ("phone", "'+49 30 ' || CAST(1000000 + i AS text)".into()),
        ("fax", "''".into()),
        ("vat_id", "''".into()),
        ("street", "''".into()),
        ("city", "''".into()),
        ("region", "''".into()),
        ("postal_code", "''".into()),
        ("country_code", "'DE'".into()),
        ("language", "''".into()),
        ("owner_id", "''".into()),
        ("source", "'bulk'".into()),
        ("custom_fields", format!("'{{}}'{json}")),
        ("last_name_key", "'name ' || CAST(i % 5000 AS text)".into()),
        ("company_key", format!("lower({COMPANY})")),
        (
            "email_key",
            "'lead' || CAST(i AS text) || '@mail.test'".into(),
        ),
        ("deactivation_time", when("DEACTIVATED", &updated)),
        ("deactivation_actor", when("DEACTIVATED", &actor)),
        ("deactivation_reason", when("DEACTIVATED", "''")),
        ("conversion_time", when("CONVERTED", &updated)),
        ("conversion_actor", when("CONVERTED", &actor)),
        ("create_time", created),
        ("update_time", updated),
    ];
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
    format!(
        "INSERT INTO leads ({}) {with}SELECT {} FROM {from}",
        names.join(", "),
        values.join(", ")
    )
}

/// The text that the service would store. A test compares it for one lead.
fn search_text(separator: &str) -> String {
    format!(
        "{separator} || lower(first_name || ' ' || last_name || ', ' || first_name) || {separator} || lower(company) \
         || {separator} || email || {separator} || replace(substr(phone, 2), ' ', '') || {separator}"
    )
}

/// Fails unless the newest lead has the text that the service would store.
async fn check_search_text(db: &DatabaseConnection) {
    let sql = "SELECT l.first_name, l.last_name, l.company, l.email, l.phone, s.text FROM leads AS l \
               JOIN lead_search AS s ON s.seq = l.seq ORDER BY l.seq DESC LIMIT 1";
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql));
    let row = row.await.unwrap().unwrap();
    let text = |index| row.try_get_by_index::<String>(index).unwrap();
    let fields = [text(0), text(1), text(2), text(3), text(4)];
    let [first_name, last_name, company, email, phone] = &fields;
    let fields = Fields {
        first_name,
        last_name,
        company,
        email,
        phone,
    };
    assert_eq!(text(5), fields.text());
}

/// PostgreSQL's index contains hashes that the service computes.
async fn copy_search(db: &DatabaseConnection) {
    let sql = format!("SELECT seq, {} FROM leads", search_text("chr(1)"));
    let rows = db
        .query_all_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await
        .unwrap();
    let pool = db.get_postgres_connection_pool();
    let mut copy = pool
        .copy_in_raw("COPY lead_search (seq, text, trigrams) FROM STDIN")
        .await
        .unwrap();
    for rows in rows.chunks(5_000) {
        let mut lines = String::new();
        for row in rows {
            let seq: i64 = row.try_get_by_index(0).unwrap();
            let text: String = row.try_get_by_index(1).unwrap();
            let hashes: Vec<String> = search_text::trigrams(&text)
                .iter()
                .map(ToString::to_string)
                .collect();
            lines.push_str(&format!("{seq}\t{text}\t{{{}}}\n", hashes.join(",")));
        }
        copy.send(lines.into_bytes()).await.unwrap();
    }
    copy.finish().await.unwrap();
}

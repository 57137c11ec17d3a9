//! No password, token or API key appears in a log, in the output of a command, in a response or in the
//! database, after calls that succeed and calls that fail.

mod calls;
mod debug;
mod search;

use std::fs;

use leadsmith_proto as proto;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

use crate::harness::{self, Backend, Caller, TestDatabase, count, eventually, is_let_in};
use crate::on_both_empty;
use crate::program::{Program, leadsmith};
use calls::{
    auditing, changing, email, erasing, joining, malformed, managing, send, signing_in, strangers,
    updating,
};
use search::Search;

/// Every row of every table.
pub async fn dump(db: &DatabaseConnection) -> String {
    let backend = db.get_database_backend();
    let sql = "SELECT table_name::text FROM information_schema.tables \
               WHERE table_schema = 'public'";
    let tables = db
        .query_all_raw(Statement::from_string(backend, sql))
        .await
        .unwrap();
    let mut text = String::new();
    for table in tables {
        let table: String = table.try_get_by_index(0).unwrap();
        let sql = format!("SELECT row_to_json(t)::text FROM \"{table}\" t");
        let rows = db
            .query_all_raw(Statement::from_string(backend, sql))
            .await
            .unwrap();
        for row in rows {
            let row: String = row.try_get_by_index(0).unwrap();
            text.push_str(&format!("{table} {row}\n"));
        }
    }
    text
}

/// Records everything that is stored.
async fn look_at_stored(search: &mut Search, database: &TestDatabase) {
    match database.backend {
        Backend::Postgres => {
            let dump = dump(&database.connect().await).await;
            search.look_at("stored", dump.as_bytes());
        }
        Backend::Sqlite => {
            for file in fs::read_dir(database.folder.path()).unwrap() {
                let bytes = fs::read(file.unwrap().path()).unwrap();
                search.look_at("stored", &bytes);
            }
        }
    }
}

/// The URL of the database with secrets in it; SQLite's has none.
fn url_with_secrets(search: &mut Search, database: &TestDatabase) -> String {
    if database.backend == Backend::Sqlite {
        return database.url.clone();
    }
    let (scheme, rest) = database.url.split_once("://").unwrap();
    let (user, host) = rest.rsplit_once('@').unwrap();
    let user = match user.split_once(':') {
        Some((_, password)) => {
            search.hide("the URL's password", password);
            user.to_owned()
        }
        // A server that requires no password accepts any.
        None => format!("{user}:{}", search.secret("the URL's password")),
    };
    format!("{scheme}://{user}@{host}")
}

/// A password in a parameter whose name was mistyped: the URL is refused, and the password is not shown.
async fn mistyped_parameter(search: &mut Search, url: &str) {
    let unknown = search.secret("an unknown parameter of the URL");
    let url = format!("{url}?pasword={unknown}");
    let ended = talkative("migrate status", &url).run().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    search.look_at("the refusal of a parameter", ended.err.as_bytes());
}

/// The program with every log at its most verbose level.
fn talkative(arguments: &str, url: &str) -> Program {
    leadsmith(arguments)
        .database(url)
        .env("LEADSMITH_LOG", "trace")
        .env("RUST_LOG", "trace")
}

/// Runs a command, records its output and returns it. With `shows_key` its standard output has an API
/// key and is not recorded.
async fn command(search: &mut Search, program: Program, shows_key: bool) -> String {
    let ended = program.run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    search.look_at("the commands' log", ended.err.as_bytes());
    if !shows_key {
        search.look_at("the commands' output", ended.out.as_bytes());
    }
    format!("{}{}", ended.out, ended.err)
}

/// At DEBUG and TRACE only this service logs; other crates log at INFO and above.
fn others_are_quiet(log: &str) {
    for line in log.lines() {
        let mut words = line.split_whitespace().skip(1);
        if let (Some("DEBUG" | "TRACE"), Some(target)) = (words.next(), words.next()) {
            assert!(target.starts_with("leadsmith"), "{line}");
        }
    }
}

on_both_empty! {
    async fn no_secret_is_logged_stored_or_answered(database: TestDatabase) {
        let mut all = Search::default();
        let search = &mut all;
        let url = url_with_secrets(search, &database);
        let run = |arguments: &str| talkative(arguments, &url);

        if database.backend == Backend::Postgres {
            mistyped_parameter(search, &url).await;
        }
        command(search, run("migrate up"), false).await;
        let password = search.secret("the operator's password");
        let create = run("operator create --username ada --role ADMIN").input(&password);
        command(search, create, false).await;
        command(search, run("service-account create --name billing --role SALES"), false).await;
        let mut keys = Vec::new();
        for name in ["an API key", "a revoked API key"] {
            let create = run("service-account create-key --name billing");
            let told = command(search, create, true).await;
            let key = told.lines().next().unwrap().to_owned();
            search.hide_token(name, &key);
            let id = told.split_once("revoking it: ").unwrap().1.split_once('.').unwrap().0;
            keys.push((key, id.to_owned()));
        }
        let revoke = run(&format!("service-account revoke-key --id {}", keys[1].1));
        command(search, revoke, false).await;
        let config = command(search, run("config"), false).await;
        assert!(config.contains("database-url"), "{config}");

        let mut server = run("serve").serve().await;
        let channel = harness::channel(server.address);
        let [ada, other] = signing_in(search, &channel, &password).await;
        let billing = Caller { token: keys[0].0.clone(), ..ada.clone() };
        malformed(search, &channel, &ada.token).await;
        strangers(search, &channel, &ada.token, &keys[1].0).await;
        updating(search, &ada, &password).await;
        erasing(search, &ada, &password).await;
        joining(search, &ada, &password).await;
        managing(search, &ada).await;
        let request = email(&billing.create_lead("Hopper").await, "x@example.com", &password);
        search.refusal("OPERATOR_REQUIRED", send(&billing, request).await);
        look_at_stored(search, &database).await;

        let new = changing(search, &ada, &password).await;
        search.refusal("TOKEN_INVALID", other.auth().who_am_i(proto::WhoAmIRequest {}).await);
        let lead = ada.create_lead("Hamilton").await;
        auditing(search, &ada).await;
        let guess = search.secret("one guess too many");
        for _ in 0..4 {
            let answer = send(&ada, email(&lead, "y@example.com", &guess)).await;
            search.answer("guessing", answer).unwrap_err();
        }
        let answer = send(&ada, email(&lead, "y@example.com", &new)).await;
        search.refusal("PASSWORD_ATTEMPTS_EXCEEDED", answer);
        let set = search.secret("a password set from the command line");
        let set = run("operator set-password --username ada").input(&set);
        command(search, set, false).await;
        eventually("the session ends", async || !is_let_in(&ada).await).await;
        search.refusal("TOKEN_INVALID", ada.auth().sign_out(proto::SignOutRequest::default()).await);

        look_at_stored(search, &database).await;
        let db = database.connect().await;
        for table in ["history", "events", "idempotency_records", "sessions", "password_attempts"] {
            let sql = format!("SELECT count(*) FROM {table}");
            // set-password has ended the sessions, which were recorded before.
            assert!(count(&db, &sql).await > 0 || table == "sessions", "{table} is empty");
        }
        db.close().await.unwrap();
        server.terminate();
        assert!(server.ended(std::time::Duration::from_secs(10)).await.success());
        look_at_stored(search, &database).await;
        let log = server.log();
        search.look_at("the server's log", log.as_bytes());

        // The recorded texts have the expected content.
        for part in ["serving", "call completed", "SIGN", "PASSWORD_ATTEMPTS_EXCEEDED", "DEBUG"] {
            assert!(log.contains(part), "{part} is not in the log: {log}");
        }
        others_are_quiet(&log);
        others_are_quiet(&search.text("the commands' log"));
        let stored = search.text("stored");
        for part in ["ada", "$argon2id$", "second@example.com", "current_password/"] {
            assert!(stored.contains(part), "{part} is not stored");
        }
        let events = search.text("events");
        for part in ["operator.created", "service_account.", "lead.updated", "eve", "second@example.com"] {
            assert!(events.contains(part), "{part} is in no event");
        }
        assert!(all.secrets.len() >= 20, "{}", all.secrets.len());
        assert_eq!(all.found(), Vec::<String>::new());
    }
}

//! The command line: the real program, as people and containers run it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leadsmith::auth::roles::Role;
use leadsmith::auth::tokens::{self, TokenKind};
use leadsmith::wire::proto;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{
    self, Backend, Caller, PASSWORD, TestDatabase, eventually, is_let_in, reason, sign_in,
};
use crate::program::{Ended, leadsmith};
use crate::{on_both, on_both_empty};

const SECRET: &str = "hunter2-of-the-url";
const OTHER: &str = "another horse, another battery";

impl Ended {
    /// It did what it was asked, and said nothing but that.
    fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It said no in one sentence of its own, which has these words and no secret.
    fn refused(&self, why: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.shows_nothing_it_should_not();
        assert_eq!(self.out, "", "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(self.err.starts_with("leadsmith: "), "{self:?}");
        assert!(self.err.contains(why), "{why:?} is not in {self:?}");
    }

    /// The command line itself was wrong.
    fn misused(&self, why: &str) {
        assert_eq!(self.code, Some(2), "{self:?}");
        self.shows_nothing_it_should_not();
        assert!(self.err.starts_with("error: "), "{self:?}");
        assert!(self.err.contains(why), "{why:?} is not in {self:?}");
    }

    fn shows_nothing_it_should_not(&self) {
        for word in ["panicked", "backtrace", "RUST_BACKTRACE", SECRET] {
            assert!(!self.err.contains(word), "{word}: {self:?}");
            assert!(!self.out.contains(word), "{word}: {self:?}");
        }
    }
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The flags that a help text lists, each with what it says about it.
fn flags(help: &str) -> Vec<(String, String)> {
    let mut flags: Vec<(String, String)> = Vec::new();
    let options = help.lines().skip_while(|line| *line != "Options:").skip(1);
    for line in options {
        let text = line.trim_start();
        let long = match text.as_bytes() {
            [b'-', b'-', ..] => Some(text),
            [b'-', _, b',', b' ', b'-', b'-', ..] => Some(&text[4..]),
            _ => None,
        };
        if let Some(long) = long {
            let name = long.split_whitespace().next().unwrap();
            flags.push((name.to_owned(), long.to_owned()));
        } else if let Some((_, about)) = flags.last_mut() {
            about.push('\n');
            about.push_str(text);
        }
    }
    flags
}

#[tokio::test]
async fn every_help_names_the_environment_variable_of_every_flag() {
    let mut paths = vec![String::new()];
    let mut commands = BTreeSet::new();
    let mut flags_seen = BTreeSet::new();
    while let Some(path) = paths.pop() {
        let ended = leadsmith(&format!("{path} --help")).run().await;
        assert_eq!(ended.err, "", "{path}");
        let help = ended.done();
        let below = subcommands(&help);
        if below.is_empty() {
            commands.insert(path.trim().to_owned());
        }
        paths.extend(below.iter().map(|name| format!("{path} {name}")));
        for (flag, about) in flags(&help) {
            if ["--help", "--version"].contains(&flag.as_str()) {
                continue;
            }
            let name = flag.trim_start_matches('-').replace('-', "_");
            let variable = format!("[env: LEADSMITH_{}", name.to_uppercase());
            assert!(about.contains(&variable), "{path} {flag}: {about}");
            flags_seen.insert(flag);
        }
    }
    for command in [
        "serve",
        "demo",
        "migrate up",
        "migrate down",
        "migrate status",
        "operator create",
        "operator list",
        "operator set-password",
        "operator disable",
        "operator unlock",
        "service-account create",
        "service-account list",
        "service-account create-key",
        "service-account revoke-key",
        "backup",
        "restore",
        "healthcheck",
        "config",
    ] {
        assert!(
            commands.contains(command),
            "{command} is not in {commands:?}"
        );
    }
    assert!(flags_seen.len() >= 20, "{flags_seen:?}");
}

#[tokio::test]
async fn a_setting_of_the_environment_counts_and_a_flag_counts_more() {
    let settings = [
        ("database-url", "sqlite:other.db", "sqlite:other.db"),
        ("listen", "127.0.0.1:4711", "127.0.0.1:4711"),
        ("insecure", "true", "true"),
        ("tls-certificate", "c.pem", "c.pem"),
        ("tls-key", "k.pem", "k.pem"),
        ("tls-client-ca", "a.pem", "a.pem"),
        ("tls-client-certificates", "optional", "optional"),
        ("migrate", "false", "false"),
        ("max-calls", "7", "7"),
        ("calls-per-second", "12", "12"),
        ("max-connections", "13", "13"),
        ("max-connections-per-address", "14", "14"),
        ("default-deadline", "0.5", "0.5 s"),
        ("max-deadline", "70", "70 s"),
        ("drain", "3", "3 s"),
        ("postgres-connections", "9", "9"),
        ("sqlite-readers", "8", "8"),
        ("connection-wait", "2.5", "2.5 s"),
        ("sqlite-write-wait", "6", "6 s"),
        ("statement-time", "11", "11 s"),
        ("keep-request-ids", "30", "30 h"),
        ("keep-events", "90", "90 d"),
        ("retention-interval", "60", "60 s"),
        ("log", "warn", "warn"),
        ("log-format", "json", "json"),
    ];
    let usual = leadsmith("config").run().await.done();
    let mut environment = leadsmith("config");
    let mut contradicted = leadsmith(
        "config --log warn --log-format json --database-url sqlite:other.db \
         --listen 127.0.0.1:4711 --insecure true --tls-certificate c.pem --tls-key k.pem \
         --tls-client-ca a.pem --tls-client-certificates optional --migrate false --max-calls 7 \
         --calls-per-second 12 --max-connections 13 --max-connections-per-address 14 \
         --default-deadline 0.5 \
         --max-deadline 70 --drain 3 --postgres-connections 9 --sqlite-readers 8 \
         --connection-wait 2.5 --sqlite-write-wait 6 --statement-time 11 --keep-request-ids 30 \
         --keep-events 90 --retention-interval 60",
    );
    let mut wanted = String::new();
    for (name, value, shown) in settings {
        let variable = format!("LEADSMITH_{}", name.replace('-', "_").to_uppercase());
        environment = environment.env(&variable, value);
        // What is said for every command is read before it is known which, so it must make sense.
        let other = match name {
            "log" => "error",
            "log-format" => "text",
            _ => "nonsense",
        };
        contradicted = contradicted.env(&variable, other);
        wanted.push_str(&format!("{name:<30}{shown}\n"));
        assert!(!usual.contains(&format!("{name:<30}{shown}\n")), "{name}");
    }
    assert_eq!(environment.run().await.done(), wanted);
    assert_eq!(contradicted.run().await.done(), wanted, "a flag overrides");
}

#[tokio::test]
async fn a_log_for_machines_is_one_object_a_line() {
    let run = leadsmith("migrate up").env("LEADSMITH_LOG_FORMAT", "json");
    let ended = run.run().await;
    assert!(ended.err.contains("the schema is up to date"), "{ended:?}");
    for line in ended.err.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        for field in ["timestamp", "level", "target", "message"] {
            assert!(object[field].is_string(), "{line}");
        }
    }
    ended.done();
}

#[tokio::test]
async fn the_files_of_an_embedded_database_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let database = TestDatabase::create(Backend::Sqlite).await;
    let _serving = leadsmith("serve").database(&database.url).serve().await;
    let mut names = Vec::new();
    for file in std::fs::read_dir(database.folder.path()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let others = file.metadata().unwrap().permissions().mode() & 0o077;
        // The lock's file is empty.
        assert!(
            others == 0 || name.ends_with(".migrate-lock"),
            "{name}: {others:o}"
        );
        names.push(name);
    }
    assert!(names.contains(&"test.db".to_owned()), "{names:?}");
    assert!(names.contains(&"test.db-wal".to_owned()), "{names:?}");
}

#[tokio::test]
async fn config_hides_what_is_secret_in_a_url() {
    for (url, shown) in [
        (
            format!("postgres://leadsmith:{SECRET}@db.example:5433/leads"),
            "postgres://leadsmith:…@db.example:5433/leads",
        ),
        (
            format!(
                "postgresql://leadsmith:{SECRET}%40x@db.example/leads?sslmode=require&password={SECRET}"
            ),
            "postgresql://leadsmith:…@db.example/leads?…",
        ),
        (
            "postgres://leadsmith@db.example/leads".to_owned(),
            "postgres://leadsmith@db.example/leads",
        ),
    ] {
        let ended = leadsmith("config").database(&url).run().await;
        ended.shows_nothing_it_should_not();
        let first = format!("{:<30}{shown}", "database-url");
        assert_eq!(ended.done().lines().next(), Some(first.as_str()));
    }
}

#[tokio::test]
async fn bad_settings_are_refused_in_a_sentence() {
    let url = |rest: &str| format!("{rest}?password={SECRET}");
    let not_a_file = "must name a file behind sqlite:";
    for (database, why) in [
        (
            "leadsmith.db".to_owned(),
            "must begin with sqlite: or postgres://",
        ),
        (
            format!("mysql://root:{SECRET}@127.0.0.1/x"),
            "must begin with sqlite: or postgres://",
        ),
        ("sqlite::memory:".to_owned(), not_a_file),
        ("sqlite://:memory:".to_owned(), not_a_file),
        ("sqlite:".to_owned(), not_a_file),
        ("sqlite:x.db?mode=memory".to_owned(), not_a_file),
        (url("sqlite:x.db"), not_a_file),
        (
            "sqlite:no/such/folder/x.db".to_owned(),
            "does not exist: create it first",
        ),
        (
            format!("postgres://dev:{SECRET}@127.0.0.1:nonsense/x"),
            "is not a PostgreSQL URL",
        ),
    ] {
        for command in ["serve", "config", "migrate up", "operator list"] {
            leadsmith(command)
                .database(&database)
                .quiet()
                .run()
                .await
                .refused(why);
        }
    }
    for (flags, why) in [
        ("--max-calls 0", "--max-calls must be at least 1"),
        (
            "--postgres-connections 0",
            "--postgres-connections must be at least 1",
        ),
        ("--sqlite-readers 0", "--sqlite-readers must be at least 1"),
        (
            "--default-deadline 61",
            "--default-deadline must not be longer than --max-deadline",
        ),
        (
            "--max-deadline 9.5",
            "--default-deadline must not be longer than --max-deadline",
        ),
    ] {
        for command in ["serve", "config"] {
            leadsmith(&format!("{command} {flags}"))
                .quiet()
                .run()
                .await
                .refused(why);
        }
    }
    for flag in [
        "default-deadline",
        "max-deadline",
        "drain",
        "connection-wait",
        "sqlite-write-wait",
        "statement-time",
    ] {
        for value in ["0", "0.001", "1e-30", "nan", "inf", "3601", "soon", "-1"] {
            let ended = leadsmith(&format!("config --{flag}={value}")).run().await;
            ended.misused(&format!("--{flag}"));
        }
    }
    for (arguments, why) in [
        ("", "Usage: leadsmith"),
        ("nonsense", "unrecognized subcommand"),
        ("serve --nonsense", "unexpected argument"),
        ("serve --listen here", "--listen"),
        ("serve --migrate maybe", "--migrate"),
        ("serve --max-calls -1", "unexpected argument"),
        ("--log loud serve", "--log"),
        ("operator create --username ada", "--role"),
        (
            "operator create --username ada --role king",
            "VIEWER, SALES or ADMIN",
        ),
        ("service-account revoke-key --id 7", "--id"),
        ("serve --listen localhost:50051", "an IP address and a port"),
    ] {
        let ended = leadsmith(arguments).run().await;
        if arguments.is_empty() {
            assert_eq!(ended.code, Some(2));
            assert!(ended.err.contains(why), "{ended:?}");
        } else {
            ended.misused(why);
        }
    }
}

#[tokio::test]
async fn a_password_as_an_argument_is_not_taken() {
    let create = "operator create --username ada --role SALES --password";
    for arguments in [format!("{create} {SECRET}"), format!("{create}={SECRET}")] {
        let ended = leadsmith(&arguments).run().await;
        ended.misused("unexpected argument '--password'");
    }
}

#[tokio::test]
async fn a_database_that_is_away_or_none_is_refused() {
    let server = std::env::var("LEADSMITH_TEST_POSTGRES_URL").unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    for url in [
        format!("postgres://dev:{SECRET}@127.0.0.1:1/postgres"),
        format!("{base}/there_is_no_such_database"),
    ] {
        let ended = leadsmith("serve").database(&url).quiet().run().await;
        ended.refused("the database cannot be opened");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter.txt");
    std::fs::write(&file, "Dear Ada, this is no database. ".repeat(100)).unwrap();
    let before = std::fs::read(&file).unwrap();
    let url = format!("sqlite:{}", file.display());
    let ended = leadsmith("serve").database(&url).quiet().run().await;
    ended.refused("letter.txt cannot be opened (file is not a database)");
    assert_eq!(std::fs::read(&file).unwrap(), before, "it is left as it is");
}

#[tokio::test]
async fn postgres_that_may_lose_an_answered_change_is_refused() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let (_, name) = database.url.rsplit_once('/').unwrap();
    let db = database.connect().await;
    let set = |value: &str| format!("ALTER DATABASE {name} SET synchronous_commit = {value}");
    db.execute_unprepared(&set("off")).await.unwrap();
    let serve = || leadsmith("serve").database(&database.url).quiet();
    serve().run().await.refused("synchronous_commit = off");
    db.execute_unprepared(&set("on")).await.unwrap();
    leadsmith("serve").database(&database.url).serve().await;
}

on_both! {
    async fn operators_are_looked_after_from_the_command_line(h: Harness) {
        let run = |arguments: &str| leadsmith(arguments).database(&h.database.url).quiet();

        let create = "operator create --username Grace --display-name Hopper --role sales";
        let created = run(create).input(&format!("{PASSWORD}\r\n")).run().await.done();
        let (id, rest) = created.split_once(' ').unwrap();
        assert_eq!(rest, "grace SALES\n");
        let token = sign_in(h.channel(), "grace", PASSWORD).await.unwrap();
        let grace = h.with_token(&token);
        grace.create_lead("Lovelace").await;

        let again = run(create).input(PASSWORD).run().await;
        again.refused("there is an operator \"grace\" already");
        let short = "operator create --username short --role VIEWER";
        for input in ["", "\n", "eleven byte\n"] {
            run(short).input(input).run().await.refused("12 to 1024 bytes");
        }
        let bad = "operator create --username a/b --role VIEWER";
        run(bad).input(PASSWORD).run().await.refused("a username is 1 to 64 letters");

        let listed = run("operator list").run().await.done();
        let line = format!("{id} SALES    enabled  grace (Hopper)");
        assert!(listed.lines().any(|l| l == line), "{listed}");
        let usernames: Vec<_> =
            listed.lines().map(|line| line.split_whitespace().nth(3).unwrap()).collect();
        assert_eq!(usernames, ["admin", "grace", "sales", "viewer"]);

        let set = "operator set-password --username GRACE";
        run(set).input("short\n").run().await.refused("12 to 1024 bytes");
        assert!(is_let_in(&grace).await, "a refused change changes nothing");
        assert_eq!(run(set).input(&format!("{OTHER}\n")).run().await.done(), "");
        let ended = "sessions end with the old password";
        eventually(ended, async || !is_let_in(&grace).await).await;
        assert!(sign_in(h.channel(), "grace", PASSWORD).await.is_err());
        sign_in(h.channel(), "grace", OTHER).await.unwrap();

        for _ in 0..4 {
            assert!(sign_in(h.channel(), "grace", PASSWORD).await.is_err());
        }
        let locked = sign_in(h.channel(), "grace", OTHER).await.unwrap_err();
        assert_eq!(reason(&locked), "PASSWORD_ATTEMPTS_EXCEEDED");
        assert_eq!(run("operator unlock --username Grace").run().await.done(), "");
        let grace = h.with_token(&sign_in(h.channel(), "grace", OTHER).await.unwrap());

        assert_eq!(run("operator disable --username Grace").run().await.done(), "");
        eventually("disabled", async || !is_let_in(&grace).await).await;
        let status = sign_in(h.channel(), "grace", OTHER).await.unwrap_err();
        assert_eq!(reason(&status), "SIGN_IN_FAILED");
        let listed = run("operator list").run().await.done();
        let line = format!("{id} SALES    disabled grace (Hopper)");
        assert!(listed.lines().any(|l| l == line), "{listed}");

        for command in ["set-password", "disable", "unlock"] {
            let ended = run(&format!("operator {command} --username nobody")).input(OTHER);
            ended.run().await.refused("nobody");
        }
    }

    async fn service_accounts_are_looked_after_from_the_command_line(h: Harness) {
        let run = |arguments: &str| leadsmith(arguments).database(&h.database.url).quiet();
        let create = "service-account create --name billing --role Sales";
        let created = run(create).run().await.done();
        assert!(created.ends_with(" billing SALES\n"), "{created}");
        run(create).run().await.refused("there is a service account \"billing\" already");

        let ended = run("service-account create-key --name billing").run().await;
        let told = ended.err.clone();
        let out = ended.done();
        let key = out.trim_end();
        assert_eq!(out, format!("{key}\n"), "nothing but the key, for a script to take");
        assert!(matches!(tokens::parse(key), Some((TokenKind::ApiKey, _))), "{key}");
        assert!(!told.contains(key));
        let billing = h.with_token(key);
        billing.create_lead("Lovelace").await;

        let id = told.split_once("revoking it: ").unwrap().1.split_once('.').unwrap().0;
        let list = || async { run("service-account list").run().await.done() };
        let listed = list().await;
        assert!(listed.contains(" SALES    billing\n") && listed.contains(id), "{listed}");
        assert!(!listed.contains("revoked"), "{listed}");
        let revoke = format!("service-account revoke-key --id {id}");
        assert_eq!(run(&revoke).run().await.done(), "");
        eventually("revoked", async || !is_let_in(&billing).await).await;
        assert!(list().await.contains("revoked"));
        run(&revoke).run().await.refused("not revoked already");
        run("service-account create-key --name nobody")
            .run()
            .await
            .refused("there is no service account \"nobody\"");
    }

    async fn healthcheck_tells_whether_a_server_serves(h: Harness) {
        let address = h.server.address.to_string();
        let check = |listen: &str| leadsmith("healthcheck").env("LEADSMITH_LISTEN", listen).quiet();
        assert_eq!(check(&address).run().await.done(), "SERVING\n");
        // A container's server listens everywhere, and so its check is told.
        let everywhere = format!("0.0.0.0:{}", h.server.address.port());
        assert_eq!(check(&everywhere).run().await.done(), "SERVING\n");

        let taken = leadsmith("serve")
            .database(&h.database.url)
            .env("LEADSMITH_LISTEN", &address)
            .quiet();
        taken.run().await.refused(&format!("cannot listen on {address}"));

        h.server.stop().await.unwrap();
        check(&address).run().await.refused(&format!("no health from {address}"));
        // What accepts but says nothing is not healthy either.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        check(&address).run().await.refused(&format!("no health from {address}"));
    }
}

/// Keeps everybody from writing leads until [`release`].
async fn hold(database: &TestDatabase) -> DatabaseConnection {
    let mut options = ConnectOptions::new(&database.url);
    options
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None);
    let db = Database::connect(options).await.unwrap();
    let sql = match database.backend {
        Backend::Sqlite => "BEGIN IMMEDIATE",
        Backend::Postgres => "BEGIN; LOCK TABLE leads IN EXCLUSIVE MODE",
    };
    db.execute_unprepared(sql).await.unwrap();
    db
}

async fn release(db: DatabaseConnection) {
    db.execute_unprepared("ROLLBACK").await.unwrap();
    db.close().await.unwrap();
}

const CALLS: usize = 12;

on_both_empty! {
    async fn a_signal_ends_the_server_at_once_when_there_is_nothing_to_do(database: TestDatabase) {
        let mut server = leadsmith("serve").database(&database.url).serve().await;
        // Somebody is connected, but asks for nothing.
        let channel = harness::channel(server.address);
        let request = HealthCheckRequest::default();
        HealthClient::new(channel.clone()).check(request).await.unwrap();
        server.terminate();
        let status = server.ended(Duration::from_secs(5)).await;
        assert_eq!(status.code(), Some(0), "{}", server.log());
        assert!(server.log().contains("stopped"), "{}", server.log());
        drop(channel);
    }

    async fn calls_under_way_when_the_signal_comes_all_succeed(database: TestDatabase) {
        let mut server = leadsmith("serve").database(&database.url).serve().await;
        let channel = harness::channel(server.address);
        leadsmith("operator create --username ada --role SALES")
            .database(&database.url)
            .input(PASSWORD)
            .run()
            .await
            .done();
        let token = sign_in(channel.clone(), "ada", PASSWORD).await.unwrap();
        let ada = Caller { id: uuid::Uuid::nil(), token, channel: channel.clone() };

        let held = hold(&database).await;
        let begun = Arc::new(AtomicUsize::new(0));
        let mut calls = JoinSet::new();
        for n in 0..CALLS {
            let (ada, begun) = (ada.clone(), Arc::clone(&begun));
            calls.spawn(async move {
                begun.fetch_add(1, Ordering::SeqCst);
                ada.create(proto::Lead { last_name: format!("L{n}"), ..Default::default() }).await
            });
        }
        for _ in 0..500 {
            if begun.load(Ordering::SeqCst) == CALLS {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(begun.load(Ordering::SeqCst), CALLS);
        // On the same connection, so it arrives behind the calls.
        let request = HealthCheckRequest::default();
        HealthClient::new(channel).check(request).await.unwrap();
        assert!(calls.try_join_next().is_none(), "they wait");

        server.terminate();
        for _ in 0..500 {
            if server.log().contains("stopping") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(server.log().contains("stopping"), "{}", server.log());
        release(held).await;
        for answer in calls.join_all().await {
            let lead = answer.unwrap();
            assert!(lead.last_name.starts_with('L'));
        }
        let status = server.ended(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(0), "{}", server.log());
        let db = database.connect().await;
        let leads = harness::count(&db, "SELECT count(*) FROM leads").await;
        assert_eq!(leads, i64::try_from(CALLS).unwrap());
    }
}

#[tokio::test]
async fn roles_are_read_in_any_letter_case() {
    for role in Role::ALL {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("x.db").display());
        let word = role.word().to_lowercase();
        let created = leadsmith(&format!("service-account create --name x --role {word}"))
            .database(&url)
            .run()
            .await
            .done();
        assert!(created.ends_with(&format!(" x {role}\n")), "{created}");
    }
}

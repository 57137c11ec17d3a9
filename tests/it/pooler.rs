//! PgBouncer between the service and PostgreSQL: works in session mode, and is refused in the other modes.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use leadsmith_proto as proto;
use leadsmith_proto::record_version::Record;
use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;

use crate::events::{from_now, watch};
use crate::harness::{
    Backend, Caller, PASSWORD, TestDatabase, channel, connect, count, eventually, sign_in,
};
use crate::program::leadsmith;

/// A running PgBouncer for one database.
struct Pooler {
    process: Child,
    port: u16,
    /// The database's URL through it.
    url: String,
    folder: TempDir,
}

impl Pooler {
    async fn start(database: &TestDatabase, settings: &str) -> Self {
        // Another process could take the port meanwhile, which is unlikely.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let (rest, name) = database.url.rsplit_once('/').unwrap();
        let (credentials, server) = rest.rsplit_once('@').unwrap();
        let (_, credentials) = credentials.split_once("://").unwrap();
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (host, server_port) = server.split_once(':').unwrap_or((server, "5432"));
        let folder = tempfile::tempdir().unwrap();
        let configuration = format!(
            "[databases]\n{name} = host={host} port={server_port} user={user} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             default_pool_size = 40\n{settings}\n"
        );
        fs::write(folder.path().join("pgbouncer.ini"), configuration).unwrap();
        let pooler = Self {
            process: run(&folder),
            port,
            url: format!("postgres://{user}@127.0.0.1:{port}/{name}?sslmode=disable"),
            folder,
        };
        pooler.responds().await;
        pooler
    }

    async fn responds(&self) {
        eventually("PgBouncer responds", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .is_ok()
        })
        .await;
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    async fn start_again(&mut self) {
        self.process = run(&self.folder);
        self.responds().await;
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(folder: &TempDir) -> Child {
    let program = std::env::var_os("LEADSMITH_TEST_PGBOUNCER").expect(
        "these tests need PgBouncer: run them by scripts/test, which gets it, or set LEADSMITH_TEST_PGBOUNCER to yours",
    );
    let mut command = Command::new(program);
    if rustix::process::getuid().is_root() {
        // It refuses to run as root.
        command.args(["--user", "nobody"]);
    }
    let log = fs::File::create(folder.path().join("log")).unwrap();
    command
        .arg(folder.path().join("pgbouncer.ini"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_session_mode_is_as_good_as_none() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let mut pooler = Pooler::start(&database, "pool_mode = session").await;
    let url = pooler.url.clone();
    let run = |arguments: &str| leadsmith(arguments).database(&url);
    let server = run("serve").serve().await;
    let create = run("operator create --username ada --role ADMIN");
    create.input(PASSWORD).run().await.done();
    let channel = channel(server.address);
    let token = sign_in(channel.clone(), "ada", PASSWORD).await.unwrap();
    let id = uuid::Uuid::nil();
    let ada = Caller { id, token, channel };
    let lead = ada.create_lead("Lovelace").await;
    let change = |phone: &str| proto::Lead {
        id: lead.id.clone(),
        phone: phone.to_owned(),
        ..proto::Lead::default()
    };
    ada.update(change("1"), &["phone"]).await.unwrap();
    let mut stream = watch(&ada, from_now()).await;
    let list = proto::SearchLeadsRequest {
        query: "lovel".to_owned(),
        ..Default::default()
    };
    let found = ada.leads().search(list).await.unwrap().into_inner();
    assert_eq!(found.leads.len(), 1);

    // The locks and the settings of its sessions are in force.
    let down = run("migrate down --yes").quiet().run().await;
    down.refused("servers are running on this database");
    let db = database.connect().await;
    let beside = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' \
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(count(&db, beside).await, 1);
    db.execute_unprepared("BEGIN; LOCK TABLE leads IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let get = proto::GetLeadRequest {
        id: lead.id.clone(),
    };
    let blocked = ada.leads().get(get).await;
    assert!(blocked.is_err(), "lock_timeout is in force");
    db.execute_unprepared("ROLLBACK").await.unwrap();

    // Its connections break on both sides.
    database.end_sessions().await;
    ada.update(change("2"), &["phone"]).await.unwrap();
    pooler.stop();
    pooler.start_again().await;
    ada.update(change("3"), &["phone"]).await.unwrap();
    assert_eq!(ada.get(&lead.id).await.phone, "3");
    // A stream of events has gone on meanwhile.
    for phone in ["2", "3"] {
        let event = stream.event().await;
        let Some(Record::Lead(after)) = event.after.unwrap().record else {
            panic!("no lead: {:?}", event.subject);
        };
        assert_eq!(after.phone, phone);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_shares_sessions_is_refused() {
    let database = TestDatabase::create(Backend::Postgres).await;
    for settings in [
        "pool_mode = transaction",
        "pool_mode = transaction\nserver_round_robin = 1",
        "pool_mode = statement",
    ] {
        // For the driver with its own settings.
        let settings = format!("{settings}\nignore_startup_parameters = extra_float_digits");
        let pooler = Pooler::start(&database, &settings).await;
        for sessions in [0, 3] {
            // So many sessions are idle in the pooler.
            let others = (0..sessions).map(async |_| {
                let other = connect(&pooler.url).await.unwrap();
                other
                    .execute_unprepared("SELECT pg_sleep(0.3)")
                    .await
                    .unwrap();
                other.close().await.unwrap();
            });
            futures_util::future::join_all(others).await;
            for command in ["serve", "migrate up", "migrate status", "operator list"] {
                let ended = leadsmith(command).database(&pooler.url).quiet().run().await;
                ended.refused("set pool_mode = session for this database in the pooler");
                assert!(
                    ended
                        .err
                        .contains(&format!("at 127.0.0.1:{} cannot be used", pooler.port))
                );
            }
        }
    }
    let db = database.connect().await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(count(&db, tables).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pooler_does_not_pass_on_is_named() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let pooler = Pooler::start(&database, "pool_mode = session").await;
    let url = format!("{}&options=-cwork_mem%3D8MB", pooler.url);
    let ended = leadsmith("migrate status")
        .database(&url)
        .quiet()
        .run()
        .await;
    ended.refused("remove options from the database URL");
}

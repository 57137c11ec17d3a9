//! A server per test with its own database, and clients.

mod answers;
mod caller;
pub mod demo;
pub mod documented;
pub mod markdown;
mod sales;

use leadsmith::core::text_enum::TextEnum as _;
use std::net::SocketAddr;
use std::time::Duration;

use leadsmith::app::{self, Running};
use leadsmith::auth::passwords::Passwords;
use leadsmith::cli::console::Console;
use leadsmith::config::TlsSettings;
use leadsmith::config::{
    DatabaseSettings, Limits, ObserveSettings, PasswordSettings, ServeSettings,
};
use leadsmith::core::clock::Clock;
use leadsmith::core::role::Role;
use leadsmith::db::Db;
use leadsmith_proto as proto;
use leadsmith_proto::auth_service_client::AuthServiceClient;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tempfile::TempDir;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

pub use answers::{metadata, metadata_free, reason, violations, whole};
pub use caller::{Caller, convert_into, update};
pub use sales::{close, sale_update};

/// Defines tests that run on both databases: `sqlite::NAME` and `postgres::NAME` below the function's name. The
/// body gets a running server.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($harness:ident: Harness) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, clippy::allow_attributes, reason = "not every test needs all")]
            use super::*;

            async fn body($harness: $crate::harness::Harness) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                body($crate::harness::Harness::start($crate::harness::Backend::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                body($crate::harness::Harness::start($crate::harness::Backend::Postgres).await).await;
            }
        }
    )+};
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// A database that exists but has no schema yet.
pub struct TestDatabase {
    pub url: String,
    pub backend: Backend,
    /// Contains SQLite's file, which is deleted on drop.
    pub folder: TempDir,
}

/// Idle connections are kept: see `pooled` in src/db/connect.rs.
pub async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.idle_timeout(None).max_lifetime(None);
    Database::connect(options).await
}

impl TestDatabase {
    pub async fn create(backend: Backend) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match backend {
            Backend::Sqlite => format!("sqlite:{}", folder.path().join("test.db").display()),
            Backend::Postgres => {
                let server = postgres_url();
                let name = format!("it_{}", Uuid::now_v7().simple());
                let admin = connect(&server).await.unwrap_or_else(|error| {
                    panic!("PostgreSQL does not answer ({error}): run the tests by scripts/test")
                });
                admin
                    .execute_unprepared(&format!("CREATE DATABASE {name}"))
                    .await
                    .unwrap();
                admin.close().await.unwrap();
                let (address, settings) = match server.split_once('?') {
                    Some((address, settings)) => (address, format!("?{settings}")),
                    None => (server.as_str(), String::new()),
                };
                let (base, _) = address
                    .rsplit_once('/')
                    .expect("a URL with a database in it");
                format!("{base}/{name}{settings}")
            }
        };
        Self {
            url,
            backend,
            folder,
        }
    }

    /// A connection in addition to the server's, to inspect stored data or to block the server with locks.
    pub async fn connect(&self) -> DatabaseConnection {
        connect(&self.url).await.unwrap()
    }

    /// Terminates all other sessions in this PostgreSQL database.
    pub async fn end_sessions(&self) {
        let beside = self.connect().await;
        beside
            .execute_unprepared(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await
            .unwrap();
        beside.close().await.unwrap();
    }

    pub fn settings(&self) -> ServeSettings {
        ServeSettings {
            database: DatabaseSettings {
                database_url: self.url.clone().into(),
            },
            listen: "127.0.0.1:0".parse().unwrap(),
            insecure: false,
            tls: TlsSettings::default(),
            migrate: true,
            observe: ObserveSettings::default(),
            passwords: PasswordSettings::default(),
            limits: Limits {
                drain: Duration::from_secs(5),
                // Many tests run concurrently, and some block others on purpose.
                connection_wait: Duration::from_secs(6),
                ..Limits::default()
            },
        }
    }
}

/// The address of the tests' PostgreSQL. If it is not found, the test fails and is never skipped.
fn postgres_url() -> String {
    std::env::var("LEADSMITH_TEST_POSTGRES_URL").expect(
        "these tests need PostgreSQL: run them by scripts/test, which starts one, or set \
         LEADSMITH_TEST_POSTGRES_URL to a server whose role may create databases",
    )
}

/// The condition for rows of `history` and `events` that are about leads: creating operators and service accounts
/// writes such rows too.
pub const OF_LEADS: &str = "lead_id IN (SELECT id FROM leads)";

/// The number of rows of `history` or `events` that are about leads; of any other table, of all rows.
pub async fn count_of_leads(db: &DatabaseConnection, table: &str) -> i64 {
    let condition = match table {
        "history" | "events" => OF_LEADS,
        _ => "TRUE",
    };
    let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
    count(db, &sql).await
}

pub const PASSWORD: &str = "correct horse battery";

/// A server in this process, with an operator of each role.
pub struct Harness {
    pub database: TestDatabase,
    pub server: Running,
    /// Advances the server's clock.
    pub clock: Clock,
    pub admin: Caller,
    pub sales: Caller,
    pub viewer: Caller,
}

impl Harness {
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| {}).await
    }

    /// Starts with modified settings.
    pub async fn start_with(backend: Backend, change: impl FnOnce(&mut ServeSettings)) -> Self {
        let database = TestDatabase::create(backend).await;
        let mut settings = database.settings();
        change(&mut settings);
        let clock = Clock::default();
        let server = app::start(&settings, clock.clone()).await.unwrap();
        let channel = channel(server.address);
        let mut callers = Vec::new();
        for role in [Role::Admin, Role::Sales, Role::Viewer] {
            let name = role.as_str().to_lowercase();
            callers.push(operator(&server, channel.clone(), &name, role).await);
        }
        let [admin, sales, viewer] = callers.try_into().ok().unwrap();
        Self {
            database,
            server,
            clock,
            admin,
            sales,
            viewer,
        }
    }

    /// A separate channel to the server.
    pub fn channel(&self) -> Channel {
        channel(self.server.address)
    }

    /// Another operator, signed in. The password is [`PASSWORD`].
    pub async fn operator(&self, username: &str, role: Role) -> Caller {
        operator(&self.server, self.channel(), username, role).await
    }

    /// A service account with an API key.
    pub async fn service_account(&self, name: &str, role: Role) -> Caller {
        let console = self.console();
        let account = console.create_account(name, role).await.unwrap();
        let (_, key) = console.create_key(name).await.unwrap();
        Caller {
            id: account.id,
            token: key.expose().to_owned(),
            channel: self.channel(),
        }
    }

    /// What the command line can do, in this process.
    pub fn console(&self) -> Console {
        console(&self.server.app.db)
    }

    /// A caller with this token, valid or not.
    pub fn with_token(&self, token: &str) -> Caller {
        Caller {
            id: Uuid::nil(),
            token: token.to_owned(),
            channel: self.channel(),
        }
    }

    /// The single number that a query of the stored data returns.
    pub async fn count(&self, sql: &str) -> i64 {
        count(&self.database.connect().await, sql).await
    }
}

/// Another client of the database that blocks every change of a lead or an order. Reads are not blocked.
pub struct Held {
    db: DatabaseConnection,
    transaction: DatabaseTransaction,
}

impl Harness {
    /// Takes the locks that every change needs: SQLite's single write lock, or PostgreSQL's locks on the tables.
    pub async fn hold_changes(&self) -> Held {
        let db = self.database.connect().await;
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = db.begin_with_options(options).await.unwrap();
        if self.database.backend == Backend::Postgres {
            transaction
                .execute_unprepared(
                    "LOCK TABLE leads, orders, idempotency_records IN EXCLUSIVE MODE",
                )
                .await
                .unwrap();
        }
        Held { db, transaction }
    }

    /// Another server on the same database.
    pub async fn another_server(&self, change: impl FnOnce(&mut ServeSettings)) -> Running {
        let mut settings = self.database.settings();
        change(&mut settings);
        app::start(&settings, self.clock.clone()).await.unwrap()
    }
}

impl Held {
    /// Blocks PostgreSQL's readers too.
    pub async fn lock_out_readers(&self) {
        let sql = "LOCK TABLE leads IN ACCESS EXCLUSIVE MODE";
        self.transaction.execute_unprepared(sql).await.unwrap();
    }

    /// Releases the locks.
    pub async fn release(self) {
        self.transaction.rollback().await.unwrap();
        self.db.close().await.unwrap();
    }
}

/// The single number that a query returns.
pub async fn count(db: &DatabaseConnection, sql: &str) -> i64 {
    let statement = sea_orm::Statement::from_string(db.get_database_backend(), sql.to_owned());
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

pub fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

async fn operator(server: &Running, channel: Channel, username: &str, role: Role) -> Caller {
    let password = PASSWORD.to_owned().into();
    let operator = console(&server.app.db)
        .create_operator(username, "", role, password)
        .await
        .unwrap();
    let token = sign_in(channel.clone(), username, PASSWORD).await.unwrap();
    Caller {
        id: operator.id,
        token,
        channel,
    }
}

/// What the command line can do in a database.
pub fn console(db: &Db) -> Console {
    Console::new(db, Passwords::default())
}

/// The token of a new session.
pub async fn sign_in(channel: Channel, username: &str, password: &str) -> Result<String, Status> {
    let request = proto::SignInRequest {
        username: username.into(),
        password: password.into(),
        ..Default::default()
    };
    let answer = AuthServiceClient::new(channel).sign_in(request).await?;
    Ok(answer.into_inner().token)
}

/// Waits up to 5 seconds until a condition holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..250 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within 5 seconds: {what}");
}

/// Whether the caller's token is valid.
pub async fn is_let_in(caller: &Caller) -> bool {
    match caller.auth().who_am_i(proto::WhoAmIRequest {}).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(reason(&status), "TOKEN_INVALID");
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
            false
        }
    }
}

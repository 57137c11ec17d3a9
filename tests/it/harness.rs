//! A server per test, on a database of its own, and clients to call it with.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use leadsmith::auth::passwords::Passwords;
use leadsmith::auth::roles::Role;
use leadsmith::clock::Clock;
use leadsmith::config::{DatabaseSettings, Limits, ServeSettings};
use leadsmith::server::{self, Running};
use leadsmith::wire::proto::auth_service_client::AuthServiceClient;
use leadsmith::wire::proto::client_service_client::ClientServiceClient;
use leadsmith::wire::proto::lead_service_client::LeadServiceClient;
use leadsmith::wire::proto::opportunity_service_client::OpportunityServiceClient;
use leadsmith::wire::proto::order_service_client::OrderServiceClient;
use leadsmith::wire::proto::{self, Lead, Order};
use leadsmith::{operators, service_accounts};
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

/// Defines tests that run on both databases: `sqlite::NAME` and `postgres::NAME` below the function's
/// name. The body gets a running server.
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
    /// Holds SQLite's file; gone when dropped.
    pub folder: TempDir,
}

impl TestDatabase {
    pub async fn create(backend: Backend) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match backend {
            Backend::Sqlite => format!("sqlite:{}", folder.path().join("test.db").display()),
            Backend::Postgres => {
                let server = postgres_url();
                let name = format!("it_{}", Uuid::now_v7().simple());
                let admin = Database::connect(&server).await.unwrap_or_else(|error| {
                    panic!("PostgreSQL does not answer ({error}): run the tests by scripts/test")
                });
                admin
                    .execute_unprepared(&format!("CREATE DATABASE {name}"))
                    .await
                    .unwrap();
                admin.close().await.unwrap();
                let (base, _) = server
                    .rsplit_once('/')
                    .expect("a URL with a database in it");
                format!("{base}/{name}")
            }
        };
        Self {
            url,
            backend,
            folder,
        }
    }

    /// A connection beside the server's, to look at what is stored or to get in its way.
    pub async fn connect(&self) -> DatabaseConnection {
        Database::connect(&self.url).await.unwrap()
    }

    pub fn settings(&self) -> ServeSettings {
        ServeSettings {
            database: DatabaseSettings {
                database_url: self.url.clone().into(),
            },
            listen: "127.0.0.1:0".parse().unwrap(),
            migrate: true,
            limits: Limits {
                drain: Duration::from_secs(5),
                ..Limits::default()
            },
        }
    }
}

/// Where the tests' PostgreSQL is. Not finding one is a failure, never a reason to pass.
fn postgres_url() -> String {
    std::env::var("LEADSMITH_TEST_POSTGRES_URL").expect(
        "these tests need PostgreSQL: run them by scripts/test, which starts one, or set \
         LEADSMITH_TEST_POSTGRES_URL to a server whose role may create databases",
    )
}

pub const PASSWORD: &str = "correct horse battery";

/// A server in this process, with an operator of each role.
pub struct Harness {
    pub database: TestDatabase,
    pub server: Running,
    /// Moves the server's time on.
    pub clock: Clock,
    pub admin: Caller,
    pub sales: Caller,
    pub viewer: Caller,
}

impl Harness {
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| {}).await
    }

    /// Starts with settings of the test's own.
    pub async fn start_with(backend: Backend, change: impl FnOnce(&mut ServeSettings)) -> Self {
        let database = TestDatabase::create(backend).await;
        let mut settings = database.settings();
        change(&mut settings);
        let clock = Clock::default();
        let server = server::start(&settings, clock.clone()).await.unwrap();
        let channel = channel(server.address);
        let mut callers = Vec::new();
        for role in [Role::Admin, Role::Sales, Role::Viewer] {
            let name = role.word().to_lowercase();
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

    /// A channel of its own to the server.
    pub fn channel(&self) -> Channel {
        channel(self.server.address)
    }

    /// Another operator, signed in. The password is [`PASSWORD`].
    pub async fn operator(&self, username: &str, role: Role) -> Caller {
        operator(&self.server, self.channel(), username, role).await
    }

    /// A service account with an API key.
    pub async fn service_account(&self, name: &str, role: Role) -> Caller {
        let db = &self.server.desk.db;
        let id = service_accounts::create(db, name, role).await.unwrap();
        let (_, key) = service_accounts::create_key(db, name).await.unwrap();
        Caller {
            id,
            token: key.expose().to_owned(),
            channel: self.channel(),
        }
    }

    /// A caller with this token, whatever it is.
    pub fn with_token(&self, token: &str) -> Caller {
        Caller {
            id: Uuid::nil(),
            token: token.to_owned(),
            channel: self.channel(),
        }
    }

    /// A single number that a query of the stored data answers.
    pub async fn count(&self, sql: &str) -> i64 {
        count(&self.database.connect().await, sql).await
    }
}

/// Another client of the database, in whose way every change of a lead or an order has to wait.
/// Looking things up goes on.
pub struct Held {
    db: DatabaseConnection,
    transaction: DatabaseTransaction,
}

impl Harness {
    /// Takes what every change needs: SQLite's one write lock, PostgreSQL's locks on the tables.
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

    /// Another server over the same database.
    pub async fn another_server(&self, change: impl FnOnce(&mut ServeSettings)) -> Running {
        let mut settings = self.database.settings();
        change(&mut settings);
        server::start(&settings, self.clock.clone()).await.unwrap()
    }
}

impl Held {
    /// Gets out of the way.
    pub async fn release(self) {
        self.transaction.rollback().await.unwrap();
        self.db.close().await.unwrap();
    }
}

/// A single number that a query answers.
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
    let db = &server.desk.db;
    let password = PASSWORD.to_owned().into();
    let operator = operators::create(db, &Passwords::default(), username, "", role, password)
        .await
        .unwrap();
    let token = sign_in(channel.clone(), username, PASSWORD).await.unwrap();
    Caller {
        id: operator.id,
        token,
        channel,
    }
}

/// The token of a new session.
pub async fn sign_in(channel: Channel, username: &str, password: &str) -> Result<String, Status> {
    let request = proto::SignInRequest {
        username: username.into(),
        password: password.into(),
    };
    let answer = AuthServiceClient::new(channel).sign_in(request).await?;
    Ok(answer.into_inner().token)
}

/// Somebody who calls with a token.
#[derive(Clone)]
pub struct Caller {
    pub id: Uuid,
    pub token: String,
    pub channel: Channel,
}

/// Puts the token into every call.
#[derive(Clone)]
pub struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value = MetadataValue::try_from(format!("Bearer {}", self.0)).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

type Called = InterceptedService<Channel, Bearer>;

impl Caller {
    /// The same principal, calling another server.
    pub fn at(&self, server: &Running) -> Self {
        Self {
            channel: channel(server.address),
            ..self.clone()
        }
    }

    pub fn leads(&self) -> LeadServiceClient<Called> {
        LeadServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    pub fn clients(&self) -> ClientServiceClient<Called> {
        ClientServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    pub fn opportunities(&self) -> OpportunityServiceClient<Called> {
        OpportunityServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    pub fn orders(&self) -> OrderServiceClient<Called> {
        OrderServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    pub fn auth(&self) -> AuthServiceClient<Called> {
        AuthServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    /// Creates a lead of this last name.
    pub async fn create_lead(&self, last_name: &str) -> Lead {
        self.create(Lead {
            last_name: last_name.into(),
            ..Lead::default()
        })
        .await
        .unwrap()
    }

    pub async fn create(&self, lead: Lead) -> Result<Lead, Status> {
        let request = proto::CreateLeadRequest {
            lead: Some(lead),
            ..Default::default()
        };
        let answer = self.leads().create(request).await?;
        Ok(answer.into_inner().lead.unwrap())
    }

    pub async fn get(&self, id: &str) -> Lead {
        let request = proto::GetLeadRequest { id: id.into() };
        self.leads()
            .get(request)
            .await
            .unwrap()
            .into_inner()
            .lead
            .unwrap()
    }

    /// Updates the fields of these paths.
    pub async fn update(&self, lead: Lead, paths: &[&str]) -> Result<Lead, Status> {
        self.leads()
            .update(update(lead, paths))
            .await
            .map(|answer| answer.into_inner().lead.unwrap())
    }

    pub async fn deactivate(&self, id: &str) -> Result<Lead, Status> {
        let request = proto::DeactivateLeadRequest {
            id: id.into(),
            ..Default::default()
        };
        self.leads()
            .deactivate(request)
            .await
            .map(|answer| answer.into_inner().lead.unwrap())
    }

    pub async fn reactivate(&self, id: &str) -> Result<Lead, Status> {
        let request = proto::ReactivateLeadRequest {
            id: id.into(),
            ..Default::default()
        };
        self.leads()
            .reactivate(request)
            .await
            .map(|answer| answer.into_inner().lead.unwrap())
    }

    pub async fn convert(&self, id: &str) -> Result<proto::ConvertLeadResponse, Status> {
        let request = proto::ConvertLeadRequest {
            id: id.into(),
            ..Default::default()
        };
        self.leads()
            .convert(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Creates an order with these actions; without any, with the one that provisions the client.
    pub async fn create_order(&self, lead_id: &str, actions: Vec<proto::Action>) -> Order {
        let order = Order {
            lead_id: lead_id.into(),
            actions,
            ..Order::default()
        };
        let request = proto::CreateOrderRequest {
            order: Some(order),
            ..Default::default()
        };
        self.orders()
            .create(request)
            .await
            .unwrap()
            .into_inner()
            .order
            .unwrap()
    }

    pub async fn run(
        &self,
        order_id: &str,
        action: &str,
    ) -> Result<proto::RunActionResponse, Status> {
        let request = proto::RunActionRequest {
            order_id: order_id.into(),
            action: action.into(),
            ..Default::default()
        };
        self.orders()
            .run_action(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// A lead's whole history, newest first.
    pub async fn history(&self, id: &str) -> Vec<proto::HistoryEntry> {
        let request = proto::ListHistoryRequest {
            id: id.into(),
            page_size: 1000,
            ..Default::default()
        };
        self.leads()
            .list_history(request)
            .await
            .unwrap()
            .into_inner()
            .entries
    }
}

/// An update of the fields of these paths; of every populated one without any.
pub fn update(lead: Lead, paths: &[&str]) -> proto::UpdateLeadRequest {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let mask = prost_types::FieldMask { paths };
    proto::UpdateLeadRequest {
        lead: Some(lead),
        update_mask: (!mask.paths.is_empty()).then_some(mask),
        ..Default::default()
    }
}

/// The reason of an error; every error must have one.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("an error without a reason: {status:?}"));
    assert_eq!(info.domain, "leadsmith.v1");
    info.reason.clone()
}

/// A value of an error's metadata.
pub fn metadata(status: &Status, key: &str) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    info.metadata
        .get(key)
        .cloned()
        .unwrap_or_else(|| panic!("no {key} in {info:?}"))
}

/// Whether an error's metadata is empty.
pub fn metadata_free(status: &Status) -> bool {
    status
        .get_error_details()
        .error_info()
        .is_some_and(|info| info.metadata.is_empty())
}

/// What is wrong with each field, by the error.
pub fn violations(status: &Status) -> Vec<(String, String)> {
    assert_eq!(reason(status), "FIELD_INVALID", "{status:?}");
    let details = status.get_error_details();
    let bad = details.bad_request().expect("a BadRequest");
    let pair = |violation: &tonic_types::FieldViolation| {
        (violation.field.clone(), violation.description.clone())
    };
    bad.field_violations.iter().map(pair).collect()
}

/// The whole of an error for a snapshot: code, message and every detail, with ids, which differ from
/// run to run, replaced.
pub fn whole(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = format!("{:?}: {}\n", status.code(), status.message());
    if let Some(info) = details.error_info() {
        writeln!(text, "reason {} of {}", info.reason, info.domain).unwrap();
        let mut pairs: Vec<_> = info.metadata.iter().collect();
        pairs.sort();
        for (key, value) in pairs {
            writeln!(text, "  {key}: {value}").unwrap();
        }
    }
    if let Some(bad) = details.bad_request() {
        for violation in &bad.field_violations {
            writeln!(text, "field {}: {}", violation.field, violation.description).unwrap();
        }
    }
    if let Some(failure) = details.precondition_failure() {
        for violation in &failure.violations {
            writeln!(
                text,
                "precondition {} of {}: {}",
                violation.r#type, violation.subject, violation.description
            )
            .unwrap();
        }
    }
    if let Some(resource) = details.resource_info() {
        writeln!(
            text,
            "resource {} {}",
            resource.resource_type, resource.resource_name
        )
        .unwrap();
    }
    if details.retry_info().is_some() {
        writeln!(text, "retry later").unwrap();
    }
    without_ids(&text)
}

fn without_ids(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let id = rest.get(..36).filter(|id| Uuid::try_parse(id).is_ok());
        let step = if id.is_some() {
            36
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        result.push_str(if id.is_some() { "[id]" } else { &rest[..step] });
        rest = &rest[step..];
    }
    result
}

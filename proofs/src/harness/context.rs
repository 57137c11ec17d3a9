//! The inputs of a proof: the program, a new database, accounts, and a random generator.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::Result;

use super::bugs::{self, Bug};
use super::builds::{self, ROOT, Tests};
use super::client::Caller;
use super::cluster::Cluster;
use super::database::{Database, Kind};
use super::program::{Program, Serving};

/// The state that all proofs of a run share.
pub struct Setting {
    seed: u64,
    long: bool,
    program: Program,
    /// Started at first use.
    cluster: Mutex<Option<Arc<Cluster>>>,
    /// Built at first use.
    tests: OnceLock<Tests>,
    /// Numbers the databases.
    next: AtomicU64,
}

impl Setting {
    pub fn new(seed: u64, long: bool, seeded: bool) -> Result<Self> {
        Ok(Self {
            seed,
            long,
            program: Program::build(seeded)?,
            cluster: Mutex::default(),
            tests: OnceLock::new(),
            next: AtomicU64::new(0),
        })
    }

    fn cluster(&self) -> Result<Arc<Cluster>> {
        let mut cluster = self.cluster.lock().unwrap_or_else(|held| held.into_inner());
        if let Some(cluster) = &*cluster {
            return Ok(Arc::clone(cluster));
        }
        let started = Arc::new(Cluster::start()?);
        *cluster = Some(Arc::clone(&started));
        Ok(started)
    }
}

/// The inputs of one proof.
pub struct Context<'a> {
    setting: &'a Setting,
    pub kind: Kind,
    /// The service, with the seeded bug if there is one.
    pub program: Program,
}

impl<'a> Context<'a> {
    pub fn new(setting: &'a Setting, kind: Kind, bug: Option<Bug>) -> Self {
        Self {
            setting,
            kind,
            program: setting.program.with(bug),
        }
    }

    /// The same inputs for another build of the service.
    pub fn of(&self, program: Program) -> Self {
        Self {
            setting: self.setting,
            kind: self.kind,
            program,
        }
    }

    /// The service's tests, of the same build as the service.
    pub fn tests(&self) -> Result<Tests> {
        if let Some(tests) = self.setting.tests.get() {
            return Ok(tests.clone());
        }
        let tests = match self.program.bug() {
            Some(_) => bugs::build_tests()?,
            None => {
                let source = Path::new(ROOT).to_path_buf();
                let program = builds::build_tests(&source, &builds::target()?)?;
                Tests { source, program }
            }
        };
        Ok(self.setting.tests.get_or_init(|| tests).clone())
    }

    /// A size that depends on the form, short or long.
    pub fn size<T>(&self, short: T, long: T) -> T {
        match self.setting.long {
            true => long,
            false => short,
        }
    }

    /// A random generator derived from the seed. Each number gives a different one.
    pub fn random(&self, number: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(
            self.setting
                .seed
                .wrapping_add(number.wrapping_mul(0x9E37_79B9)),
        )
    }

    /// A database without a schema.
    pub fn database(&self) -> Result<Database> {
        Ok(match self.kind {
            Kind::Sqlite => Database::Sqlite(tempfile::tempdir()?),
            Kind::Postgres => {
                let cluster = self.setting.cluster()?;
                let number = self.setting.next.fetch_add(1, Ordering::Relaxed);
                let name = format!("proof_{number}");
                cluster.admin(&format!("CREATE DATABASE {name}"))?;
                Database::Postgres(cluster, name)
            }
        })
    }

    /// A database with a schema and accounts.
    pub fn fixture(&self) -> Result<Fixture> {
        self.fixture_in(self.database()?)
    }

    /// The same in an existing database.
    pub fn fixture_in(&self, database: Database) -> Result<Fixture> {
        let url = database.url();
        let run = |arguments: &[&str]| self.program.command(&url, arguments);
        run(&["migrate", "up"])?;
        let create = [
            "operator",
            "create",
            "--username",
            OPERATOR,
            "--role",
            "SALES",
        ];
        self.program.command_with(&url, &create, PASSWORD)?;
        let mut keys = Vec::new();
        for name in ["first", "second"] {
            run(&[
                "service-account",
                "create",
                "--name",
                name,
                "--role",
                "SALES",
            ])?;
            let key = run(&["service-account", "create-key", "--name", name])?;
            keys.push(key.trim().to_owned());
        }
        Ok(Fixture { database, keys })
    }

    /// A server on the fixture's database, with these flags of `leadsmith serve`.
    pub async fn serve(&self, fixture: &Fixture, flags: &[&str]) -> Result<Serving> {
        self.program.serve(&fixture.database.url(), flags).await
    }

    /// So many servers on one PostgreSQL database. An SQLite file has one server.
    pub async fn replicas(
        &self,
        fixture: &Fixture,
        on_postgres: usize,
        flags: &[&str],
    ) -> Result<Vec<Serving>> {
        let count = match self.kind {
            Kind::Sqlite => 1,
            Kind::Postgres => on_postgres,
        };
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.serve(fixture, flags).await?);
        }
        Ok(all)
    }
}

/// The operator in every fixture.
pub const OPERATOR: &str = "sam";
pub const PASSWORD: &str = "a long enough password";

/// A database with a schema, an operator, and two service accounts, all with the role SALES.
pub struct Fixture {
    pub database: Database,
    keys: Vec<String>,
}

impl Fixture {
    /// The key of a service account, by its number: 0 or 1.
    pub fn key(&self, account: usize) -> String {
        self.keys.get(account).cloned().unwrap_or_default()
    }

    /// The first service account, on a new connection to this server.
    pub async fn caller(&self, server: &Serving) -> Result<Caller> {
        self.caller_as(server, 0).await
    }

    /// The service account with this number, 0 or 1, on a new connection.
    pub async fn caller_as(&self, server: &Serving, account: usize) -> Result<Caller> {
        let key = self.keys.get(account).map_or("", String::as_str);
        Caller::connect(&server.address, key).await
    }

    /// Several callers, each with its own connection.
    pub async fn callers(&self, server: &Serving, count: usize) -> Result<Vec<Caller>> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.caller(server).await?);
        }
        Ok(all)
    }
}

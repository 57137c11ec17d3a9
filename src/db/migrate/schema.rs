//! The migrations of a database, compared with those that this program knows. Reads only.
//!
//! A database may have migrations that are newer than this program: after an upgrade, when older replicas still run,
//! or when the program was replaced by the previous one. The database itself says whether this program works with
//! them (`migrations::compatibility`).

use std::collections::HashMap;

use migrations::sea_orm_migration::MigratorTrait;
use migrations::{Migrator, compatibility};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

use crate::config::StartupError;

/// A migration of a database or of this program.
pub struct Step {
    /// The migration's name.
    pub name: String,
    /// What is known about it.
    pub state: StepState,
}

/// The state of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// The database has it.
    Applied,
    /// The database lacks it.
    Pending,
    /// The database has it, and this program does not know it but works with it.
    Newer,
    /// The database has it, and this program neither knows it nor works with it.
    Incompatible,
}

impl StepState {
    /// The word for it in `leadsmith migrate status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Newer => "newer",
            Self::Incompatible => "incompatible",
        }
    }
}

/// The migrations of a database: those that this program knows, oldest first, then those that it does not know.
pub struct Schema {
    pub steps: Vec<Step>,
}

impl Schema {
    /// # Errors
    /// If the schema cannot be read.
    pub async fn read(db: &DatabaseConnection) -> Result<Self, StartupError> {
        Self::query(db).await.map_err(unreadable)
    }

    async fn query(db: &DatabaseConnection) -> Result<Self, DbErr> {
        let applied = applied(db).await?;
        let known: Vec<String> = Migrator::migrations()
            .iter()
            .map(|migration| migration.name().to_owned())
            .collect();
        let unknown: Vec<&String> = applied
            .iter()
            .filter(|name| !known.contains(name))
            .collect();
        // Only in this case: a role may not have been granted the right to read a new table yet.
        let required = match unknown.is_empty() {
            true => HashMap::new(),
            false => required(db).await?,
        };
        let is_compatible = |name: &String| {
            let required = required.get(name);
            required
                .is_some_and(|required| required.as_ref().is_none_or(|name| known.contains(name)))
        };
        let unknown = unknown.into_iter().map(|name| Step {
            name: name.clone(),
            state: match is_compatible(name) {
                true => StepState::Newer,
                false => StepState::Incompatible,
            },
        });
        let unknown: Vec<Step> = unknown.collect();
        let steps = known.into_iter().map(|name| Step {
            state: match applied.contains(&name) {
                true => StepState::Applied,
                false => StepState::Pending,
            },
            name,
        });
        Ok(Self {
            steps: steps.chain(unknown).collect(),
        })
    }

    /// The number of steps in this state.
    pub fn count(&self, state: StepState) -> usize {
        self.in_state(state).count()
    }

    /// The names of the steps in this state, in their order.
    pub fn in_state(&self, state: StepState) -> impl Iterator<Item = &str> {
        let steps = self.steps.iter().filter(move |step| step.state == state);
        steps.map(|step| step.name.as_str())
    }

    /// Checks that this program works with the migrations that it does not know.
    ///
    /// # Errors
    /// If one of them is not compatible.
    pub fn require_compatible(&self) -> Result<(), StartupError> {
        self.refuse(StepState::Incompatible)
    }

    /// Checks that this program knows every migration, so that it can change the schema.
    ///
    /// # Errors
    /// If the schema is newer, compatible or not.
    pub fn require_known(&self) -> Result<(), StartupError> {
        self.require_compatible()?;
        self.refuse(StepState::Newer)
    }

    /// Checks that the service works on this schema: it lacks nothing, and what is newer is compatible.
    ///
    /// # Errors
    /// If the schema is not usable.
    pub fn require_usable(&self) -> Result<(), StartupError> {
        self.require_compatible()?;
        match self.count(StepState::Pending) {
            0 => Ok(()),
            pending => Err(StartupError::new(format!(
                "the database lacks {pending} migrations: run leadsmith migrate up, or serve with --migrate \
                 true"
            ))),
        }
    }

    fn refuse(&self, state: StepState) -> Result<(), StartupError> {
        match self.in_state(state).next() {
            None => Ok(()),
            Some(name) => Err(StartupError::new(format!(
                "the database's schema is newer than this program (it has the migration {name}): use the newer \
                 version of Leadsmith, or revert its migrations with that version"
            ))),
        }
    }
}

/// The error for a schema that cannot be read.
pub fn unreadable(error: DbErr) -> StartupError {
    StartupError::new(format!(
        "the database's schema cannot be read ({error}): check that it is a Leadsmith database and that the role can \
         read its tables"
    ))
}

/// The names of the applied migrations, oldest first. The migrator's own query would create their table first,
/// which not every role may do and not every command should do.
pub async fn applied(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    if !table_exists(db, "seaql_migrations").await? {
        return Ok(Vec::new());
    }
    let sql = "SELECT version FROM seaql_migrations ORDER BY version";
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// For each migration that the database describes: the migration that a program must know to work on the schema,
/// if any.
async fn required(db: &DatabaseConnection) -> Result<HashMap<String, Option<String>>, DbErr> {
    let table = compatibility::TABLE;
    if !table_exists(db, table).await? {
        return Ok(HashMap::new());
    }
    let sql = format!("SELECT migration, requires FROM {table}");
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await?;
    let pair =
        |row: &sea_orm::QueryResult| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
    rows.iter().map(pair).collect()
}

async fn table_exists(db: &DatabaseConnection, table: &str) -> Result<bool, DbErr> {
    let backend = db.get_database_backend();
    // PostgreSQL's `information_schema` would list only what the role has a right to.
    let sql = match backend == DbBackend::Postgres {
        true => "SELECT to_regclass($1) IS NOT NULL",
        false => "SELECT count(*) > 0 FROM sqlite_master WHERE name = $1",
    };
    let statement = Statement::from_sql_and_values(backend, sql, [table.into()]);
    let row = db.query_one_raw(statement).await?;
    let exists = row.map(|row| row.try_get_by_index::<bool>(0)).transpose()?;
    Ok(exists == Some(true))
}

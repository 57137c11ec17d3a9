//! Conversion of database errors, classified by what the caller can do about them.

use sea_orm::{DbErr, RuntimeErr};

use super::Error;

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        match kind(&error) {
            // Only the caller of a list or a search can request less: see [`too_slow`].
            Kind::Unavailable | Kind::Slow => Self::database_unavailable(with_sources(&error)),
            Kind::Lost => Self::connection_lost(with_sources(&error)),
            Kind::Conflict => Self::write_conflict(),
            Kind::TooSlow => Self::query_too_slow(),
            Kind::Bug => Self::internal(with_sources(&error)),
        }
    }
}

/// The message of an error, and those of its sources that it does not contain already.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        source = error.source();
    }
    text
}

/// Whether the connection is dead or leads to a server that accepts no writes.
pub fn is_lost(error: &DbErr) -> bool {
    matches!(kind(error), Kind::Lost)
}

/// Whether concurrent transactions caused the error, such as a deadlock. The transaction can be retried.
pub fn is_conflict(error: &DbErr) -> bool {
    matches!(kind(error), Kind::Conflict)
}

/// The error text that [`too_slow`] creates.
const TOO_SLOW: &str = "the query took longer than a query may";

/// Marks a statement timeout of a list or a search, because its caller can request less.
pub fn too_slow(error: DbErr) -> DbErr {
    match kind(&error) {
        Kind::Slow => DbErr::Custom(TOO_SLOW.to_owned()),
        Kind::Unavailable | Kind::Lost | Kind::Conflict | Kind::TooSlow | Kind::Bug => error,
    }
}

/// Whether a lock wait timed out on PostgreSQL.
pub fn is_locked(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) =
        error
    else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("55P03")
}

/// The unique index of stored responses, on principal and request id.
const REQUEST_ID_INDEX: &str = "idempotency_records_request";

enum Kind {
    Unavailable,
    Lost,
    Conflict,
    /// A statement timeout.
    Slow,
    /// A statement timeout of a list or a search, whose caller can request less.
    TooSlow,
    Bug,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an unknown error counts as a bug until it is classified"
)]
fn kind(error: &DbErr) -> Kind {
    match error {
        DbErr::ConnectionAcquire(_) => Kind::Unavailable,
        // No connection could be opened.
        DbErr::Conn(runtime) => match classify(runtime) {
            Kind::Lost => Kind::Lost,
            Kind::Unavailable | Kind::Conflict | Kind::Slow | Kind::TooSlow | Kind::Bug => {
                Kind::Unavailable
            }
        },
        DbErr::Exec(runtime) | DbErr::Query(runtime) => classify(runtime),
        DbErr::Custom(what) if what == TOO_SLOW => Kind::TooSlow,
        _ => Kind::Bug,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an unknown error counts as a bug until it is classified"
)]
fn classify(runtime: &RuntimeErr) -> Kind {
    let RuntimeErr::SqlxError(error) = runtime else {
        return Kind::Bug;
    };
    match error.as_ref() {
        sea_orm::SqlxError::Database(error) => match error.code().as_deref() {
            // PostgreSQL: serialization failure, deadlock, lock not available (its wait is limited).
            Some("40001" | "40P01" | "55P03") => Kind::Conflict,
            // PostgreSQL: unique violation. Another replica committed a response for the same request id
            // after this transaction looked it up. A retry finds it.
            Some("23505") if error.constraint() == Some(REQUEST_ID_INDEX) => Kind::Conflict,
            // PostgreSQL: shutdown, crash shutdown, starting up, a primary that became a standby.
            Some("57P01" | "57P02" | "57P03" | "25006") => Kind::Lost,
            Some(code) if code.len() == 5 && code.starts_with("08") => Kind::Lost,
            // PostgreSQL: statement timeout.
            Some("57014") => Kind::Slow,
            // PostgreSQL: insufficient resources, operator intervention.
            Some(code) if code.len() == 5 && ["53", "57"].contains(&&code[..2]) => {
                Kind::Unavailable
            }
            // SQLite: busy, locked, I/O error, full; extended codes carry these in the low byte.
            Some(code) if code.len() < 5 => match code.parse::<u32>().map(|code| code & 0xff) {
                Ok(5 | 6 | 10 | 13) => Kind::Unavailable,
                // SQLite: interrupted by the time limit of `db::pages`.
                Ok(9) => Kind::Slow,
                _ => Kind::Bug,
            },
            _ => Kind::Bug,
        },
        sea_orm::SqlxError::Io(_) | sea_orm::SqlxError::Protocol(_) => Kind::Lost,
        sea_orm::SqlxError::Tls(_)
        | sea_orm::SqlxError::PoolTimedOut
        | sea_orm::SqlxError::PoolClosed
        | sea_orm::SqlxError::WorkerCrashed => Kind::Unavailable,
        _ => Kind::Bug,
    }
}

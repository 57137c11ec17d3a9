//! The statements that read the log. Apart from the code that runs them, so that their plans can be tested.

use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{DbBackend, Statement};

use super::position::{Cover, Position, Window};
use crate::db::rows;

/// The columns of an event, for the part of the statements that both databases share.
const COLUMNS: &str =
    "seq, id, lead_id, type, subject_id, version, time, actor, record, transaction_id";

/// What every statement returns in each row beside an event, which may be missing.
const HEADER: &str = "l.incarnation, l.deleted_seq, l.deleted_transaction, \
     (SELECT id FROM events WHERE seq = $1) AS newest_id";

/// The joins that complete an event `e`, whose RPC is in the history.
const REST: &str = "e.seq, e.id, e.lead_id, e.type, e.subject_id, e.version, e.time, e.actor, \
     e.record, e.transaction_id, h.rpc, h.request_id";
const HISTORY: &str =
    "LEFT JOIN history h ON h.subject_id = e.subject_id AND h.version = e.version";
/// LATERAL with a LIMIT makes PostgreSQL look up each row by the index, also if it has planned the statement while the
/// table was small.
const HISTORY_ON_POSTGRES: &str = "LEFT JOIN LATERAL (SELECT rpc, request_id FROM history \
     WHERE subject_id = e.subject_id AND version = e.version LIMIT 1) h ON TRUE";

/// The events after a position on SQLite, where the numbers are the order of the commits.
pub fn after_number(position: &Position, limit: u64) -> Statement {
    let sql = format!(
        "SELECT {HEADER}, {REST} FROM event_log l LEFT JOIN (SELECT {COLUMNS} FROM events \
         WHERE seq >= $2 ORDER BY seq LIMIT $3) e ON TRUE {HISTORY} ORDER BY e.seq"
    );
    let values = [
        newest_seq(position),
        position.read.bound.into(),
        (limit + 1).into(),
    ];
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// The events of a window that is read in part, on PostgreSQL.
pub fn in_window(position: &Position, window: &Window, limit: u64) -> Statement {
    let sql = format!(
        "SELECT {HEADER}, NULL::text AS snapshot, {REST} FROM event_log l \
         LEFT JOIN (SELECT {COLUMNS} FROM events WHERE seq > $2 \
         AND transaction_id < $3 AND transaction_id <> ALL ($4) \
         AND (transaction_id >= $5 OR transaction_id = ANY ($6)) \
         ORDER BY seq LIMIT $7) e ON TRUE {HISTORY_ON_POSTGRES} ORDER BY e.seq"
    );
    let values = [
        newest_seq(position),
        window.after.into(),
        window.end.bound.into(),
        ids(&window.end),
        position.read.bound.into(),
        ids(&position.read),
        (limit + 1).into(),
    ];
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// The first events of the window that begins now, on PostgreSQL.
pub fn new_window(position: &Position, limit: u64) -> Statement {
    let by_transaction = "ORDER BY transaction_id, seq LIMIT $3";
    let mut events =
        format!("(SELECT {COLUMNS} FROM events WHERE transaction_id >= $2 {by_transaction})");
    let mut values = vec![
        newest_seq(position),
        position.read.bound.into(),
        (limit + 1).into(),
    ];
    if !position.read.unfinished.is_empty() {
        events.push_str(&format!(
            " UNION ALL (SELECT {COLUMNS} FROM events WHERE transaction_id = ANY ($4) \
             {by_transaction})"
        ));
        values.push(ids(&position.read));
    }
    let sql = format!(
        "SELECT {HEADER}, s.snapshot, {REST} \
         FROM (SELECT pg_current_snapshot()::text AS snapshot) s CROSS JOIN event_log l \
         LEFT JOIN ({events}) e ON TRUE {HISTORY_ON_POSTGRES} ORDER BY e.seq"
    );
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// The lowest number and the highest transaction of the events that are not read and that began before a snapshot, on
/// PostgreSQL.
pub fn unread(position: &Position, snapshot: &Cover) -> Statement {
    // OFFSET keeps PostgreSQL from reading the log in the order of the numbers until one fits.
    let sql = "SELECT min(seq), max(transaction_id) FROM (SELECT seq, transaction_id FROM events \
               WHERE (transaction_id >= $1 OR transaction_id = ANY ($2)) AND transaction_id < $3 \
               OFFSET 0) AS unread";
    let values = [
        position.read.bound.into(),
        ids(&position.read),
        snapshot.bound.into(),
    ];
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// The log and its newest event, for a position at its beginning or end.
pub fn ends(backend: DbBackend) -> Statement {
    let sql = match backend == DbBackend::Postgres {
        true => {
            "SELECT l.incarnation, l.deleted_seq, l.deleted_transaction, \
             pg_current_snapshot()::text AS snapshot, n.transaction_id, n.seq, n.id \
             FROM event_log l LEFT JOIN LATERAL (SELECT transaction_id, seq, id FROM events \
             ORDER BY transaction_id DESC, seq DESC LIMIT 1) n ON TRUE"
        }
        false => {
            "SELECT l.incarnation, l.deleted_seq, l.deleted_transaction, \
             n.seq AS transaction_id, n.seq, n.id FROM event_log l \
             LEFT JOIN (SELECT seq, id FROM events ORDER BY seq DESC LIMIT 1) n ON TRUE"
        }
    };
    Statement::from_string(backend, sql)
}

/// The number and the time of the first event after a number.
pub fn first_after(backend: DbBackend, seq: i64) -> Statement {
    let sql = "SELECT seq, time FROM events WHERE seq > $1 ORDER BY seq LIMIT 1";
    Statement::from_sql_and_values(backend, sql, [seq.into()])
}

/// The number and the time of the last event.
pub fn last(backend: DbBackend) -> Statement {
    let sql = "SELECT seq, time FROM events ORDER BY seq DESC LIMIT 1";
    Statement::from_string(backend, sql)
}

/// The numbers and the times of the events after a number.
pub fn times(backend: DbBackend, after: i64, limit: u64) -> Statement {
    let sql = "SELECT seq, time FROM events WHERE seq > $1 ORDER BY seq LIMIT $2";
    Statement::from_sql_and_values(backend, sql, [after.into(), limit.into()])
}

/// The highest number and transaction of the events that retention may delete at once: the first ones up to the number
/// `last`, as far as every transaction up to theirs has ended.
pub fn deletable(backend: DbBackend, last: i64, limit: u64) -> Statement {
    let (transaction, ended) = match backend == DbBackend::Postgres {
        true => (
            "transaction_id",
            "AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
        ),
        false => ("seq", ""),
    };
    let sql = format!(
        "SELECT max(seq), max(t) FROM (SELECT seq, {transaction} AS t FROM events \
         WHERE seq <= $1 {ended} ORDER BY seq LIMIT $2) AS first"
    );
    Statement::from_sql_and_values(backend, sql, [last.into(), limit.into()])
}

/// Deletes the events up to a number and a transaction.
pub fn delete(backend: DbBackend, seq: i64, newest: i64) -> Statement {
    let transaction = match backend == DbBackend::Postgres {
        true => "transaction_id",
        false => "seq",
    };
    let sql = format!("DELETE FROM events WHERE seq <= $1 AND {transaction} <= $2");
    Statement::from_sql_and_values(backend, sql, [seq.into(), newest.into()])
}

/// The events with these numbers, the oldest first.
pub fn by_numbers(backend: DbBackend, numbers: &[i64]) -> Statement {
    let len = rows::padded_len(numbers.len()).max(1);
    // No event has the number 0.
    let values = numbers.iter().copied().chain(std::iter::repeat(0));
    let values: Vec<Value> = values.take(len).map(Into::into).collect();
    let places: Vec<String> = (1..=len).map(|place| format!("${place}")).collect();
    let history = match backend == DbBackend::Postgres {
        true => HISTORY_ON_POSTGRES,
        false => HISTORY,
    };
    let sql = format!(
        "SELECT {REST} FROM (SELECT {COLUMNS} FROM events WHERE seq IN ({})) e {history} \
         ORDER BY e.seq",
        places.join(", ")
    );
    Statement::from_sql_and_values(backend, sql, values)
}

/// The number of the newest event that was read, which must still exist.
fn newest_seq(position: &Position) -> Value {
    position.newest.map_or(0, |newest| newest.seq).into()
}

/// The unfinished transactions as an array.
fn ids(cover: &Cover) -> Value {
    let ids = cover.unfinished.iter().copied().map(Value::from).collect();
    Value::Array(ArrayType::BigInt, Some(Box::new(ids)))
}

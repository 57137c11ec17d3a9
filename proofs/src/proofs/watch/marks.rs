//! The marks, and the age of events. About every half second the lead with the marks gets a new version. Events up to a mark
//! are made old, as soon as no reader may need them that must not lose any, and the servers delete them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;

use super::shared::Shared;
use crate::harness::client::{Caller, version};
use crate::harness::database::{Connection, Database, Kind};

/// The pause between two marks.
const INTERVAL: Duration = Duration::from_millis(400);
/// Older than the servers keep events.
pub const OLD: &str = "2020-01-01T00:00:00+00:00";
/// How long the last mark is tried.
const ATTEMPTS: usize = 600;

/// A mark.
struct Mark {
    version: i64,
    /// The number of its event. Events with lower numbers were written before.
    seq: i64,
    /// The first transaction that began after it, on PostgreSQL. When all before have ended, no event with a lower number
    /// can come any more.
    next_transaction: i64,
}

/// Makes the marks of a run.
pub struct Marks {
    shared: Arc<Shared>,
    callers: Vec<Caller>,
    kind: Kind,
    /// The URLs of the members, one of which accepts changes.
    urls: Vec<String>,
    marks: Vec<Mark>,
    random: Rng,
}

impl Marks {
    pub fn new(shared: &Arc<Shared>, callers: &[Caller], database: &Database, random: Rng) -> Self {
        Self {
            shared: Arc::clone(shared),
            callers: callers.to_vec(),
            kind: database.kind(),
            urls: members(&database.url()),
            marks: Vec::new(),
            random,
        }
    }

    /// Makes marks until the run stops.
    pub async fn run(mut self) {
        let mut connection = None;
        while !self.shared.is_stopped() {
            tokio::time::sleep(INTERVAL).await;
            let done = match connection.take() {
                Some(db) => self.round(&db).await.map(|()| db),
                None => connect(&self.urls).await,
            };
            // Without one during an outage.
            connection = done.ok();
        }
    }

    async fn round(&mut self, db: &Connection) -> Result<()> {
        self.age(db).await?;
        if let Some(last) = self.marks.last()
            && self.kind == Kind::Postgres
        {
            let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
            if db.count(sql).await? < last.next_transaction {
                return Ok(());
            }
        }
        let caller = &self.callers[self.random.usize(..self.callers.len())];
        let phone = self.random.u32(..).to_string();
        if caller
            .update(&self.shared.marked, &phone, "")
            .await
            .is_err()
        {
            return Ok(());
        }
        let id = self.shared.marked.replace('-', "");
        let literal = match self.kind {
            Kind::Sqlite => format!("x'{id}'"),
            Kind::Postgres => format!("'{id}'"),
        };
        let sql = format!(
            "SELECT version, seq FROM events WHERE subject_id = {literal} ORDER BY seq DESC LIMIT 1"
        );
        let rows = db.rows(&sql).await?;
        let row = rows.first().context("a mark without an event")?;
        let mark = Mark {
            version: row.try_get_by_index(0)?,
            seq: row.try_get_by_index(1)?,
            next_transaction: match self.kind {
                Kind::Sqlite => 0,
                Kind::Postgres => {
                    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
                    db.count(sql).await?
                }
            },
        };
        self.marks.push(mark);
        Ok(())
    }

    /// Makes the events old that no reader needs, and notes what is deleted.
    async fn age(&mut self, db: &Connection) -> Result<()> {
        let kept = self.shared.kept_from();
        let mut old = self.marks.iter().rev();
        let Some(mark) = old.find(|mark| mark.version < kept) else {
            return Ok(());
        };
        let seq = mark.seq;
        let sql = format!("UPDATE events SET time = '{OLD}' WHERE seq <= {seq} AND time > '{OLD}'");
        db.execute(&sql).await?;
        let left = db.count("SELECT coalesce(min(seq), 0) FROM events").await?;
        let deleted = self.marks.iter().rev().find(|mark| mark.seq < left);
        if let Some(mark) = deleted {
            self.shared.set_deleted(mark.version);
        }
        Ok(())
    }
}

/// Makes the last mark, after all other changes.
pub async fn make_last(shared: &Shared, callers: &[Caller]) -> Result<()> {
    for attempt in 0..ATTEMPTS {
        let caller = &callers[attempt % callers.len()];
        match caller.update(&shared.marked, "the last", "").await {
            Ok(lead) => {
                shared.set_last(version(&lead));
                return Ok(());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    None.context("the last mark could not be made")
}

/// A connection to the member that accepts changes.
pub async fn connect(urls: &[String]) -> Result<Connection> {
    for url in urls {
        let database = Database::Elsewhere(url.clone());
        let Ok(connection) = database.connect().await else {
            continue;
        };
        let is_alone = urls.len() == 1;
        let writable = "SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE 1 END::bigint";
        if is_alone
            || connection
                .count(writable)
                .await
                .is_ok_and(|found| found == 1)
        {
            return Ok(connection);
        }
    }
    None.context("no member accepts changes")
}

/// The URLs of the members of a cluster: `postgres://user@one:1,two:2/name?…`.
pub fn members(url: &str) -> Vec<String> {
    let parts = url.strip_prefix("postgres://").and_then(|rest| {
        let (user, rest) = rest.split_once('@')?;
        let (hosts, rest) = rest.split_once('/')?;
        let (name, query) = rest.split_once('?')?;
        hosts.contains(',').then_some((user, hosts, name, query))
    });
    let Some((user, hosts, name, query)) = parts else {
        return vec![url.to_owned()];
    };
    let query: Vec<&str> = query
        .split('&')
        .filter(|part| !part.starts_with("target_session_attrs="))
        .collect();
    let query = query.join("&");
    let hosts = hosts.split(',');
    hosts
        .map(|host| format!("postgres://{user}@{host}/{name}?{query}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::members;

    #[test]
    fn each_member_has_a_url() {
        let url = "postgres://me@a:1,b:2/leads?sslmode=disable&target_session_attrs=read-write";
        let expected = ["a:1", "b:2"]
            .map(|host| format!("postgres://me@{host}/leads?sslmode=disable"))
            .to_vec();
        assert_eq!(members(url), expected);
        let url = "sqlite:/tmp/leads.db";
        assert_eq!(members(url), [url.to_owned()]);
    }
}

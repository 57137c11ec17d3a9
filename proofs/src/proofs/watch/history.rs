//! What the streams are compared with: the history tables, read by plain SQL.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use sea_orm::QueryResult;
use serde_json::Value;

use super::marks::OLD;
use super::validate::{Change, Expected, Version};
use crate::harness::database::Database;

/// The kinds of records whose events everybody may see.
const SUBJECTS: &str = "('LEAD', 'OPPORTUNITY', 'ORDER', 'ORDER_QUEUE')";

/// All changes, and those whose events are still stored.
pub struct History {
    changes: Vec<Change>,
    stored: BTreeSet<Version>,
}

impl History {
    pub async fn read(database: &Database) -> Result<Self> {
        let db = database.connect().await?;
        let sql = format!(
            "SELECT subject_id, version, lead_id, subject, rpc, request_id, actor, changes \
             FROM history WHERE subject IN {SUBJECTS} ORDER BY subject_id, version"
        );
        let rows = db.rows(&sql).await?;
        let changes = rows.iter().map(change).collect::<Result<_>>()?;
        let mut stored = BTreeSet::new();
        // Those that were made old may be deleted at any time.
        let sql = format!("SELECT subject_id, version FROM events WHERE time > '{OLD}'");
        for row in db.rows(&sql).await? {
            stored.insert((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
        }
        db.close().await?;
        Ok(Self { changes, stored })
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// How many events are still stored.
    pub fn stored(&self) -> usize {
        let all = self.changes.iter();
        let stored = |change: &&Change| self.stored.contains(&(change.record, change.version));
        all.filter(stored).count()
    }

    /// What a stream with these filters should receive.
    pub fn expected(&self, matches: impl Fn(&Change) -> bool) -> Expected {
        let mut expected = Expected::default();
        for change in self.changes.iter().filter(|change| matches(change)) {
            let of_record = expected.changes.entry(change.record).or_default();
            of_record.push(change.clone());
            let version = (change.record, change.version);
            if self.stored.contains(&version) {
                expected.stored.insert(version);
            }
        }
        expected
    }
}

fn change(row: &QueryResult) -> Result<Change> {
    let (actor, changes): (Value, Value) = (row.try_get_by_index(6)?, row.try_get_by_index(7)?);
    let actor = actor["id"].as_str().context("an actor without id")?;
    let mut changes = changes.as_array().into_iter().flatten();
    let phone = changes.find(|change| change["field"] == "phone");
    let phone = phone.and_then(|change| change["to"].as_str());
    Ok(Change {
        record: row.try_get_by_index(0)?,
        version: row.try_get_by_index(1)?,
        root: row.try_get_by_index(2)?,
        subject: row.try_get_by_index(3)?,
        rpc: row.try_get_by_index(4)?,
        request_id: row.try_get_by_index(5)?,
        actor: actor.parse()?,
        phone: phone.map(str::to_owned),
    })
}

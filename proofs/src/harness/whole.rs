//! Whether what a change carries along is all there: leads, history and events agree one to one.

use anyhow::Result;

use super::database::{Database, Kind};
use super::report::Findings;

/// What must be zero, and the question that counts it.
const CHECKS: &[(&str, &str)] = &[
    (
        "leads whose history is not one row a version",
        "SELECT count(*) FROM leads l WHERE l.version <> \
         (SELECT count(*) FROM history h WHERE h.subject_id = l.id)",
    ),
    (
        "leads whose events are not one a version",
        "SELECT count(*) FROM leads l WHERE l.version <> \
         (SELECT count(*) FROM events e WHERE e.subject_id = l.id)",
    ),
    (
        "history rows without a lead",
        "SELECT count(*) FROM history h WHERE NOT EXISTS \
         (SELECT 1 FROM leads l WHERE l.id = h.lead_id)",
    ),
    (
        "events without a lead",
        "SELECT count(*) FROM events e WHERE NOT EXISTS \
         (SELECT 1 FROM leads l WHERE l.id = e.lead_id)",
    ),
    (
        "leads that cannot be searched",
        "SELECT (SELECT count(*) FROM leads) - (SELECT count(*) FROM lead_search)",
    ),
];

/// Looks at a whole database.
pub async fn look(database: &Database, findings: &mut Findings) -> Result<()> {
    let db = database.connect().await?;
    for (what, sql) in CHECKS {
        let count = db.count(sql).await?;
        findings.expect(count == 0, || format!("{count} {what}"));
    }
    if database.kind() == Kind::Sqlite {
        let said = db.texts("PRAGMA integrity_check").await?;
        findings.expect(said == ["ok"], || format!("integrity_check: {said:?}"));
    }
    db.close().await
}

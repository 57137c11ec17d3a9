//! The consistency of a database: leads, history and events must match one to one.

use anyhow::Result;

use super::database::{Connection, Database, Kind};
use super::report::Findings;

/// Queries that count inconsistencies. Each count must be zero.
const CHECKS: &[(&str, &str)] = &[
    (
        "leads without exactly one history row per version",
        "SELECT count(*) FROM leads l WHERE l.version <> \
         (SELECT count(*) FROM history h WHERE h.subject_id = l.id)",
    ),
    (
        "leads without exactly one event per version",
        "SELECT count(*) FROM leads l WHERE l.version <> \
         (SELECT count(*) FROM events e WHERE e.subject_id = l.id)",
    ),
    (
        "opportunities without exactly one history row per version",
        "SELECT count(*) FROM opportunities o WHERE o.version <> \
         (SELECT count(*) FROM history h WHERE h.subject_id = o.id)",
    ),
    (
        "opportunities without exactly one event per version",
        "SELECT count(*) FROM opportunities o WHERE o.version <> \
         (SELECT count(*) FROM events e WHERE e.subject_id = o.id)",
    ),
    (
        "history rows without a lead",
        "SELECT count(*) FROM history h WHERE NOT EXISTS \
         (SELECT 1 FROM leads l WHERE l.id = h.lead_id) \
         AND h.subject NOT IN ('OPERATOR', 'SERVICE_ACCOUNT', 'ORDER_QUEUE')",
    ),
    (
        "events without a lead",
        "SELECT count(*) FROM events e WHERE NOT EXISTS \
         (SELECT 1 FROM leads l WHERE l.id = e.lead_id) \
         AND e.type NOT LIKE 'operator.%' AND e.type NOT LIKE 'service_account.%' \
         AND e.type NOT LIKE 'order_queue.%'",
    ),
    (
        "leads without a row in the search index",
        "SELECT (SELECT count(*) FROM leads) - (SELECT count(*) FROM lead_search)",
    ),
];

/// The same for orders of which no run was refused, which changes an order without a history row. A run that converts a
/// lead is recorded as a change of the lead, so orders with such an action are left out.
const CHECKS_OF_ORDERS: &[(&str, &str)] = &[
    (
        "orders without exactly one history row per version",
        "SELECT count(*) FROM orders o WHERE CAST(o.actions AS text) NOT LIKE '%PROVISION_CLIENT%' \
         AND o.version <> (SELECT count(*) FROM history h WHERE h.subject_id = o.id)",
    ),
    (
        "orders without exactly one event per version",
        "SELECT count(*) FROM orders o WHERE CAST(o.actions AS text) NOT LIKE '%PROVISION_CLIENT%' \
         AND o.version <> (SELECT count(*) FROM events e WHERE e.subject_id = o.id)",
    ),
];

/// Checks the orders of a database in which no run of an action was refused.
pub async fn check_orders(database: &Database, findings: &mut Findings) -> Result<()> {
    let db = database.connect().await?;
    count(&db, CHECKS_OF_ORDERS, findings).await?;
    db.close().await
}

async fn count(db: &Connection, checks: &[(&str, &str)], findings: &mut Findings) -> Result<()> {
    for (what, sql) in checks {
        let count = db.count(sql).await?;
        findings.expect(count == 0, || format!("{count} {what}"));
    }
    Ok(())
}

/// Checks a whole database.
pub async fn check(database: &Database, findings: &mut Findings) -> Result<()> {
    let db = database.connect().await?;
    count(&db, CHECKS, findings).await?;
    if database.kind() == Kind::Sqlite {
        let said = db.texts("PRAGMA integrity_check").await?;
        findings.expect(said == ["ok"], || format!("integrity_check: {said:?}"));
    }
    db.close().await
}

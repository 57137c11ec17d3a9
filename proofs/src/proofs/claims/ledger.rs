//! What the database says about the claims: the ledger of each order is a sequence that leases allow, and the orders,
//! their history and their events agree with it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use sea_orm::prelude::{DateTimeUtc, Uuid};

use super::{Shared, lock};
use crate::harness::consistency;
use crate::harness::database::Database;
use crate::harness::report::Findings;

/// Queries that count inconsistencies. Each count must be zero.
const CHECKS: &[(&str, &str)] = &[
    (
        "orders that are not COMPLETE",
        "SELECT count(*) FROM orders WHERE state <> 'COMPLETE'",
    ),
    (
        "orders without exactly one entry of the ledger per change",
        "SELECT count(*) FROM orders o WHERE o.version - 1 <> \
         (SELECT count(*) FROM action_runs r WHERE r.order_id = o.id)",
    ),
    (
        "actions that are still in the list of workers",
        "SELECT count(*) FROM claimable_actions",
    ),
];

/// An entry of a ledger.
struct Entry {
    id: Uuid,
    order_id: Uuid,
    kind: String,
    claim: Option<Uuid>,
    time: DateTimeUtc,
    expire_time: Option<DateTimeUtc>,
}

pub(super) async fn check(
    database: &Database,
    orders: usize,
    shared: &Shared,
    findings: &mut Findings,
) -> Result<()> {
    consistency::check_orders(database, findings).await?;
    let db = database.connect().await?;
    for (what, sql) in CHECKS {
        let count = db.count(sql).await?;
        findings.expect(count == 0, || format!("{count} {what}"));
    }
    for (kind, event) in [
        ("CLAIM", "order.action_claimed"),
        ("RUN", "order.action_reported"),
        ("RELEASE", "order.action_released"),
    ] {
        let entries = format!("SELECT count(*) FROM action_runs WHERE kind = '{kind}'");
        let events = format!("SELECT count(*) FROM events WHERE type = '{event}'");
        let (entries, events) = (db.count(&entries).await?, db.count(&events).await?);
        findings.expect(entries == events, || {
            format!("{entries} entries {kind}, but {events} events {event}")
        });
    }
    let mut ledgers: BTreeMap<Uuid, Vec<Entry>> = BTreeMap::new();
    let sql =
        "SELECT id, order_id, kind, claim_run_id, time, expire_time FROM action_runs ORDER BY seq";
    for row in db.rows(sql).await? {
        let entry = Entry {
            id: row.try_get_by_index(0)?,
            order_id: row.try_get_by_index(1)?,
            kind: row.try_get_by_index(2)?,
            claim: row.try_get_by_index(3)?,
            time: row.try_get_by_index(4)?,
            expire_time: row.try_get_by_index(5)?,
        };
        ledgers.entry(entry.order_id).or_default().push(entry);
    }
    db.close().await?;
    findings.expect(ledgers.len() == orders, || {
        format!("{} of {orders} orders have a ledger", ledgers.len())
    });
    let claims: BTreeSet<String> = ledgers
        .values()
        .flatten()
        .filter(|entry| entry.kind == "CLAIM")
        .map(|entry| entry.id.to_string())
        .collect();
    for hold in lock(&shared.holds).iter() {
        findings.expect(claims.contains(&hold.run_id), || {
            format!("the claim {} is not in the ledger", hold.run_id)
        });
    }
    for (order_id, entries) in ledgers {
        replay(order_id, &entries, findings);
    }
    Ok(())
}

/// Replays a ledger: an action is claimed only when nobody holds it, and reported or released only by who does.
fn replay(order_id: Uuid, entries: &[Entry], findings: &mut Findings) {
    let mut held: Option<&Entry> = None;
    let mut reports = 0;
    for entry in entries {
        let is_held = held.is_some_and(|claim| claim.expire_time > Some(entry.time));
        let is_own = entry.claim.is_some() && entry.claim == held.map(|claim| claim.id);
        let is_allowed = match entry.kind.as_str() {
            "CLAIM" => !is_held && reports == 0,
            _ => is_held && is_own,
        };
        let kind = &entry.kind;
        findings.expect(is_allowed, || {
            format!("an entry {kind} in the ledger of {order_id} was not allowed")
        });
        reports += usize::from(kind == "RUN");
        held = (kind == "CLAIM").then_some(entry);
    }
    findings.expect(reports == 1, || {
        format!("{reports} reports in the ledger of {order_id}")
    });
}

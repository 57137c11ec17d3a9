//! What the service writes beside a change: its history row, its event and the answer kept under its
//! request id. The limit writes rows of the same texts: those of a change the service just made.

use anyhow::Result;
use rusqlite::{Statement, params};
use uuid::Uuid;

use crate::data::{BEGIN, DataSet};
use crate::limits::pgbench;
use crate::place::Database;

/// The texts of a change.
pub struct Kept {
    pub actor: String,
    pub rpc: String,
    pub changes: String,
    pub event: String,
    pub record: String,
    /// In hexadecimal, as are the next two.
    pub principal: String,
    pub fingerprint: String,
    pub response: String,
}

impl Kept {
    /// Of the only change of the data set that was made under a request id.
    pub async fn of(data: &DataSet) -> Result<Self> {
        let [text, hex, principal] = match data.place.database() {
            Database::Sqlite => ["CAST(? AS TEXT)", "hex(?)", "hex(i.principal_id)"],
            Database::Postgres => ["(?)::text", "encode(?, 'hex')", "i.principal_id::text"],
        };
        let text = |column: &str| text.replace('?', column);
        let hex = |column: &str| hex.replace('?', column);
        let sql = format!(
            "SELECT {}, h.rpc, {}, e.type, {}, {principal}, {}, {} FROM idempotency_records i
               JOIN history h ON h.lead_id = i.lead_id JOIN events e ON e.lead_id = i.lead_id
              ORDER BY i.create_time DESC, h.time DESC, e.time DESC LIMIT 1",
            text("h.actor"),
            text("h.changes"),
            text("e.record"),
            hex("i.fingerprint"),
            hex("i.response"),
        );
        let [
            actor,
            rpc,
            changes,
            event,
            record,
            principal,
            fingerprint,
            response,
        ] = data.place.row(&sql).await?;
        Ok(Self {
            actor,
            rpc,
            changes,
            event,
            record,
            principal,
            fingerprint,
            response,
        })
    }

    /// For pgbench, whose variables they are.
    pub fn variables(&self, data: &DataSet) -> Vec<(&'static str, String)> {
        vec![
            ("leads", data.leads.to_string()),
            ("actor", self.actor.clone()),
            ("rpc", self.rpc.clone()),
            ("changes", self.changes.clone()),
            ("event", self.event.clone()),
            ("record", self.record.clone()),
            ("principal", self.principal.clone()),
            ("fingerprint", format!("\\x{}", self.fingerprint)),
            ("response", format!("\\x{}", self.response)),
        ]
    }
}

/// The lines of a script that make the ids of [`inserts`].
pub fn ids() -> String {
    pgbench::new_id("history") + &pgbench::new_id("event") + &pgbench::new_id("request")
}

/// The end of a statement whose `changed` holds the lead's new `id`, `version` and `update_time`.
pub fn inserts(request_id: bool) -> String {
    let end = match request_id {
        false => "SELECT id FROM changed".to_owned(),
        true => format!(
            "INSERT INTO idempotency_records
               (principal_id, request_id, lead_id, fingerprint, response, create_time)
             SELECT :principal::uuid, {}, id, :fingerprint::bytea, :response::bytea, update_time
               FROM changed",
            pgbench::uuid("request")
        ),
    };
    format!(
        ", history AS (
           INSERT INTO history (id, lead_id, subject, subject_id, version, time, actor, rpc, changes)
           SELECT {}, id, 'LEAD', id, version, update_time, :actor::jsonb, :rpc::text,
                  :changes::jsonb FROM changed),
         event AS (
           INSERT INTO events (id, lead_id, type, subject_id, version, time, actor, record)
           SELECT {}, id, :event::text, id, version, update_time, :actor::jsonb, :record::jsonb
             FROM changed)
         {end};\n",
        pgbench::uuid("history"),
        pgbench::uuid("event"),
    )
}

/// SQLite's statements for the same.
pub fn statements() -> [String; 3] {
    [
        "INSERT INTO history (id, lead_id, subject, subject_id, version, time, actor, rpc, changes)
         VALUES (?, ?, 'LEAD', ?, ?, ?, ?, ?, ?)"
            .to_owned(),
        "INSERT INTO events (id, lead_id, type, subject_id, version, time, actor, record)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            .to_owned(),
        "INSERT INTO idempotency_records
           (principal_id, request_id, lead_id, fingerprint, response, create_time)
         VALUES (?, ?, ?, ?, ?, ?)"
            .to_owned(),
    ]
}

/// What is written for SQLite's statements, decoded once.
pub struct Blobs {
    principal: Vec<u8>,
    fingerprint: Vec<u8>,
    response: Vec<u8>,
}

impl Kept {
    pub fn blobs(&self) -> Result<Blobs> {
        Ok(Blobs {
            principal: bytes(&self.principal)?,
            fingerprint: bytes(&self.fingerprint)?,
            response: bytes(&self.response)?,
        })
    }

    /// Runs the first two of [`statements`], and the third if there is what it needs.
    pub fn write(
        &self,
        statements: &mut [Statement<'_>],
        random: &mut fastrand::Rng,
        lead: Uuid,
        version: i64,
        blobs: Option<&Blobs>,
    ) -> Result<()> {
        let (lead, time) = (lead.as_bytes(), now());
        let mut id = || *new_id(random).as_bytes();
        let history = params![
            id(),
            lead,
            lead,
            version,
            time,
            self.actor,
            self.rpc,
            self.changes
        ];
        statements[0].execute(history)?;
        let event = params![
            id(),
            lead,
            self.event,
            lead,
            version,
            time,
            self.actor,
            self.record
        ];
        statements[1].execute(event)?;
        if let Some(blobs) = blobs {
            let (principal, fingerprint) = (&blobs.principal, &blobs.fingerprint);
            let request = super::request_id(random);
            let response = &blobs.response;
            let kept = params![
                principal,
                request.as_bytes(),
                lead,
                fingerprint,
                response,
                time
            ];
            statements[2].execute(kept)?;
        }
        Ok(())
    }
}

/// The time as the service writes it.
pub fn now() -> String {
    let now = leadsmith::clock::Clock::default().now();
    now.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false)
}

/// An id in the order of time.
pub fn new_id(random: &mut fastrand::Rng) -> Uuid {
    let now = leadsmith::clock::Clock::default().now().timestamp_millis();
    let bits = random.u128(..).to_be_bytes();
    let [random @ .., _, _, _, _, _, _] = bits;
    uuid::Builder::from_unix_timestamp_millis(now.max(BEGIN).unsigned_abs(), &random).into_uuid()
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    (0..hex.len() / 2)
        .map(|index| Ok(u8::from_str_radix(&hex[2 * index..2 * index + 2], 16)?))
        .collect()
}

//! What the contract promises to store with a change: its history row, its event, and the response for a retry
//! with the same request id. The limit writes these rows. Their texts are derived from the change and its
//! response, and not read from the service's tables, whose format is the service's own choice.

use anyhow::Result;
use prost::Message;
use rusqlite::{Statement, params};
use uuid::Uuid;

use crate::clock;
use crate::data::BEGIN;
use crate::limits::pgbench;

/// The actor of the changes, as stored.
pub const ACTOR: &str =
    r#"{"id": "018cc251-f400-7000-a800-000000000001", "kind": "SERVICE_ACCOUNT", "name": "bench"}"#;
const PRINCIPAL: Uuid = Uuid::from_u128(0x018c_c251_f400_7000_a800_0000_0000_0001);
/// As long as a SHA-256.
const FINGERPRINT: [u8; 32] = [7; 32];

/// The texts of a change.
#[derive(Clone)]
pub struct Stored {
    rpc: &'static str,
    event: &'static str,
    changes: String,
    /// None for a call without a request id.
    response: Option<Vec<u8>>,
}

impl Stored {
    /// The changed fields of a typical call, as path, old and new value.
    pub fn new(rpc: &'static str, event: &'static str, changes: &[(&str, &str, &str)]) -> Self {
        let changes = changes.iter().map(|(path, old, new)| {
            let [path, old, new] = [path, old, new].map(|text| serde_json::Value::from(*text));
            format!(r#"{{"path": {path}, "old": {old}, "new": {new}}}"#)
        });
        let changes = changes.collect::<Vec<_>>().join(", ");
        Self {
            rpc,
            event,
            changes: format!("[{changes}]"),
            response: None,
        }
    }

    /// Adds the response that is stored for the request id.
    pub fn with_response(self, response: &impl Message) -> Self {
        Self {
            response: Some(response.encode_to_vec()),
            ..self
        }
    }

    /// The variables of [`Self::inserts`].
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let response = self.response.as_deref().unwrap_or_default();
        vec![
            ("actor", ACTOR.to_owned()),
            ("rpc", self.rpc.to_owned()),
            ("changes", self.changes.clone()),
            ("event", self.event.to_owned()),
            ("principal", PRINCIPAL.to_string()),
            ("fingerprint", format!("\\x{}", hex(&FINGERPRINT))),
            ("response", format!("\\x{}", hex(response))),
        ]
    }

    /// The lines of a pgbench script that set the ids of [`Self::inserts`].
    pub fn ids(&self) -> String {
        pgbench::random_id("request")
    }

    /// The end of a statement whose `changed` contains the lead's new `id`, `version` and `update_time`.
    pub fn inserts(&self) -> String {
        let end = match self.response {
            None => "SELECT id FROM changed".to_owned(),
            Some(_) => format!(
                "INSERT INTO responses (principal_id, request_id, fingerprint, response, create_time)
                 SELECT :principal::uuid, {}, :fingerprint::bytea, :response::bytea, update_time
                   FROM changed",
                pgbench::uuid("request")
            ),
        };
        format!(
            ", history AS (
               INSERT INTO history (lead_id, version, time, actor, rpc, changes)
               SELECT id, version, update_time, :actor::text, :rpc::text, :changes::text
                 FROM changed),
             event AS (
               INSERT INTO events (type, lead_id, version, time, actor, rpc, changes)
               SELECT :event::text, id, version, update_time, :actor::text, :rpc::text,
                      :changes::text FROM changed)
             {end};\n"
        )
    }

    /// The same as statements for SQLite.
    pub fn statements() -> [String; 3] {
        [
            "INSERT INTO history (lead_id, version, time, actor, rpc, changes)
             VALUES (?, ?, ?, ?, ?, ?)"
                .to_owned(),
            "INSERT INTO events (type, lead_id, version, time, actor, rpc, changes)
             VALUES (?, ?, ?, ?, ?, ?, ?)"
                .to_owned(),
            "INSERT INTO responses (principal_id, request_id, fingerprint, response, create_time)
             VALUES (?, ?, ?, ?, ?)"
                .to_owned(),
        ]
    }

    /// Runs the first two of [`Self::statements`], and the third if there is a response.
    pub fn write(
        &self,
        statements: &mut [Statement<'_>],
        random: &mut fastrand::Rng,
        lead: Uuid,
        version: i64,
    ) -> Result<()> {
        let (lead, time) = (lead.as_bytes(), now());
        let history = params![lead, version, time, ACTOR, self.rpc, self.changes];
        statements[0].execute(history)?;
        let event = params![
            self.event,
            lead,
            version,
            time,
            ACTOR,
            self.rpc,
            self.changes
        ];
        statements[1].execute(event)?;
        if let Some(response) = &self.response {
            let request = super::request_id(random);
            let (principal, request) = (PRINCIPAL.as_bytes(), request.as_bytes());
            let kept = params![principal, request, FINGERPRINT, response, time];
            statements[2].execute(kept)?;
        }
        Ok(())
    }
}

/// The current time in SQLite's format.
pub fn now() -> String {
    clock::now().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false)
}

/// A new id, ordered by time.
pub fn new_id(random: &mut fastrand::Rng) -> Uuid {
    let now = clock::now().timestamp_millis();
    let bits = random.u128(..).to_be_bytes();
    let [random @ .., _, _, _, _, _, _] = bits;
    uuid::Builder::from_unix_timestamp_millis(now.max(BEGIN).unsigned_abs(), &random).into_uuid()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! A random sales desk, written directly to the database, and known to the test as values.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};
use uuid::Uuid;

/// The start of a generator of pseudo-random numbers, the same in each run.
const SEED: u64 = 0x5ea1_ed0d_e5c0_ffee;
const ACTOR: &str =
    r#"{"kind":"OPERATOR","id":"00000000-0000-7000-8000-000000000001","name":"desk"}"#;
/// The rows of one statement.
const CHUNK: usize = 500;

/// The times around which many leads are created and converted: changes of the clocks in several zones.
const CHANGES: [&str; 12] = [
    "2026-03-08T07:00:00Z",
    "2026-11-01T06:00:00Z",
    "2026-03-29T01:00:00Z",
    "2026-10-25T01:00:00Z",
    "2026-04-04T15:00:00Z",
    "2026-10-03T15:30:00Z",
    "2026-04-05T03:00:00Z",
    "2026-09-06T04:00:00Z",
    "2026-03-28T22:00:00Z",
    "2026-10-24T21:00:00Z",
    "2026-01-01T00:00:00Z",
    "2026-12-31T18:15:00Z",
];

pub struct DeskLead {
    pub id: Uuid,
    pub state: &'static str,
    pub owner_id: String,
    pub source: String,
    pub create_time: DateTime<Utc>,
    pub conversion_time: Option<DateTime<Utc>>,
}

pub struct DeskSale {
    pub lead_id: Uuid,
    pub state: &'static str,
    pub stage: &'static str,
    /// Currency, units, nanos.
    pub amount: Option<(&'static str, i64, i32)>,
    pub probability: Option<i32>,
    /// Whether the probability is only in the column of the previous version.
    pub is_old: bool,
    pub owner_id: String,
}

pub struct DeskOrder {
    /// The place of its lead.
    pub lead: usize,
    pub queue_id: Uuid,
    pub step: String,
    pub state: &'static str,
    pub create_time: DateTime<Utc>,
}

pub struct Desk {
    pub leads: Vec<DeskLead>,
    pub sales: Vec<DeskSale>,
    pub orders: Vec<DeskOrder>,
}

/// A generator of pseudo-random numbers: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        let place = self.below(all.len() as u64);
        all[usize::try_from(place).unwrap()].clone()
    }

    /// A time in 2026, half of the times within 40 hours of a change of the clocks. Some have whole seconds or
    /// milliseconds, and some are exactly at an hour.
    fn time(&mut self) -> DateTime<Utc> {
        let micros = if self.below(2) == 0 {
            let change: DateTime<Utc> = self.one_of(&CHANGES).parse().unwrap();
            let around = i64::try_from(self.below(80 * 3_600_000_000)).unwrap();
            change.timestamp_micros() + around - 40 * 3_600_000_000
        } else {
            let year: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
            year.timestamp_micros() + i64::try_from(self.below(365 * 86_400_000_000)).unwrap()
        };
        let precision = self.one_of(&[1, 1, 1_000, 1_000_000, 3_600_000_000, 1_800_000_000]);
        DateTime::from_timestamp_micros(micros / precision * precision).unwrap()
    }
}

impl Desk {
    /// `leads` leads and as many opportunities, with a twentieth of the orders.
    pub fn random(leads: usize, owners: &[Uuid], steps: &[(Uuid, &str)]) -> Self {
        let mut random = Random(SEED);
        let mut all_owners: Vec<String> = owners.iter().map(Uuid::to_string).collect();
        all_owners.push(String::new());
        let id = |place: usize, kind: u128| {
            Uuid::from_u128((0x0190_0000_0000_7000_8000 << 48) | (kind << 40) | place as u128)
        };
        let new_leads = (0..leads).map(|place| {
            let create_time = random.time();
            let state = random.one_of(&["OPEN", "OPEN", "DEACTIVATED", "CONVERTED", "CONVERTED"]);
            // Some sources have many leads, and there are more sources than are listed.
            let source = match random.below(4) {
                0 => String::new(),
                1 => format!("Fair {}", random.below(5)),
                _ => format!("Réferrer {:03}", random.below(170)),
            };
            let after =
                Duration::microseconds(i64::try_from(random.below(40 * 86_400_000_000)).unwrap());
            let converted = match random.below(3) {
                0 => (create_time + after).max(create_time),
                _ => random.time().max(create_time),
            };
            DeskLead {
                id: id(place, 1),
                state,
                owner_id: random.one_of(&all_owners),
                source,
                create_time,
                conversion_time: (state == "CONVERTED").then_some(converted),
            }
        });
        let new_leads: Vec<DeskLead> = new_leads.collect();
        let sales = (0..leads).map(|_| {
            let state = random.one_of(&["OPEN", "OPEN", "OPEN", "WON", "LOST"]);
            let stage = random.one_of(&["CONTACT", "MEETING", "NEGOTIATION", "BUYING"]);
            let units = match random.below(50) {
                0 => i64::MAX / 4_096,
                _ => i64::try_from(random.below(1_000_000)).unwrap(),
            };
            let nanos = i32::try_from(random.below(1_000_000_000)).unwrap();
            let currency = random.one_of(&["EUR", "USD", "JPY"]);
            let probability = random.below(110);
            let probability = (probability <= 100).then(|| i32::try_from(probability).unwrap());
            DeskSale {
                lead_id: random.one_of(&[0, leads / 2, leads - 1].map(|place| id(place, 1))),
                state,
                stage: if state == "OPEN" { stage } else { "CLOSED" },
                amount: (random.below(8) > 0).then_some((currency, units, nanos)),
                probability,
                is_old: probability.is_some_and(|known| known > 0) && random.below(10) == 0,
                owner_id: random.one_of(&all_owners),
            }
        });
        let sales: Vec<DeskSale> = sales.collect();
        let orders = (0..leads / 20).map(|_| {
            let (queue_id, step) = random.one_of(steps);
            DeskOrder {
                lead: usize::try_from(random.below(leads as u64)).unwrap(),
                queue_id,
                step: step.to_owned(),
                state: random.one_of(&["PROCESSING", "PROCESSING", "COMPLETE", "CANCELED"]),
                create_time: random.time(),
            }
        });
        let orders = orders.collect();
        Self {
            leads: new_leads,
            sales,
            orders,
        }
    }

    pub async fn load(&self, db: &DatabaseConnection) {
        let to = Writer(db.get_database_backend());
        let leads = self.leads.iter().enumerate().map(|(place, lead)| {
            let deactivated = lead.state == "DEACTIVATED";
            let actor = |is: bool| if is { to.text(ACTOR) } else { "NULL".into() };
            let texts = vec!["''".to_owned(); 14];
            let mut row = vec![
                to.id(lead.id),
                "1".into(),
                to.text(lead.state),
                to.text(&format!("Lead {place}")),
                to.text(&lead.owner_id),
                to.text(&lead.source),
                to.time(lead.conversion_time),
                actor(lead.conversion_time.is_some()),
                to.time(deactivated.then_some(lead.create_time)),
                actor(deactivated),
                to.time(Some(lead.create_time)),
                to.time(Some(lead.create_time)),
                "'{}'".into(),
                to.text(&format!("lead {place}")),
            ];
            row.extend(texts);
            row
        });
        let columns = "id, version, state, last_name, owner_id, source, conversion_time, conversion_actor, \
                       deactivation_time, deactivation_actor, create_time, update_time, custom_fields, last_name_key, \
                       first_name, company, email, phone, fax, vat_id, street, city, region, postal_code, language, \
                       country_code, company_key, email_key";
        insert(db, "leads", columns, leads.collect()).await;
        let sales = self.sales.iter().enumerate().map(|(place, sale)| {
            let amount = sale.amount.map(|(currency, units, nanos)| {
                format!(r#"{{"currency_code":"{currency}","units":{units},"nanos":{nanos}}}"#)
            });
            let probability =
                |known: Option<i32>| known.map_or("NULL".into(), |known| known.to_string());
            vec![
                to.id(Uuid::from_u128(
                    (0x0190_0000_0000_7000_8000 << 48) | (2 << 40) | place as u128,
                )),
                to.id(sale.lead_id),
                "1".into(),
                "'Sale'".into(),
                to.text(sale.stage),
                to.text(sale.state),
                amount.map_or("NULL".into(), |amount| to.text(&amount)),
                sale.probability.unwrap_or(0).to_string(),
                probability(sale.probability.filter(|_| !sale.is_old)),
                to.text(&sale.owner_id),
                "''".into(),
                "''".into(),
                to.time(Some(self.leads[0].create_time)),
                to.time(Some(self.leads[0].create_time)),
            ]
        });
        let columns = "id, lead_id, version, name, stage, state, amount, probability, win_probability, owner_id, \
                       next_step, description, create_time, update_time";
        insert(db, "opportunities", columns, sales.collect()).await;
        let orders = self.orders.iter().enumerate().map(|(place, order)| {
            vec![
                to.id(Uuid::from_u128(
                    (0x0190_0000_0000_7000_8000 << 48) | (3 << 40) | place as u128,
                )),
                to.id(self.leads[order.lead].id),
                "1".into(),
                to.text(order.state),
                "'[]'".into(),
                "'[]'".into(),
                to.time(Some(order.create_time)),
                to.time(Some(order.create_time)),
                to.id(order.queue_id),
                to.text(&order.step),
            ]
        });
        let columns =
            "id, lead_id, version, state, items, actions, create_time, update_time, queue_id, step";
        insert(db, "orders", columns, orders.collect()).await;
    }
}

/// Writes values as the service stores them.
struct Writer(DbBackend);

impl Writer {
    fn text(&self, text: &str) -> String {
        assert!(!text.contains('\''), "{text}");
        format!("'{text}'")
    }

    fn id(&self, id: Uuid) -> String {
        match self.0 == DbBackend::Postgres {
            true => format!("CAST('{id}' AS uuid)"),
            false => format!("x'{}'", id.simple()),
        }
    }

    fn time(&self, time: Option<DateTime<Utc>>) -> String {
        let text = time.map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, false));
        match text {
            Some(text) if self.0 == DbBackend::Postgres => format!("CAST('{text}' AS timestamptz)"),
            Some(text) => format!("'{text}'"),
            None if self.0 == DbBackend::Postgres => "CAST(NULL AS timestamptz)".into(),
            None => "NULL".into(),
        }
    }
}

async fn insert(db: &DatabaseConnection, table: &str, columns: &str, rows: Vec<Vec<String>>) {
    for rows in rows.chunks(CHUNK) {
        let rows: Vec<String> = rows
            .iter()
            .map(|row| format!("({})", row.join(", ")))
            .collect();
        let sql = format!("INSERT INTO {table} ({columns}) VALUES {}", rows.join(", "));
        db.execute_unprepared(&sql).await.unwrap();
    }
}

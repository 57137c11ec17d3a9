//! Leads, through the API: valid values, updates, and the records that each change leaves.

mod blanks;
mod checks;
mod dry_runs;
mod duplicates;
mod email;
pub mod erase;
mod fields;
mod formats;
mod history;
mod masks;

use leadsmith_proto::{Address, Lead};

use crate::harness::Harness;

/// A lead that can be created: it has only a last name.
fn named() -> Lead {
    Lead {
        last_name: "Lovelace".into(),
        ..Lead::default()
    }
}

/// A lead with this email.
fn with_email(email: &str) -> Lead {
    Lead {
        email: email.into(),
        ..named()
    }
}

/// A lead with every field set.
fn complete(owner_id: &str) -> Lead {
    Lead {
        first_name: "Ada".into(),
        last_name: "Lovelace".into(),
        company: "Analytical Engines".into(),
        email: "Ada@Example.com".into(),
        phone: "+44 20 7946 0000".into(),
        fax: "+44 20 7946 0001".into(),
        vat_id: "GB123456789".into(),
        address: Some(Address {
            street: "12 St James's Square\nFirst floor".into(),
            city: "London".into(),
            region: "Greater London".into(),
            postal_code: "SW1Y 4LB".into(),
            country_code: "GB".into(),
        }),
        language: "en-GB".into(),
        owner_id: owner_id.into(),
        source: "Charles Babbage".into(),
        custom_fields: [("tier", "gold"), ("seats", "12")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Lead::default()
    }
}

/// The lead of an update: this id and what `change` sets.
fn edit(id: &str, change: impl FnOnce(&mut Lead)) -> Lead {
    let mut lead = Lead {
        id: id.into(),
        ..Lead::default()
    };
    change(&mut lead);
    lead
}

/// How many leads, history entries, events and kept responses are stored.
async fn stored(h: &Harness) -> [i64; 4] {
    let db = h.database.connect().await;
    let mut counts = [0; 4];
    let tables = ["leads", "history", "events", "idempotency_records"];
    for (count, table) in counts.iter_mut().zip(tables) {
        *count = crate::harness::count_of_leads(&db, table).await;
    }
    counts
}

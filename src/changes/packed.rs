//! How large responses are kept for repeats: without the texts that the lead's record, its history and
//! the order hold already.
//!
//! A lead may have 400 KB of custom fields, and a response shows all of them, whatever the call
//! changed. So a kept response names the long texts that were in the records at that time, and holds
//! the rest. For a repeat the texts are found again: custom fields as the lead has them now, with the
//! changes since then undone by its history, and an order's texts, which never change. The bytes
//! around them are kept as they were sent, so the response is the same byte for byte, whatever was
//! changed since, the program's version included. A digest tells if it is not.

use std::collections::BTreeMap;

use prost::Message;
use sea_orm::ConnectionTrait;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::history;
use crate::error::{Error, Result};
use crate::leads::model::{CustomFields, Lead};
use crate::orders::model::Order;
use crate::{leads, orders};

/// Smaller responses are kept as they are, in bytes.
const SMALLEST: usize = 2 * 1024;
/// Shorter texts are kept with the response, in bytes: to name them would cost about as much.
const TEXT: usize = 24;
/// The first byte of what is packed. No protobuf message begins with it, so a version that knows only
/// plain responses fails on it.
const MARK: u8 = 0;
/// How many history entries are read at once.
const TOGETHER: u64 = 100;
const CUSTOM: &str = "custom_fields.";

/// A response without the long texts of its records. Released versions can read what is stored: a field
/// keeps its number and meaning for ever.
#[derive(Clone, PartialEq, Message)]
struct Packed {
    /// The lead's version when the response was made.
    #[prost(int64, tag = "1")]
    version: i64,
    /// The order whose texts come before the lead's; empty without one.
    #[prost(bytes = "vec", tag = "2")]
    order_id: Vec<u8>,
    /// The bytes before each text, and those behind the last.
    #[prost(bytes = "vec", repeated, tag = "3")]
    between: Vec<Vec<u8>>,
    /// The texts, by their places in the records.
    #[prost(uint32, repeated, tag = "4")]
    texts: Vec<u32>,
    /// SHA-256 of the response, the first 8 bytes.
    #[prost(bytes = "vec", tag = "5")]
    digest: Vec<u8>,
}

/// A response as it is kept: about `lead` as it was when the response was made, and about `order`.
pub(super) fn pack(response: Vec<u8>, lead: &Lead, order: Option<&Order>) -> Vec<u8> {
    if response.len() < SMALLEST {
        return response;
    }
    let texts = texts(order, &lead.details.custom_fields);
    let (mut between, mut found, mut kept_up_to, mut from) = (Vec::new(), Vec::new(), 0, 0);
    // In the order of the response, which shows a lead twice where it shows its client as well.
    for _ in 0..2 {
        for (place, text) in (0..).zip(&texts) {
            let Some(at) = find(&response[from..], text.as_bytes()) else {
                continue;
            };
            between.push(response[kept_up_to..from + at].to_vec());
            found.push(place);
            from += at + text.len();
            kept_up_to = from;
        }
    }
    if found.is_empty() {
        return response;
    }
    between.push(response[kept_up_to..].to_vec());
    let packed = Packed {
        version: lead.version,
        order_id: order.map_or_else(Vec::new, |order| order.id.as_bytes().to_vec()),
        between,
        texts: found,
        digest: digest(&response),
    };
    let mut stored = vec![MARK];
    stored.extend(packed.encode_to_vec());
    stored
}

/// A response as it was sent, from how it is kept.
///
/// # Errors
/// [`Error::LeadErased`] when its texts were erased meanwhile.
pub(super) async fn unpack(
    db: &impl ConnectionTrait,
    lead_id: Option<Uuid>,
    stored: Vec<u8>,
) -> Result<Vec<u8>> {
    let Some((&MARK, packed)) = stored.split_first() else {
        return Ok(stored);
    };
    let packed = Packed::decode(packed).map_err(Error::internal)?;
    let lead_id = lead_id.ok_or_else(|| Error::internal("a packed response names no lead"))?;
    let lead = lead(db, lead_id).await?;
    let fields = custom_fields_at(db, &lead, packed.version).await?;
    let order = match Uuid::from_slice(&packed.order_id) {
        Ok(id) => orders::store::get(db, id).await?,
        Err(_) => None,
    };
    let response = join(&packed, &texts(order.as_ref(), &fields));
    if let Some(response) = response.filter(|response| digest(response) == packed.digest) {
        return Ok(response);
    }
    match self::lead(db, lead_id).await?.erasure {
        Some(_) => Err(Error::LeadErased(lead_id)),
        None => Err(Error::internal(format!(
            "a kept response about lead {lead_id} cannot be put together"
        ))),
    }
}

async fn lead(db: &impl ConnectionTrait, id: Uuid) -> Result<Lead> {
    let found = leads::store::get_many(db, vec![id]).await?;
    let missing = || Error::internal(format!("lead {id} has a kept response and is not there"));
    found.into_iter().next().ok_or_else(missing)
}

fn join(packed: &Packed, texts: &[&str]) -> Option<Vec<u8>> {
    let mut response = Vec::new();
    let mut between = packed.between.iter();
    for place in &packed.texts {
        response.extend(between.next()?);
        let text = texts.get(usize::try_from(*place).ok()?)?;
        response.extend(text.as_bytes());
    }
    response.extend(between.next()?);
    Some(response)
}

/// The long texts of the records, in the order in which responses show them.
fn texts<'a>(order: Option<&'a Order>, custom_fields: &'a CustomFields) -> Vec<&'a str> {
    let mut texts: Vec<&String> = Vec::new();
    if let Some(order) = order {
        texts.extend(order.items.iter().map(|item| &item.description));
        for action in &order.actions {
            texts.extend([&action.key, &action.name]);
            texts.extend(&action.prerequisites);
        }
    }
    texts.extend(custom_fields.values());
    let long = texts.into_iter().filter(|text| text.len() >= TEXT);
    long.map(String::as_str).collect()
}

/// A lead's custom fields as they were at a version that it had.
async fn custom_fields_at(
    db: &impl ConnectionTrait,
    lead: &Lead,
    version: i64,
) -> Result<CustomFields> {
    let mut before: BTreeMap<String, String> = lead.details.custom_fields.clone();
    // What was changed after the lead was read is not in it.
    let mut next = lead.version + 1;
    while next > version + 1 {
        let entries = history::list(db, lead.id, Some(next), TOGETHER).await?.rows;
        let Some(last) = entries.last() else { break };
        next = last.version;
        for entry in entries.into_iter().filter(|entry| entry.version > version) {
            for change in entry.changes {
                if let Some(key) = change.field.strip_prefix(CUSTOM) {
                    before.insert(key.to_owned(), change.old_value);
                }
            }
        }
    }
    Ok(before)
}

/// Where `text` begins in `bytes`.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, text)
}

fn digest(response: &[u8]) -> Vec<u8> {
    Sha256::digest(response)[..8].to_vec()
}

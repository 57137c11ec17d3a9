//! Compact storage of large responses for retries: without the long texts that the records and their
//! history already contain.
//!
//! A record may have hundreds of kilobytes of text, and a response contains all of it, whatever the call
//! changed. So a stored response refers to the long texts that the records had at that time, and contains
//! only the rest. For a retry the texts of the root, and of the records beside it, are reconstructed from their
//! current versions, with the later changes undone by means of their histories. The bytes around the texts
//! are stored as they were sent. So the response is byte for byte the same, whatever has changed since,
//! including the program's version. A digest detects a difference.

use prost::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::history;
use super::idempotency::response_erased;
use super::snapshot::{Kind, Snapshot};
use super::table::AnyRecord;
use crate::db::Connection;
use crate::error::{Error, Result};

/// Responses below this number of bytes are stored as they are.
const MIN_PACKED_SIZE: usize = 2 * 1024;
/// Texts below this number of bytes stay in the stored response: a reference would cost about as much.
const MIN_TEXT_SIZE: usize = 24;
/// The first byte of a packed response. No protobuf message begins with it, so a version that knows only
/// plain responses fails to decode it.
const PACKED_MARKER: u8 = 0;
/// The number of history entries that are read at once.
const HISTORY_PAGE_SIZE: u64 = 100;

/// A response without the long texts of its records. Released versions must be able to read stored
/// responses: a field keeps its number and meaning for ever.
#[derive(Clone, PartialEq, Message)]
struct Packed {
    /// The root's version when the response was made.
    #[prost(int64, tag = "1")]
    version: i64,
    /// The record whose texts come before the root's; empty if there is none.
    #[prost(bytes = "vec", tag = "2")]
    attached_id: Vec<u8>,
    /// The bytes before each text, and the bytes after the last.
    #[prost(bytes = "vec", repeated, tag = "3")]
    between: Vec<Vec<u8>>,
    /// The indexes of the texts in the list of the records' long texts.
    #[prost(uint32, repeated, tag = "4")]
    texts: Vec<u32>,
    /// The first 8 bytes of the SHA-256 of the response.
    #[prost(bytes = "vec", tag = "5")]
    digest: Vec<u8>,
    /// The version of the record `attached_id` when the response was made; 0 in responses from before there
    /// were such records whose texts change.
    #[prost(int64, tag = "6")]
    attached_version: i64,
    /// A further root, whose texts come after the root's; empty if there is none.
    #[prost(bytes = "vec", tag = "7")]
    further_id: Vec<u8>,
    /// The version of the further root when the response was made.
    #[prost(int64, tag = "8")]
    further_version: i64,
}

/// Packs a response for storage. `root` is the root as it was when the response was made; `attached` is
/// another record in the response, and `further` another root.
pub(super) fn pack(
    response: Vec<u8>,
    root: &dyn AnyRecord,
    attached: Option<(Uuid, &dyn AnyRecord)>,
    further: Option<(Uuid, &dyn AnyRecord)>,
) -> Vec<u8> {
    if response.len() < MIN_PACKED_SIZE {
        return response;
    }
    let record = |beside: Option<(Uuid, _)>| beside.map(|(_, record)| record);
    let texts = texts(record(attached), root, record(further));
    let (mut between, mut found, mut copied_up_to, mut from) = (Vec::new(), Vec::new(), 0, 0);
    // Texts are searched in the order of the response, which may contain a root twice.
    for _ in 0..2 {
        for (index, text) in (0..).zip(&texts) {
            let Some(at) = find(&response[from..], text.as_bytes()) else {
                continue;
            };
            between.push(response[copied_up_to..from + at].to_vec());
            found.push(index);
            from += at + text.len();
            copied_up_to = from;
        }
    }
    if found.is_empty() {
        return response;
    }
    between.push(response[copied_up_to..].to_vec());
    let packed = Packed {
        version: root.version(),
        attached_id: attached.map_or_else(Vec::new, |(id, _)| id.as_bytes().to_vec()),
        attached_version: attached.map_or(0, |(_, record)| record.version()),
        further_id: further.map_or_else(Vec::new, |(id, _)| id.as_bytes().to_vec()),
        further_version: further.map_or(0, |(_, record)| record.version()),
        between,
        texts: found,
        digest: digest(&response),
    };
    let mut stored = vec![PACKED_MARKER];
    stored.extend(packed.encode_to_vec());
    stored
}

/// Reconstructs the original response from the stored one.
///
/// # Errors
/// `LEAD_ERASED` if its texts were erased in the meantime.
pub(super) async fn unpack(
    db: Connection<'_>,
    kinds: &[Kind],
    root_id: Option<Uuid>,
    stored: Vec<u8>,
) -> Result<Vec<u8>> {
    let Some((&PACKED_MARKER, packed)) = stored.split_first() else {
        return Ok(stored);
    };
    let packed = Packed::decode(packed).map_err(Error::internal)?;
    let root_id = root_id.ok_or_else(|| Error::internal("a packed response names no root"))?;
    let records = Snapshot::empty(kinds);
    let mut root = stored_root(&records, db, root_id).await?;
    undo_since(db, root_id, &mut *root, packed.version).await?;
    let attached = match Uuid::from_slice(&packed.attached_id) {
        Ok(id) => stored_attached(&records, db, id, packed.attached_version).await?,
        Err(_) => None,
    };
    let mut further = None;
    if let Ok(id) = Uuid::from_slice(&packed.further_id) {
        let mut record = stored_root(&records, db, id).await?;
        undo_since(db, id, &mut *record, packed.further_version).await?;
        further = Some((id, record));
    }
    let further_record = further.as_ref().map(|(_, record)| &**record);
    let texts = texts(attached.as_deref(), &*root, further_record);
    let response = join(&packed, &texts);
    if let Some(response) = response.filter(|response| digest(response) == packed.digest) {
        return Ok(response);
    }
    for id in std::iter::once(root_id).chain(further.map(|(id, _)| id)) {
        if stored_root(&records, db, id).await?.is_erased() {
            return Err(response_erased(id));
        }
    }
    Err(Error::internal(format_args!(
        "a kept response about {root_id} cannot be put together"
    )))
}

async fn stored_root(
    records: &Snapshot,
    db: Connection<'_>,
    id: Uuid,
) -> Result<Box<dyn AnyRecord>> {
    let found = records.stored_root(db, id).await?;
    found.ok_or_else(|| Error::internal(format_args!("{id} has a kept response and is not there")))
}

/// The record beside the root, with the texts of this version.
async fn stored_attached(
    records: &Snapshot,
    db: Connection<'_>,
    id: Uuid,
    version: i64,
) -> Result<Option<Box<dyn AnyRecord>>> {
    let mut found = records.stored_attached(db, id).await?;
    if let Some(record) = &mut found
        && version > 0
    {
        undo_since(db, id, &mut **record, version).await?;
    }
    Ok(found)
}

fn join(packed: &Packed, texts: &[&str]) -> Option<Vec<u8>> {
    let mut response = Vec::new();
    let mut between = packed.between.iter();
    for index in &packed.texts {
        response.extend(between.next()?);
        let text = texts.get(usize::try_from(*index).ok()?)?;
        response.extend(text.as_bytes());
    }
    response.extend(between.next()?);
    Some(response)
}

/// The long texts of the records, in the order in which responses contain them.
fn texts<'a>(
    attached: Option<&'a dyn AnyRecord>,
    root: &'a dyn AnyRecord,
    further: Option<&'a dyn AnyRecord>,
) -> Vec<&'a str> {
    let records = attached.into_iter().chain([root]).chain(further);
    let mut texts: Vec<&str> = records.flat_map(|record| record.long_texts()).collect();
    texts.retain(|text| text.len() >= MIN_TEXT_SIZE);
    texts
}

/// Undoes the changes of a record after `version`.
async fn undo_since(
    db: Connection<'_>,
    id: Uuid,
    record: &mut dyn AnyRecord,
    version: i64,
) -> Result<()> {
    // Changes that were committed after the record was read are not in it, and must not be undone.
    let mut next = record.version() + 1;
    while next > version + 1 {
        let entries = history::list(&db, id, Some(next), HISTORY_PAGE_SIZE)
            .await?
            .rows;
        let Some(last) = entries.last() else { break };
        next = last.version;
        for entry in entries.into_iter().filter(|entry| entry.version > version) {
            let changes = entry.changes.iter();
            changes.for_each(|change| record.undo(change));
        }
    }
    Ok(())
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, text)
}

fn digest(response: &[u8]) -> Vec<u8> {
    Sha256::digest(response)[..8].to_vec()
}

//! Pages. A token holds where the next page begins, by the last row's keys, so that page 20,000
//! costs what the first does; it is authenticated together with what it was made for, so that it
//! cannot be altered or carried to another call. All replicas share the key.

use std::mem;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use sha2::Sha256;
use uuid::Uuid;

use super::proto;
use super::violations::{Reason, Violations};
use crate::auth::Call;
use crate::db::select::Part;
use crate::error::{Error, Result};

const DEFAULT_SIZE: u64 = 50;
const LARGEST: u64 = 1_000;
/// A cut HMAC-SHA-256 of 128 bits.
const TAG: usize = 16;
/// Where a page ends before its size: below the 4 MiB that gRPC clients take by default.
const LARGEST_ANSWER: usize = 3 << 20;
/// Longer ones cannot be ours: a key is at most 200 characters, each at most 4 bytes, in JSON.
const LONGEST_TOKEN: usize = 4_096;

/// How many rows a page has.
fn size(violations: &mut Violations, page_size: i32) -> u64 {
    match u64::try_from(page_size) {
        Ok(0) => DEFAULT_SIZE,
        Ok(size) => size.min(LARGEST),
        Err(_) => {
            violations.add(
                "page_size",
                Reason::OutOfRange,
                "must not be negative: 0 means 50, at most 1,000",
            );
            DEFAULT_SIZE
        }
    }
}

/// A request for a page.
pub trait Paged: Message {
    /// Takes its `page_token` and its `page_size`.
    fn take_page(&mut self) -> (String, i32);
}

macro_rules! paged {
    ($($request:ident)+) => {$(
        impl Paged for proto::$request {
            fn take_page(&mut self) -> (String, i32) {
                (mem::take(&mut self.page_token), mem::take(&mut self.page_size))
            }
        }
    )+};
}

paged! {
    ListLeadsRequest
    SearchLeadsRequest
    ListHistoryRequest
    ListClientsRequest
    ListOpportunitiesRequest
    ListOrdersRequest
    ListRunsRequest
}

/// Seals and opens page tokens.
#[derive(Clone)]
pub struct PageTokens {
    key: [u8; 32],
}

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageTokens")
    }
}

impl PageTokens {
    /// With the key that all replicas share.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The page a call asks for. What says so is taken out of the request: the rest is what the
    /// page's token is bound to.
    pub fn window(
        &self,
        violations: &mut Violations,
        call: &Call,
        request: &mut impl Paged,
    ) -> Window {
        let (token, page_size) = request.take_page();
        Window {
            principal: call.principal.id,
            scope: self.scope(call, request),
            size: size(violations, page_size),
            token,
        }
    }

    /// What a token of this call is bound to: who asks, which RPC, which filters and order.
    fn scope(&self, call: &Call, bare: &impl Message) -> Scope {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length");
        mac.update(call.rpc.as_bytes());
        mac.update(&[0]);
        mac.update(call.principal.id.as_bytes());
        mac.update(&bare.encode_to_vec());
        mac.update(&[0]);
        Scope(mac)
    }
}

/// What a token is bound to.
#[derive(Clone)]
struct Scope(Hmac<Sha256>);

impl Scope {
    /// The token of the page that begins behind `cursor`.
    fn seal(&self, cursor: &impl Serialize) -> Result<String> {
        let mut token = serde_json::to_vec(cursor).map_err(Error::internal)?;
        let mut mac = self.0.clone();
        mac.update(&token);
        token.extend_from_slice(&mac.finalize().into_bytes()[..TAG]);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// Where the page of a token begins; none for the first page, which has no token.
    ///
    /// # Errors
    /// [`Error::PageTokenInvalid`] for a token that was altered or made for something else.
    fn open<C: DeserializeOwned>(&self, token: &str) -> Result<Option<C>> {
        if token.is_empty() {
            return Ok(None);
        }
        if token.len() > LONGEST_TOKEN {
            return Err(Error::PageTokenInvalid);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Error::PageTokenInvalid)?;
        let split = bytes
            .len()
            .checked_sub(TAG)
            .ok_or(Error::PageTokenInvalid)?;
        let (cursor, tag) = bytes.split_at(split);
        let mut mac = self.0.clone();
        mac.update(cursor);
        mac.verify_truncated_left(tag)
            .map_err(|_| Error::PageTokenInvalid)?;
        serde_json::from_slice(cursor)
            .map(Some)
            .map_err(|_| Error::PageTokenInvalid)
    }
}

/// Rows of one page, and the token of the next, empty when there is none.
pub struct Page<R> {
    /// The rows, as the wire has them.
    pub rows: Vec<R>,
    /// The next page's token.
    pub next_page_token: String,
}

/// The page a call asks for.
pub struct Window {
    /// Who asks.
    pub principal: Uuid,
    scope: Scope,
    size: u64,
    token: String,
}

impl Window {
    /// Where the page begins: behind this; none for the first page.
    ///
    /// # Errors
    /// [`Error::PageTokenInvalid`].
    pub fn begin<C: DeserializeOwned>(&self) -> Result<Option<C>> {
        self.scope.open(&self.token)
    }

    /// How many rows to ask the database for: one more than the page has, to learn whether there
    /// is a next one.
    pub fn limit(&self) -> u64 {
        self.size + 1
    }

    /// Makes the page. One whose rows are very large ends earlier, so that an answer is never too
    /// large for its caller.
    pub fn cut<T, C: Serialize, R: Message>(
        &self,
        part: Part<T>,
        cursor: impl Fn(&T) -> C,
        render: fn(T) -> R,
    ) -> Result<Page<R>> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let mut page = Vec::with_capacity(part.rows.len().min(size));
        let mut bytes = 0;
        let mut last = None;
        for row in part.rows {
            let position = cursor(&row);
            let row = render(row);
            bytes += row.encoded_len();
            let full = page.len() == size || bytes > LARGEST_ANSWER;
            if let (true, Some(last)) = (full, &last) {
                let next_page_token = self.scope.seal(last)?;
                return Ok(Page {
                    rows: page,
                    next_page_token,
                });
            }
            page.push(row);
            last = Some(position);
        }
        let next_page_token = match last {
            Some(last) if part.cut => self.scope.seal(&last)?,
            _ => String::new(),
        };
        Ok(Page {
            rows: page,
            next_page_token,
        })
    }
}

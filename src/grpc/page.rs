//! Pagination of lists. A page token contains the position of the next page as the keys of the last row, so
//! that a late page costs about as much as the first. It is signed together with the call that it belongs
//! to, so that it cannot be altered or sent with another call.

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use tonic::Code;
use uuid::Uuid;

use super::seal::Seal;
use super::watch_token::WatchTokens;
use crate::core::call::Call;
use crate::core::page::PageInput;
use crate::core::violations::{Reason, Violations};
use crate::db::select::Part;
use crate::error::{Error, ErrorReason, Result};

const DEFAULT_SIZE: u64 = 50;
const MAX_SIZE: u64 = 1_000;
/// The maximum number of bytes of a page, below the default limit of 4 MiB of gRPC clients.
pub const MAX_PAGE_BYTES: usize = 3 << 20;
/// Longer tokens cannot be valid: a key is at most 200 characters of at most 4 bytes each, in JSON.
const MAX_TOKEN_LENGTH: usize = 4_096;

/// The number of rows of a page.
fn size(violations: &mut Violations, page_size: i32) -> u64 {
    match u64::try_from(page_size) {
        Ok(0) => DEFAULT_SIZE,
        Ok(size) => size.min(MAX_SIZE),
        Err(_) => {
            violations.add(
                "page_size",
                Reason::OutOfRange,
                "must not be negative: 0 means 50, and the maximum is 1,000",
            );
            DEFAULT_SIZE
        }
    }
}

/// A request for a page of a list.
pub trait Paged: Message {
    /// Takes the `page_token` and the `page_size` out of the request.
    fn take_page(&mut self) -> (String, i32);
}

/// Implements [`Paged`] for requests that have a `page_token` and a `page_size`.
macro_rules! paged {
    ($($request:ident),+ $(,)?) => {$(
        impl $crate::grpc::page::Paged for leadsmith_proto::$request {
            fn take_page(&mut self) -> (String, i32) {
                (std::mem::take(&mut self.page_token), std::mem::take(&mut self.page_size))
            }
        }
    )+};
}

pub(crate) use paged;

/// Signs and verifies page tokens.
#[derive(Clone)]
pub struct PageTokens {
    key: [u8; 32],
    watch: WatchTokens,
}

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageTokens")
    }
}

impl PageTokens {
    /// Uses the key that all replicas share.
    pub fn new(key: [u8; 32], watch: WatchTokens) -> Self {
        Self { key, watch }
    }

    /// Reads the requested page. Takes the page fields out of the request, because the token is bound to
    /// the rest of it.
    pub fn page(
        &self,
        violations: &mut Violations,
        call: &Call,
        request: &mut impl Paged,
    ) -> PageRequest {
        let (token, page_size) = request.take_page();
        PageRequest {
            principal: call.principal.id,
            scope: self.scope(call, request),
            size: size(violations, page_size),
            token,
            watch: self.watch.clone(),
        }
    }

    /// The scope of a token: the caller, the RPC, the filters and the order.
    fn scope(&self, call: &Call, bare: &impl Message) -> Seal {
        let (principal, bare) = (call.principal.id, bare.encode_to_vec());
        let purpose = [call.rpc.as_bytes(), &[0], principal.as_bytes(), &bare, &[0]];
        Seal::new(&self.key, &purpose)
    }
}

fn page_token_invalid() -> Error {
    let message = "The page token does not belong to this call. Send the next_page_token of the previous response \
                   with the same filters and order, or start again without a page token.";
    Error::new(
        Code::InvalidArgument,
        ErrorReason::PageTokenInvalid,
        message,
    )
    .field("page_token", "does not belong to this call")
}

/// The rows of a page and the token of the next one.
pub struct Page<R> {
    /// The rows as messages.
    pub rows: Vec<R>,
    /// The token of the next page; empty if there is none.
    pub next_page_token: String,
}

/// A requested page.
pub struct PageRequest {
    principal: Uuid,
    scope: Seal,
    size: u64,
    token: String,
    watch: WatchTokens,
}

impl PageRequest {
    /// The page as input of a use case.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`.
    pub fn input<C: DeserializeOwned>(&self) -> Result<PageInput<C>> {
        Ok(PageInput {
            principal: self.principal,
            after: self.cursor()?,
            limit: self.size + 1,
        })
    }

    /// The cursor in the token; `None` for the first page, which has no token.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID` if the token was altered or belongs to another call.
    fn cursor<C: DeserializeOwned>(&self) -> Result<Option<C>> {
        if self.token.is_empty() {
            return Ok(None);
        }
        let cursor = self.scope.open(&self.token, MAX_TOKEN_LENGTH);
        let cursor = cursor.ok_or_else(page_token_invalid)?;
        let cursor = serde_json::from_slice(&cursor);
        cursor.map(Some).map_err(|_| page_token_invalid())
    }

    /// The token of the page after `cursor`.
    fn token_after(&self, cursor: &impl Serialize) -> Result<String> {
        let cursor = serde_json::to_vec(cursor).map_err(Error::internal)?;
        Ok(self.scope.seal(cursor))
    }

    /// The token from which every change follows that the pages do not show; empty if this is not the first page.
    /// Must be called before the first page is read.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn watch_token(&self) -> Result<String> {
        match self.token.is_empty() {
            true => self.watch.recent().await,
            false => Ok(String::new()),
        }
    }

    /// Makes the page. If rows are very large, the page ends early, so that the response is never too large
    /// for the client.
    pub fn build<T, C: Serialize, R: Message>(
        &self,
        part: Part<T>,
        cursor: impl Fn(&T) -> C,
        render: fn(T) -> R,
    ) -> Result<Page<R>> {
        self.build_until(part, None, cursor, render)
    }

    /// Makes the page of a list that looks only at a part of its rows for each page. `end` is the position up to which
    /// they were looked at, if there are others after it: the page may be empty and have a next one.
    pub fn build_until<T, C: Serialize, R: Message>(
        &self,
        part: Part<T>,
        end: Option<C>,
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
            let full = page.len() == size || bytes > MAX_PAGE_BYTES;
            if let (true, Some(last)) = (full, &last) {
                let next_page_token = self.token_after(last)?;
                return Ok(Page {
                    rows: page,
                    next_page_token,
                });
            }
            page.push(row);
            last = Some(position);
        }
        let next_page_token = match end.or(last.filter(|_| part.is_truncated)) {
            Some(end) => self.token_after(&end)?,
            None => String::new(),
        };
        Ok(Page {
            rows: page,
            next_page_token,
        })
    }
}

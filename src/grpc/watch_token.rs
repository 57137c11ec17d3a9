//! Resume tokens: positions in the event log as clients hold them. They are signed, but bound neither to a caller nor to
//! filters: a service may resume what another one of its instances began, and narrow what it reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use prost::Message;
use tonic::Code;
use uuid::Uuid;

use super::seal::Seal;
use crate::db::event_log::position::{Cover, EventRef, Position, Window};
use crate::db::event_log::{EventLog, LogPosition};
use crate::error::{Error, ErrorReason, Result};

/// The purpose that the tokens are signed for. It is not the name of an RPC, which page tokens begin with.
const PURPOSE: &[u8] = b"resume token\0";
/// The maximum number of bytes of a token that is accepted. A transaction in progress costs a few bytes.
pub const MAX_LENGTH: usize = 64 * 1024;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeToken {
    /// Where to continue.
    pub from: LogPosition,
    /// Earlier events are left out: the stream began with a time.
    pub since: Option<DateTime<Utc>>,
}

/// Issues and reads resume tokens.
#[derive(Clone, Debug)]
pub struct WatchTokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seal: Seal,
    log: EventLog,
}

impl WatchTokens {
    /// Uses the key that all replicas share.
    pub fn new(key: &[u8; 32], log: EventLog) -> Self {
        let seal = Seal::new(key, &[PURPOSE]);
        Self(Arc::new(Inner { seal, log }))
    }

    /// The token for a position.
    pub fn issue(
        &self,
        incarnation: Uuid,
        position: &Position,
        since: Option<DateTime<Utc>>,
    ) -> String {
        let token = wire::Token {
            incarnation: incarnation.as_bytes().to_vec(),
            read: Some(from_cover(&position.read)),
            window: position.window.as_ref().map(|window| wire::Window {
                end: Some(from_cover(&window.end)),
                after: window.after,
            }),
            newest: position.newest.map(|newest| wire::Newest {
                transaction: newest.transaction,
                seq: newest.seq,
                id: newest.id.as_bytes().to_vec(),
            }),
            since: since.map(|since| since.timestamp_micros()),
        };
        self.0.seal.seal(token.encode_to_vec())
    }

    /// Reads a token.
    ///
    /// # Errors
    /// `RESUME_TOKEN_INVALID` if this service did not issue it.
    pub fn open(&self, token: &str) -> Result<ResumeToken> {
        let content = self.0.seal.open(token, MAX_LENGTH);
        let token = content.and_then(|content| wire::Token::decode(content.as_slice()).ok());
        token.and_then(to_token).ok_or_else(resume_token_invalid)
    }

    /// A token of a moment ago.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn recent(&self) -> Result<String> {
        let recent = self.0.log.recent().await?;
        Ok(self.issue(recent.incarnation, &recent.position, None))
    }
}

fn to_token(token: wire::Token) -> Option<ResumeToken> {
    let window = match token.window {
        Some(window) => Some(Window {
            end: Arc::new(to_cover(window.end?)),
            after: window.after,
        }),
        None => None,
    };
    let newest = match token.newest {
        Some(newest) => Some(EventRef {
            transaction: newest.transaction,
            seq: newest.seq,
            id: Uuid::from_slice(&newest.id).ok()?,
        }),
        None => None,
    };
    let since = match token.since {
        Some(since) => Some(DateTime::from_timestamp_micros(since)?),
        None => None,
    };
    Some(ResumeToken {
        from: LogPosition {
            incarnation: Uuid::from_slice(&token.incarnation).ok()?,
            position: Position {
                read: Arc::new(to_cover(token.read?)),
                window,
                newest,
            },
        },
        since,
    })
}

/// Each unfinished id as its distance from the one before it, which has few bytes.
fn from_cover(cover: &Cover) -> wire::Cover {
    let mut last = 0;
    let unfinished = cover.unfinished.iter().map(|id| {
        let distance = id - last;
        last = *id;
        distance
    });
    wire::Cover {
        unfinished: unfinished.collect(),
        bound: cover.bound,
    }
}

fn to_cover(cover: wire::Cover) -> Cover {
    let mut last = 0;
    let unfinished: BTreeSet<i64> = cover
        .unfinished
        .into_iter()
        .map(|distance| {
            last += distance;
            last
        })
        .collect();
    Cover {
        bound: cover.bound,
        unfinished,
    }
}

fn resume_token_invalid() -> Error {
    let message = "The resume token was not issued by this service. Send the resume_token of a message of Watch, or \
                   the watch_token of a List, as it is.";
    Error::new(
        Code::InvalidArgument,
        ErrorReason::ResumeTokenInvalid,
        message,
    )
    .field("resume_token", "was not issued by this service")
}

/// The content of a token. Replicas of other versions read it: fields are only added.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Token {
        #[prost(bytes = "vec", tag = "1")]
        pub incarnation: Vec<u8>,
        #[prost(message, optional, tag = "2")]
        pub read: Option<Cover>,
        #[prost(message, optional, tag = "3")]
        pub window: Option<Window>,
        #[prost(message, optional, tag = "4")]
        pub newest: Option<Newest>,
        #[prost(int64, optional, tag = "5")]
        pub since: Option<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Cover {
        #[prost(int64, tag = "1")]
        pub bound: i64,
        #[prost(int64, repeated, tag = "2")]
        pub unfinished: Vec<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Window {
        #[prost(message, optional, tag = "1")]
        pub end: Option<Cover>,
        #[prost(int64, tag = "2")]
        pub after: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Newest {
        #[prost(int64, tag = "1")]
        pub transaction: i64,
        #[prost(int64, tag = "2")]
        pub seq: i64,
        #[prost(bytes = "vec", tag = "3")]
        pub id: Vec<u8>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_the_way_over_a_client() {
        let cover = |bound, unfinished: &[i64]| {
            Arc::new(Cover {
                bound,
                unfinished: unfinished.iter().copied().collect(),
            })
        };
        let token = ResumeToken {
            from: LogPosition {
                incarnation: Uuid::from_u128(7),
                position: Position {
                    read: cover(1_000_000, &[999_000, 999_990]),
                    window: Some(Window {
                        end: cover(1_000_050, &[1_000_001]),
                        after: 88,
                    }),
                    newest: Some(EventRef {
                        transaction: 999_999,
                        seq: 87,
                        id: Uuid::from_u128(9),
                    }),
                },
            },
            since: DateTime::from_timestamp_micros(1_700_000_000_000_001),
        };
        let seal = Seal::new(&[1; 32], &[PURPOSE]);
        let position = &token.from.position;
        let wire = wire::Token {
            incarnation: token.from.incarnation.as_bytes().to_vec(),
            read: Some(from_cover(&position.read)),
            window: None,
            newest: None,
            since: token.since.map(|since| since.timestamp_micros()),
        };
        let sealed = seal.seal(wire.encode_to_vec());
        let opened = seal.open(&sealed, MAX_LENGTH).unwrap();
        let read = to_token(wire::Token::decode(opened.as_slice()).unwrap()).unwrap();
        assert_eq!(read.from.position.read, position.read);
        assert_eq!(read.since, token.since);
        assert!(seal.open(&sealed, 3).is_none());
        assert!(
            Seal::new(&[1; 32], &[b"other"])
                .open(&sealed, MAX_LENGTH)
                .is_none()
        );
        assert!(
            Seal::new(&[2; 32], &[PURPOSE])
                .open(&sealed, MAX_LENGTH)
                .is_none()
        );
        let window = position.window.clone().unwrap();
        assert_eq!(to_cover(from_cover(&window.end)), *window.end);
    }
}

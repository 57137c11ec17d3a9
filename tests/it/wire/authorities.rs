//! The values of `:authority` that clients send: all calls are served. Written without an HTTP library, because
//! libraries refuse to send most of them.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{bearer, frame};
use crate::on_both;
use leadsmith_proto::GetLeadRequest;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// An HTTP/2 connection, used frame by frame.
struct Wire {
    stream: TcpStream,
    next: u32,
}

/// How a request encodes its authority.
#[derive(Clone, Copy)]
enum Says<'a> {
    Nothing,
    /// With the name's index in the static table; stored in the dynamic table as entry 62.
    Kept(&'a str),
    /// With a literal name, not stored.
    Named(&'a str),
    /// As a reference to the entry that an earlier request stored.
    Again,
}

fn literal(block: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127 + 128);
    match u8::try_from(text.len()).unwrap() {
        short @ 0..127 => block.push(short),
        long => block.extend([127, long - 127]),
    }
    block.extend_from_slice(text.as_bytes());
}

impl Wire {
    async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut wire = Self { stream, next: 1 };
        wire.write(4, 0, 0, &[], 1_000).await;
        wire
    }

    /// Writes a frame in chunks of this many bytes.
    async fn write(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8], piece: usize) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend_from_slice(payload);
        for piece in frame.chunks(piece) {
            self.stream.write_all(piece).await.unwrap();
            self.stream.flush().await.unwrap();
            if piece.len() < 10 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Makes a call. Returns the bytes of its response, or the error code of the stream's reset.
    async fn call(
        &mut self,
        says: Says<'_>,
        path: &str,
        token: &str,
        message: &[u8],
        piece: usize,
    ) -> Result<Vec<u8>, u32> {
        let id = self.next;
        self.next += 2;
        // POST, http, and the path, which is not stored.
        let mut block = vec![0x83, 0x86, 0x04];
        literal(&mut block, path);
        match says {
            Says::Nothing => {}
            Says::Kept(authority) => {
                block.push(0x41);
                literal(&mut block, authority);
            }
            Says::Named(authority) => {
                block.push(0x00);
                literal(&mut block, ":authority");
                literal(&mut block, authority);
            }
            Says::Again => block.push(0x80 | 62),
        }
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", token),
        ] {
            block.push(0x00);
            literal(&mut block, name);
            literal(&mut block, value);
        }
        self.write(HEADERS, END_HEADERS, id, &block, piece).await;
        self.write(DATA, END_STREAM, id, &frame(0, message), 1_000)
            .await;
        let mut body = Vec::new();
        loop {
            let mut header = [0; 9];
            self.stream.read_exact(&mut header).await.unwrap();
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload).await.unwrap();
            if u32::from_be_bytes(header[5..].try_into().unwrap()) != id {
                continue;
            }
            match header[3] {
                RST_STREAM => return Err(u32::from_be_bytes(payload.try_into().unwrap())),
                DATA => body.extend(payload),
                HEADERS if header[4] & END_STREAM != 0 => return Ok(body),
                _ => {}
            }
        }
    }
}

on_both! {
    async fn every_authority_is_served(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let message = GetLeadRequest { id: lead.id.clone() }.encode_to_vec();
        let (token, path) = (bearer(&h), "/leadsmith.v1.LeadService/Get");
        let served = |answer: Result<Vec<u8>, u32>, what: &str| {
            let body = answer.unwrap_or_else(|code| panic!("{what}: reset with {code}"));
            assert!(body.windows(lead.id.len()).any(|part| part == lead.id.as_bytes()), "{what}");
        };
        let work = async {
            for authority in [
                "localhost", "localhost:50051", "127.0.0.1:50051", "[::1]", "[::1]:50051", "LEADS.example.com.",
                "user@leads.example.com:50051", "user:secret@leads.example.com",
                // For several addresses, by grpc-python before and since 1.60.
                "127.0.0.1:50051,127.0.0.1:50052", "127.0.0.1:50051%2C127.0.0.1:50052",
                "[::1]:50051,[::1]:50052", "%5B::1%5D:50051%2C%5B::1%5D:50052", "a,b", "a%2Cb",
                // For a Unix socket.
                "/run/leadsmith.sock", "run%2Fleadsmith.sock", "unix:/run/leadsmith.sock", "@abstract",
                "leads.example.com:", "leads.example.com:port", "::1", "a:1:2", "[::1", "a/b", "a?b#c", "a\\b^c`{|}<>\"",
                "%", "%zz", &"x".repeat(200), &",:".repeat(100),
            ] {
                let mut wire = Wire::open(h.server.address).await;
                for says in [Says::Kept(authority), Says::Again, Says::Again, Says::Named(authority)] {
                    served(wire.call(says, path, &token, &message, 1_000).await, authority);
                }
            }
            // With all sizes of chunks.
            for piece in [1, 2, 3, 7, 50] {
                let mut wire = Wire::open(h.server.address).await;
                for says in [Says::Kept("a:1,b:2"), Says::Again, Says::Nothing] {
                    served(wire.call(says, path, &token, &message, piece).await, "in pieces");
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), work).await.unwrap();
    }

    async fn what_cannot_be_an_authority_resets_its_stream_and_no_other(h: Harness) {
        let lead = h.sales.create_lead("Lovelace").await;
        let message = GetLeadRequest { id: lead.id.clone() }.encode_to_vec();
        let (token, path) = (bearer(&h), "/leadsmith.v1.LeadService/Get");
        let work = async {
            let mut wire = Wire::open(h.server.address).await;
            for authority in ["", " ", "a b", "a\u{7f}", "é"] {
                // PROTOCOL_ERROR.
                let answer = wire.call(Says::Named(authority), path, &token, &message, 1_000).await;
                assert_eq!(answer, Err(1), "{authority:?}");
                assert!(wire.call(Says::Nothing, path, &token, &message, 1_000).await.is_ok());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), work).await.unwrap();
    }
}

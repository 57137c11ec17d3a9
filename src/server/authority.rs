//! Replaces authorities that the HTTP/2 library cannot parse, before the library reads them.
//!
//! The library parses `:authority` as the authority of a URI and resets the stream when that fails. The client then
//! receives RST_STREAM and no status. Some gRPC clients send such authorities: a client with several addresses sends
//! all of them (`10.0.0.1:50051,10.0.0.2:50051`, newer clients with the comma as `%2C`), and a client of a Unix socket
//! sends its path. The service serves every authority and never reads it, so one that cannot be parsed is overwritten
//! in place.
//!
//! The replacement has the length of the original, both decoded and encoded. So no frame changes its length, and the
//! header table (RFC 7541, section 2.3.2), which may keep the authority for later requests, has the same size on both
//! sides. Therefore no table is kept here: a request that refers to an entry of the table refers to the value that was
//! overwritten when the entry was added.
//!
//! Not replaced, and so rejected by the library: an empty authority, one with spaces, control characters or non-ASCII
//! characters, and one in a CONTINUATION frame.
//!
//! It is written by hand because no library rewrites HPACK in place. It must not depend on anything that comes after
//! HTTP/2: it sees only bytes.

use http::uri::Authority;
use tokio::io::ReadBuf;

use super::hpack::{HpackString, huffman_text_of_size, read_integer};

/// The lengths of the connection preface and of a frame header, in bytes (RFC 9113, sections 3.4 and 4.1).
pub const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
/// The length of the largest frame that is rewritten (RFC 9113, section 4.2); the library rejects longer ones. A
/// HEADERS frame is held until it is complete, so this is also the limit of what is held for a connection.
const LARGEST_FRAME: usize = 16_384;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const NAME: &[u8] = b":authority";
/// The index of `:authority` in HPACK's static table.
const NAME_INDEX: usize = 1;

/// Rewrites what the client sends on one connection.
pub struct AuthorityRewriter {
    /// How many bytes are to be passed on before the next frame begins.
    skip: usize,
    /// The beginning of an incomplete frame.
    held: Vec<u8>,
    /// Bytes that were held and may be passed on now.
    ready: Vec<u8>,
}

impl AuthorityRewriter {
    pub fn new() -> Self {
        Self {
            skip: PREFACE,
            held: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Rewrites bytes that were just read. Returns how many of them may be passed on now; the others are held here.
    pub fn rewrite(&mut self, fresh: &mut [u8]) -> usize {
        if self.held.is_empty() {
            let complete = self.rewrite_frames(fresh);
            self.held.extend_from_slice(&fresh[complete..]);
            return complete;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(fresh);
        let complete = self.rewrite_frames(&mut held);
        self.held = held.split_off(complete);
        self.ready = held;
        0
    }

    /// Passes on bytes that were held. Returns whether there were any.
    pub fn drain_into(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let count = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..count]);
        self.ready.drain(..count);
        count > 0
    }

    /// Rewrites the complete frames in `bytes`. Returns how many bytes are done.
    fn rewrite_frames(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            (self.skip, at) = (self.skip - skipped, at + skipped);
            let rest = &mut bytes[at..];
            let Some((header, payload)) = rest.split_at_mut_checked(FRAME_HEADER) else {
                return at;
            };
            let length =
                usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            if header[3] == HEADERS && length <= LARGEST_FRAME {
                let Some(payload) = payload.get_mut(..length) else {
                    return at;
                };
                // A frame that cannot be parsed is left for the library to reject.
                let _ = rewrite_headers(payload, header[4]);
            }
            self.skip = FRAME_HEADER + length;
        }
    }
}

/// Overwrites an invalid authority in a HEADERS frame. Returns none when the frame cannot be parsed.
fn rewrite_headers(payload: &mut [u8], flags: u8) -> Option<()> {
    let (mut begin, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        begin = 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & PRIORITY != 0 {
        begin += 5;
    }
    let block = payload.get_mut(begin..end)?;
    let mut at = 0;
    while let Some(first) = block.get(at).copied() {
        // The representations of RFC 7541, section 6, and how many bits of an index the first byte has.
        let bits = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let index = read_integer(block, &mut at, bits)?;
        if bits == 7 || bits == 5 {
            continue;
        }
        let is_authority = match index {
            0 => HpackString::read(block, &mut at)?.decode(block).as_deref() == Some(NAME),
            index => index == NAME_INDEX,
        };
        let value = HpackString::read(block, &mut at)?;
        if is_authority {
            overwrite_invalid(&value, block);
            return Some(());
        }
    }
    Some(())
}

fn overwrite_invalid(authority: &HpackString, block: &mut [u8]) {
    let Some(text) = authority.decode(block) else {
        return;
    };
    let visible = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    if !visible || Authority::try_from(text.as_slice()).is_ok() {
        return;
    }
    let encoded = &mut block[authority.range.clone()];
    match authority.huffman {
        false => encoded.fill(b'a'),
        true => {
            if let Some(replacement) = huffman_text_of_size(text.len(), encoded.len()) {
                encoded.copy_from_slice(&replacement);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::hpack::huffman_decode;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    /// What is passed on when `sent` arrives in pieces of `piece` bytes.
    fn pass_through(sent: &[u8], piece: usize) -> Vec<u8> {
        let mut rewriter = AuthorityRewriter::new();
        let mut received = Vec::new();
        for piece in sent.chunks(piece) {
            let mut fresh = piece.to_vec();
            let complete = rewriter.rewrite(&mut fresh);
            received.extend_from_slice(&fresh[..complete]);
            let mut memory = [0; 7];
            loop {
                let mut buffer = ReadBuf::new(&mut memory);
                if !rewriter.drain_into(&mut buffer) {
                    break;
                }
                received.extend_from_slice(buffer.filled());
            }
        }
        received
    }

    #[test]
    fn only_an_invalid_authority_is_overwritten() {
        let literal = |first: &[u8], value: &[u8]| {
            let length = u8::try_from(value.len()).unwrap();
            // POST, http, the authority, then another header with the same value.
            let mut block = vec![0x83, 0x86];
            block.extend_from_slice(first);
            block.push(length);
            block.extend_from_slice(value);
            block.extend_from_slice(b"\x40\x01x");
            block.push(length);
            block.extend_from_slice(value);
            block
        };
        let mut named = vec![0x40, 10];
        named.extend_from_slice(NAME);
        for first in [&b"\x41"[..], b"\x01", b"\x11", &named] {
            for (value, valid) in [
                (&b"localhost:50051"[..], true),
                (b"[::1]:50051", true),
                (b"user@localhost", true),
                (b"10.0.0.1:1,10.0.0.2:1", false),
                (b"10.0.0.1:1%2C10.0.0.2:1", false),
                (b"/run/leadsmith.sock", false),
                (b"run%2Fleadsmith.sock", false),
            ] {
                let block = literal(first, value);
                let mut expected = block.clone();
                if !valid {
                    let begin = 2 + first.len() + 1;
                    expected[begin..begin + value.len()].fill(b'a');
                }
                for (flags, head) in [(0x4, &b""[..]), (0x24, b"\0\0\0\0\x10"), (0xc, b"\x03")] {
                    let pad = if flags == 0xc { &b"\0\0\0"[..] } else { b"" };
                    let sent = |block: &[u8]| {
                        let mut sent = vec![b'p'; PREFACE];
                        sent.extend(frame(4, 0, b"\0\x03\0\0\0\x64"));
                        sent.extend(frame(HEADERS, flags, &[head, block, pad].concat()));
                        sent.extend(frame(0, 1, b"1, 2, 3"));
                        sent
                    };
                    for piece in [1, 2, 10, 30, 1_000] {
                        let received = pass_through(&sent(&block), piece);
                        assert_eq!(received, sent(&expected), "{value:?} in {piece}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_huffman_encoded_authority_keeps_its_size() {
        // "a:1,b:2" in the codes of RFC 7541, appendix B.
        let bits = [
            "00011", "1011100", "00001", "11111010", "100011", "1011100", "00010",
        ]
        .concat();
        let mut bytes = Vec::new();
        for byte in bits.as_bytes().chunks(8) {
            let text = std::str::from_utf8(byte).unwrap();
            bytes.push(u8::from_str_radix(&format!("{text:1<8}"), 2).unwrap());
        }
        assert_eq!(huffman_decode(&bytes).unwrap(), b"a:1,b:2");
        let mut payload = vec![0x41, 0x80 | u8::try_from(bytes.len()).unwrap()];
        payload.extend_from_slice(&bytes);
        let length = payload.len();
        rewrite_headers(&mut payload, 0).unwrap();
        assert_eq!(payload.len(), length);
        let text = huffman_decode(&payload[2..]).unwrap();
        assert_eq!(text.len(), 7);
        assert!(Authority::try_from(text.as_slice()).is_ok(), "{text:?}");
    }

    #[test]
    fn arbitrary_frames_keep_their_length() {
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u8::try_from(seed >> 56).unwrap()
        };
        for _ in 0..2_000 {
            let mut sent = vec![b'p'; PREFACE];
            for _ in 0..3 {
                let payload: Vec<u8> = (0..random() / 4).map(|_| random()).collect();
                sent.extend(frame(HEADERS, random(), &payload));
            }
            assert_eq!(pass_through(&sent, 11).len(), sent.len());
        }
    }
}

//! Overwrites authorities that the HTTP/2 library cannot read, before it reads them.
//!
//! The library parses `:authority` as that of a URI and resets the stream when it is none; a caller then
//! sees RST_STREAM and no status. Clients of gRPC send such authorities: one with several addresses all
//! of them (`10.0.0.1:50051,10.0.0.2:50051`, newer ones with the comma as `%2C`), one by a Unix socket its
//! path. The service serves whatever authority is asked for and never looks at it, so one that cannot be
//! read is overwritten in place.
//!
//! The replacement has the length of the original, as it is and as it is encoded. So no frame changes its
//! length, and the header table (RFC 7541, section 2.3.2), in which the authority may be kept for the
//! requests that follow, has the same size on both sides. No table has to be kept here for that: a request
//! that refers to an entry refers to what was overwritten when the entry was made.
//!
//! Left as they are, and so refused by the library: an empty authority, one with blanks, control or
//! non-ASCII characters, and one that is in a CONTINUATION frame.

use std::ops::Range;

use http::uri::Authority;
use tokio::io::ReadBuf;

/// The beginning of a connection, and of each frame, in bytes (RFC 9113, sections 3.4 and 4.1).
pub const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
/// The largest frame that is taken (RFC 9113, section 4.2); the library refuses longer ones. A HEADERS
/// frame is held until it is complete, so this is also what is held of a connection at most.
const LARGEST_FRAME: usize = 16_384;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const NAME: &[u8] = b":authority";
/// The index of `:authority` in HPACK's static table.
const NAME_INDEX: usize = 1;

/// What a caller sends on one connection.
pub struct Authorities {
    /// How many bytes are to be passed on before the next frame begins.
    skip: usize,
    /// The beginning of a frame that is not complete.
    held: Vec<u8>,
    /// What was held and may be passed on.
    ready: Vec<u8>,
}

impl Authorities {
    pub fn new() -> Self {
        Self {
            skip: PREFACE,
            held: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Takes what was just read, and overwrites in it what has to be. Returns how many bytes of it may be
    /// passed on now; the others are held here.
    pub fn read(&mut self, fresh: &mut [u8]) -> usize {
        if self.held.is_empty() {
            let whole = self.walk(fresh);
            self.held.extend_from_slice(&fresh[whole..]);
            return whole;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(fresh);
        let whole = self.walk(&mut held);
        self.held = held.split_off(whole);
        self.ready = held;
        0
    }

    /// Passes on what was held. Says whether that was anything.
    pub fn pass(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let count = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..count]);
        self.ready.drain(..count);
        count > 0
    }

    /// Goes through frames. Returns how many bytes are looked at.
    fn walk(&mut self, bytes: &mut [u8]) -> usize {
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
                // A block that cannot be read is the library's to refuse.
                let _ = overwrite(payload, header[4]);
            }
            self.skip = FRAME_HEADER + length;
        }
    }
}

/// Overwrites the authority in a HEADERS frame, if it has to be. None when the frame cannot be read.
fn overwrite(payload: &mut [u8], flags: u8) -> Option<()> {
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
        let index = integer(block, &mut at, bits)?;
        if bits == 7 || bits == 5 {
            continue;
        }
        let named = match index {
            0 => Text::read(block, &mut at)?.decode(block).as_deref() == Some(NAME),
            index => index == NAME_INDEX,
        };
        let value = Text::read(block, &mut at)?;
        if named {
            value.overwrite(block);
            return Some(());
        }
    }
    Some(())
}

/// An integer whose first bits are in the byte at `at` (RFC 7541, section 5.1).
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if value < mask {
        return Some(value);
    }
    // More bytes than these are longer than any frame.
    for shift in [0, 7, 14] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Where a string is in a block, and whether by Huffman's code (RFC 7541, section 5.2).
struct Text {
    place: Range<usize>,
    huffman: bool,
}

impl Text {
    fn read(block: &[u8], at: &mut usize) -> Option<Self> {
        let huffman = block.get(*at)? & 0x80 != 0;
        let length = integer(block, at, 7)?;
        let place = *at..at.checked_add(length)?;
        block.get(place.clone())?;
        *at = place.end;
        Some(Self { place, huffman })
    }

    fn decode(&self, block: &[u8]) -> Option<Vec<u8>> {
        let bytes = block.get(self.place.clone())?;
        match self.huffman {
            true => huffman(bytes),
            false => Some(bytes.to_vec()),
        }
    }

    fn overwrite(&self, block: &mut [u8]) {
        let Some(text) = self.decode(block) else {
            return;
        };
        let visible = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
        if !visible || Authority::try_from(text.as_slice()).is_ok() {
            return;
        }
        let place = &mut block[self.place.clone()];
        match self.huffman {
            false => place.fill(b'a'),
            true => {
                if let Some(replacement) = same_size(text.len(), place.len()) {
                    place.copy_from_slice(&replacement);
                }
            }
        }
    }
}

/// A text of so many characters, by Huffman's code in so many bytes: `a` has 5 bits and `$` 13, which is
/// one byte more.
fn same_size(characters: usize, bytes: usize) -> Option<Vec<u8>> {
    let longer = bytes.checked_sub((characters * 5).div_ceil(8))?;
    let shorter = characters.checked_sub(longer)?;
    let mut bits = Vec::with_capacity(bytes * 8);
    let mut push = |code: u32, length: u32| {
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    };
    (0..shorter).for_each(|_| push(0b00011, 5));
    (0..longer).for_each(|_| push(0x1ff9, 13));
    // The end is filled up with ones.
    bits.resize(bytes * 8, true);
    let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    Some(bits.chunks(8).map(byte).collect())
}

/// The characters whose codes are the shortest (RFC 7541, appendix B), ordered by them, and how many have
/// each length in bits. All an authority may have are among them; a longer code is not read.
const CHARACTERS: &[u8; 95] =
    b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz\
    &*,;XZ!\"()?'+|#>\0$@[]~^}<`{";
const LENGTHS: [usize; 16] = [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3];

/// Decodes Huffman's code. The codes of one length are consecutive numbers, and those of the next begin
/// behind them.
fn huffman(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut code, mut length, mut first, mut before) = (0_usize, 0, 0_usize, 0);
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1)));
    for bit in bits {
        (code, first) = (code << 1 | bit, (first + LENGTHS[length]) << 1);
        before += LENGTHS[length];
        length += 1;
        let count = *LENGTHS.get(length)?;
        if code < first + count {
            text.push(*CHARACTERS.get(before + code - first)?);
            (code, length, first, before) = (0, 0, 0, 0);
        }
    }
    // What is left is less than a byte of ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7541, section C.4.1.
    const EXAMPLE: [u8; 12] = [
        0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];

    #[test]
    fn huffmans_code_is_read_and_written() {
        assert_eq!(huffman(&EXAMPLE).unwrap(), b"www.example.com");
        assert_eq!(huffman(&[]).unwrap(), b"");
        assert_eq!(huffman(&[0xff]), None, "a whole byte of filling");
        assert_eq!(huffman(&[0x18]), None, "filled up with zeros");
        for characters in 1..200_usize {
            for bytes in (characters * 5).div_ceil(8)..=(characters * 13).div_ceil(8) {
                let Some(encoded) = same_size(characters, bytes) else {
                    continue;
                };
                assert_eq!(encoded.len(), bytes);
                let text = huffman(&encoded).unwrap();
                assert_eq!(text.len(), characters);
                assert!(Authority::try_from(text.as_slice()).is_ok());
            }
        }
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    /// What comes through when it is read in pieces of `piece` bytes.
    fn through(sent: &[u8], piece: usize) -> Vec<u8> {
        let mut authorities = Authorities::new();
        let mut received = Vec::new();
        for piece in sent.chunks(piece) {
            let mut fresh = piece.to_vec();
            let whole = authorities.read(&mut fresh);
            received.extend_from_slice(&fresh[..whole]);
            let mut memory = [0; 7];
            loop {
                let mut buffer = ReadBuf::new(&mut memory);
                if !authorities.pass(&mut buffer) {
                    break;
                }
                received.extend_from_slice(buffer.filled());
            }
        }
        received
    }

    #[test]
    fn only_an_authority_that_is_none_is_overwritten() {
        let literal = |first: &[u8], value: &[u8]| {
            let length = u8::try_from(value.len()).unwrap();
            // POST, http, then the authority, then a header of the same value.
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
            for (value, readable) in [
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
                if !readable {
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
                        let received = through(&sent(&block), piece);
                        assert_eq!(received, sent(&expected), "{value:?} in {piece}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_authority_by_huffmans_code_keeps_its_size() {
        // "a:1,b:2" by the codes of appendix B.
        let bits = [
            "00011", "1011100", "00001", "11111010", "100011", "1011100", "00010",
        ]
        .concat();
        let mut bytes = Vec::new();
        for byte in bits.as_bytes().chunks(8) {
            let text = std::str::from_utf8(byte).unwrap();
            bytes.push(u8::from_str_radix(&format!("{text:1<8}"), 2).unwrap());
        }
        assert_eq!(huffman(&bytes).unwrap(), b"a:1,b:2");
        let mut payload = vec![0x41, 0x80 | u8::try_from(bytes.len()).unwrap()];
        payload.extend_from_slice(&bytes);
        let length = payload.len();
        overwrite(&mut payload, 0).unwrap();
        assert_eq!(payload.len(), length);
        let text = huffman(&payload[2..]).unwrap();
        assert_eq!(text.len(), 7);
        assert!(Authority::try_from(text.as_slice()).is_ok(), "{text:?}");
    }

    #[test]
    fn whatever_comes_comes_through_whole() {
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
            assert_eq!(through(&sent, 11).len(), sent.len());
        }
    }
}

//! The parts of HPACK (RFC 7541) that the rewriting of authorities needs: integers, strings and the Huffman code.
//!
//! It is written by hand because the HTTP/2 library does not expose its HPACK coder. It decodes a block only as far as
//! the lengths and the strings in it, keeps no header table, and must not know what a header means.

use std::ops::Range;

/// Reads an integer whose first bits are in the byte at `at` (RFC 7541, section 5.1), and moves `at` behind it.
pub fn read_integer(block: &[u8], at: &mut usize, prefix_bits: u32) -> Option<usize> {
    let mask = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if value < mask {
        return Some(value);
    }
    // An integer with more bytes would be longer than any frame.
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

/// A string literal in a block (RFC 7541, section 5.2).
pub struct HpackString {
    /// Where its encoded bytes are in the block.
    pub range: Range<usize>,
    /// Whether they are Huffman-encoded.
    pub huffman: bool,
}

impl HpackString {
    /// Reads the string at `at` and moves `at` behind it.
    pub fn read(block: &[u8], at: &mut usize) -> Option<Self> {
        let huffman = block.get(*at)? & 0x80 != 0;
        let length = read_integer(block, at, 7)?;
        let range = *at..at.checked_add(length)?;
        block.get(range.clone())?;
        *at = range.end;
        Some(Self { range, huffman })
    }

    pub fn decode(&self, block: &[u8]) -> Option<Vec<u8>> {
        let bytes = block.get(self.range.clone())?;
        match self.huffman {
            true => huffman_decode(bytes),
            false => Some(bytes.to_vec()),
        }
    }
}

/// The Huffman encoding of a text of `characters` characters, in exactly `bytes` bytes. None where there is no such
/// text. The code of `a` has 5 bits and the code of `$` has 13, which is one byte more.
pub fn huffman_text_of_size(characters: usize, bytes: usize) -> Option<Vec<u8>> {
    let long_codes = bytes.checked_sub((characters * 5).div_ceil(8))?;
    let short_codes = characters.checked_sub(long_codes)?;
    let mut bits = Vec::with_capacity(bytes * 8);
    let mut push = |code: u32, length: u32| {
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    };
    (0..short_codes).for_each(|_| push(0b00011, 5));
    (0..long_codes).for_each(|_| push(0x1ff9, 13));
    // The padding of a Huffman-encoded string is all ones.
    bits.resize(bytes * 8, true);
    let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    Some(bits.chunks(8).map(byte).collect())
}

/// The characters with the shortest codes (RFC 7541, appendix B) in the order of their codes, and how many codes have
/// each length in bits. Every character of a valid authority is among them; longer codes are not decoded.
const CHARACTERS: &[u8; 95] =
    b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz\
    &*,;XZ!\"()?'+|#>\0$@[]~^}<`{";
const LENGTHS: [usize; 16] = [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3];

/// Decodes a Huffman-encoded string. The codes of one length are consecutive numbers, and the codes of the next length
/// follow them.
pub fn huffman_decode(bytes: &[u8]) -> Option<Vec<u8>> {
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
    // The padding is less than a byte, and all ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use http::uri::Authority;

    use super::*;

    /// The example of RFC 7541, section C.4.1.
    const EXAMPLE: [u8; 12] = [
        0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];

    #[test]
    fn the_huffman_code_is_decoded_and_encoded() {
        assert_eq!(huffman_decode(&EXAMPLE).unwrap(), b"www.example.com");
        assert_eq!(huffman_decode(&[]).unwrap(), b"");
        assert_eq!(huffman_decode(&[0xff]), None, "a whole byte of padding");
        assert_eq!(huffman_decode(&[0x18]), None, "padded with zeros");
        for characters in 1..200_usize {
            for bytes in (characters * 5).div_ceil(8)..=(characters * 13).div_ceil(8) {
                let Some(encoded) = huffman_text_of_size(characters, bytes) else {
                    continue;
                };
                assert_eq!(encoded.len(), bytes);
                let text = huffman_decode(&encoded).unwrap();
                assert_eq!(text.len(), characters);
                assert!(Authority::try_from(text.as_slice()).is_ok());
            }
        }
    }
}

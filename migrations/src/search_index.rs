//! The format of the SQLite index that finds leads by any part of their texts. This module is pure: the
//! migration that fills the index and the service that maintains it share it.
//!
//! A trigram is a sequence of three characters. Leads are numbered in the order of their creation
//! (`leads.seq`): 4 neighbouring leads form a block, and 8,192 blocks a segment. For each segment and
//! trigram, a row of `search_index` contains the set of the segment's blocks in which a text has the
//! trigram, in at most 1,024 bytes. A query finds blocks, whose texts are then compared. Consequences:
//!
//! - The index is small: a frequent trigram takes one bit for 4 leads. Blocks of 16 would make it half as
//!   large, but up to ten times as many blocks would have all trigrams of a name and not the name.
//! - A changed text changes only the sets of the trigrams that its whole block gains or loses.
//! - The rows of a segment are adjacent, in the order of the trigrams' characters. New leads share the newest
//!   segment, and new digits of a phone number the rows of digits: changes that are made together share many
//!   pages.
//! - A query reads one row for each trigram and 32,768 leads.
//!
//! Only changes in one transaction share pages. So a changed lead is first recorded in `search_pending`,
//! and the recorded leads are applied together.
//!
//! A full-text index that appends and merges (FTS5) has cheaper inserts, but it keeps deleted data until a
//! later merge. Configured to delete immediately, it rewrites a large part of itself for each update. In
//! this index, an erased value is removed when its transaction commits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The number of characters of a trigram, and so the minimum length of a query that can use the index.
pub const TRIGRAM: usize = 3;
/// Separates the texts of a lead. A query cannot contain it, so trigrams that contain it are not indexed.
pub const SEPARATOR: char = '\u{1}';
/// The number of low bits of a lead's number that give its position in its block.
pub const BLOCK_BITS: u32 = 2;
/// The number of low bits of a block's number that give its position in its segment.
const SEGMENT_BITS: u32 = 13;
/// The number of blocks in a segment.
pub const BLOCKS: usize = 1 << SEGMENT_BITS;
/// The number of bits of a character in a trigram's code, and of the whole code.
const CHARACTER_BITS: u32 = 8;
const CODE_BITS: u32 = 24;
/// The number of bytes of a set that is stored as a bitmap. Smaller sets are stored as a list of 16-bit
/// numbers.
const BITMAP: usize = BLOCKS / 8;

/// Writes sets: `?1` is a JSON array of `[key, start, length]`, the position of each set in the blob `?2`.
pub const WRITE: &str = "INSERT OR REPLACE INTO search_index (key, blocks) \
                         SELECT value ->> 0, substr(?2, value ->> 1, value ->> 2) FROM json_each(?1)";

/// The codes of the trigrams of `text`, possibly with duplicates. Trigrams with non-ASCII characters can
/// have the same code, so the matches of the index must be compared with the text. ASCII codes are in the
/// order of the characters.
pub fn codes(text: &str) -> impl Iterator<Item = u32> + '_ {
    let (mut code, mut length) = (0, 0);
    text.chars().filter_map(move |character| {
        if character == SEPARATOR {
            length = 0;
            return None;
        }
        let number = u32::from(character);
        let byte = if character.is_ascii() {
            number
        } else {
            0x80 | number & 0x7f
        };
        code = (code << CHARACTER_BITS | byte) & ((1 << CODE_BITS) - 1);
        length += 1;
        (length >= TRIGRAM).then_some(code)
    })
}

/// The number of a lead's block.
pub fn block_of(seq: i64) -> i64 {
    seq >> BLOCK_BITS
}

/// The number of a block's segment.
pub fn segment_of(block: i64) -> i64 {
    block >> SEGMENT_BITS
}

/// The position of a block in its segment.
pub fn place_of(block: i64) -> usize {
    (block & (BLOCKS as i64 - 1)) as usize
}

/// The number of the block at this position of a segment.
pub fn block_at(segment: i64, place: usize) -> i64 {
    (segment << SEGMENT_BITS) + place as i64
}

/// The key of a trigram's set in a segment.
pub fn key(segment: i64, trigram: u32) -> i64 {
    (segment << CODE_BITS) + i64::from(trigram)
}

/// The trigram of a key.
pub fn trigram_of(key: i64) -> u32 {
    (key & ((1 << CODE_BITS) - 1)) as u32
}

/// A set of blocks of one segment, by their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks([u64; BLOCKS / 64]);

impl Default for Blocks {
    fn default() -> Self {
        Self([0; BLOCKS / 64])
    }
}

impl Blocks {
    /// All blocks of a segment.
    pub fn all() -> Self {
        Self([u64::MAX; BLOCKS / 64])
    }

    /// Adds or removes a block.
    pub fn set(&mut self, place: usize, present: bool) {
        let bit = 1 << (place % 64);
        if let Some(word) = self.0.get_mut(place / 64) {
            *word = if present { *word | bit } else { *word & !bit };
        }
    }

    /// Removes the blocks that are not in `other`.
    pub fn intersect(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    /// The number of blocks.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The positions of the blocks, ascending.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.0.iter().enumerate();
        words.flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(index * 64 + bit)
            })
        })
    }

    fn write_to(&self, bytes: &mut Vec<u8>) {
        if 2 * self.count() >= BITMAP {
            bytes.extend(self.0.iter().flat_map(|word| word.to_le_bytes()));
        } else {
            bytes.extend(self.places().flat_map(|place| (place as u16).to_le_bytes()));
        }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut blocks = Self::default();
        if bytes.len() == BITMAP {
            for (word, bytes) in blocks.0.iter_mut().zip(bytes.chunks_exact(8)) {
                let bytes = bytes.iter().rev();
                *word = bytes.fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
        } else {
            for pair in bytes.chunks_exact(2) {
                let pair = pair.iter().rev();
                blocks.set(
                    pair.fold(0, |place, byte| place << 8 | usize::from(*byte)),
                    true,
                );
            }
        }
        blocks
    }
}

/// Sets by key.
pub type Sets = BTreeMap<i64, Blocks>;

/// Parses the sets that a query returns: `key length key length …` and their concatenated bytes. `None` if
/// the input is invalid.
pub fn parse(lengths: &str, mut bytes: &[u8]) -> Option<Sets> {
    let mut words = lengths.split_ascii_whitespace();
    let mut sets = Sets::new();
    while let Some(key) = words.next() {
        let (set, rest) = bytes.split_at_checked(words.next()?.parse().ok()?)?;
        sets.insert(key.parse().ok()?, Blocks::from_bytes(set));
        bytes = rest;
    }
    bytes.is_empty().then_some(sets)
}

/// The parameters of [`WRITE`].
pub fn written<'a>(sets: impl IntoIterator<Item = (&'a i64, &'a Blocks)>) -> (String, Vec<u8>) {
    let (mut places, mut bytes) = (String::from("["), Vec::new());
    for (key, blocks) in sets {
        let start = bytes.len();
        blocks.write_to(&mut bytes);
        let comma = if places.len() > 1 { "," } else { "" };
        // Writing to a `String` cannot fail.
        let _ = write!(
            places,
            "{comma}[{key},{},{}]",
            start + 1,
            bytes.len() - start
        );
    }
    places.push(']');
    (places, bytes)
}

/// The texts of a lead: in the index, and current. An empty text has no trigrams.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    pub indexed: &'a str,
    pub current: &'a str,
}

/// The blocks to add to sets and to remove from sets.
#[derive(Debug, Default)]
pub struct Changes(Vec<Change>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    key: i64,
    place: usize,
    present: bool,
}

impl Changes {
    /// Adds the changes of a block, given the texts of all its leads.
    pub fn block(&mut self, block: i64, leads: &[Texts<'_>]) {
        let (mut gained, mut lost) = (BTreeSet::new(), BTreeSet::new());
        for lead in leads.iter().filter(|lead| lead.indexed != lead.current) {
            let current: BTreeSet<u32> = codes(lead.current).collect();
            let indexed: BTreeSet<u32> = codes(lead.indexed).collect();
            gained.extend(current.difference(&indexed));
            lost.extend(indexed.difference(&current));
        }
        if !lost.is_empty() {
            for code in leads.iter().flat_map(|lead| codes(lead.current)) {
                lost.remove(&code);
            }
        }
        let changes = [(gained, true), (lost, false)];
        for (trigrams, present) in changes {
            self.0.extend(trigrams.into_iter().map(|trigram| Change {
                key: key(segment_of(block), trigram),
                place: place_of(block),
                present,
            }));
        }
    }

    /// The keys of the sets that may change, ascending.
    pub fn keys(&self) -> BTreeSet<i64> {
        self.0.iter().map(|change| change.key).collect()
    }

    /// Applies the changes to the `stored` sets and returns the sets that are new or differ. Empty sets
    /// must be deleted.
    pub fn apply(mut self, stored: &Sets) -> Sets {
        self.0.sort_unstable();
        let mut sets = Sets::new();
        for changes in self.0.chunk_by(|one, other| one.key == other.key) {
            let Some(Change { key, .. }) = changes.first() else {
                continue;
            };
            let before = stored.get(key).cloned().unwrap_or_default();
            let mut after = before.clone();
            for change in changes {
                after.set(change.place, change.present);
            }
            if after != before {
                sets.insert(*key, after);
            }
        }
        sets
    }
}

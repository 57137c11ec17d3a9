//! The format of the index that finds leads by any part of their texts on SQLite. Pure: the migration that
//! fills the index and the service that keeps it both compute by this module.
//!
//! A trigram is a run of three characters, hashed. For each trigram the index is a tree of sets: a leaf
//! holds which of 1,024 neighbouring leads have the trigram, and the node above holds which of 1,024 leaves
//! there are. Leads are numbered in the order of their creation (`leads.seq`). A set is one row of
//! `search_index`, at most 128 bytes, whose key is its node's number followed by the trigram. Therefore:
//!
//! - A changed text rewrites one small row for each trigram that it gained or lost, and no others.
//! - The rows of one leaf lie side by side, so new leads, which share the newest leaf, share pages.
//! - A query intersects the upper sets first and reads only the leaves in which all of its trigrams occur.
//!
//! A full-text index that appends and merges (FTS5) is cheaper to append to, but it keeps what was deleted
//! until it happens to merge it away; made to delete at once, it rewrites a large part of itself for each
//! update. Here a value that is erased is out of the index when its transaction commits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// How many characters a trigram has, and so how many a query needs before the index can answer it.
pub const TRIGRAM: usize = 3;
/// How many bits number the members of a set.
const BITS: u32 = 10;
/// How many members a set can have: leads below a leaf, leaves below a branch.
pub const MEMBERS: usize = 1 << BITS;
/// How many bits a hashed trigram has.
const HASH_BITS: u32 = 24;
/// The bytes of a set that is stored as a bitmap. Smaller sets are stored as a list of 16-bit numbers.
const BITMAP: usize = MEMBERS / 8;

/// Reads the sets of the keys in the JSON array `?1`: one text, `key set key set …`, sets in hexadecimal.
pub const READ: &str = "SELECT group_concat(i.key || ' ' || hex(i.members), ' ') \
                        FROM json_each(?1) AS k CROSS JOIN search_index AS i ON i.key = k.value";
/// Writes the sets in the JSON array `?1` of `[key, set]`, sets in hexadecimal.
pub const WRITE: &str = "INSERT OR REPLACE INTO search_index (key, members) \
                         SELECT value ->> 0, unhex(value ->> 1) FROM json_each(?)";
/// Removes the sets of the keys in the JSON array `?1`.
pub const REMOVE: &str = "DELETE FROM search_index WHERE key IN (SELECT value FROM json_each(?))";

/// Every trigram of `text`, hashed to 24 bits (FNV-1a), each once. Different trigrams can share a hash, so
/// what the index finds has to be compared with the text.
pub fn trigrams(text: &str) -> BTreeSet<u32> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .windows(TRIGRAM)
        .map(|run| {
            let hash = run.iter().fold(0x811c_9dc5_u32, |hash, character| {
                (hash ^ u32::from(*character)).wrapping_mul(0x0100_0193)
            });
            (hash ^ (hash >> HASH_BITS)) & ((1 << HASH_BITS) - 1)
        })
        .collect()
}

/// A node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// The leads `number * 1024` to `number * 1024 + 1023`.
    Leaf(i64),
    /// The leaves `number * 1024` to `number * 1024 + 1023`.
    Branch(i64),
}

impl Node {
    /// The leaf of a lead, and the lead's place in it.
    pub fn of_lead(seq: i64) -> (Self, usize) {
        (Self::Leaf(seq >> BITS), place(seq))
    }

    /// The branch above a leaf, and the leaf's place in it. None above a branch.
    pub fn parent(self) -> Option<(Self, usize)> {
        match self {
            Self::Leaf(number) => Some((Self::Branch(number >> BITS), place(number))),
            Self::Branch(_) => None,
        }
    }

    /// The key of a trigram's set. Branches have negative keys.
    pub fn key(self, trigram: u32) -> i64 {
        let number = match self {
            Self::Leaf(number) => number,
            Self::Branch(number) => -1 - number,
        };
        (number << HASH_BITS) + i64::from(trigram)
    }

    /// The node and the trigram of a key.
    pub fn of_key(key: i64) -> (Self, u32) {
        let number = key >> HASH_BITS;
        let trigram = (key & ((1 << HASH_BITS) - 1)) as u32;
        match number < 0 {
            true => (Self::Branch(-1 - number), trigram),
            false => (Self::Leaf(number), trigram),
        }
    }

    /// The number of the member at `place`: a lead's below a leaf, a leaf's below a branch.
    pub fn member(self, place: usize) -> i64 {
        let (Self::Leaf(number) | Self::Branch(number)) = self;
        (number << BITS) + place as i64
    }
}

fn place(number: i64) -> usize {
    (number & (MEMBERS as i64 - 1)) as usize
}

/// A set of numbers from 0 to 1,023.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members([u64; MEMBERS / 64]);

impl Default for Members {
    fn default() -> Self {
        Self([0; MEMBERS / 64])
    }
}

impl Members {
    /// Every number there is.
    pub fn all() -> Self {
        Self([u64::MAX; MEMBERS / 64])
    }

    /// Adds or removes a number.
    pub fn set(&mut self, number: usize, present: bool) {
        let bit = 1 << (number % 64);
        if let Some(word) = self.0.get_mut(number / 64) {
            *word = if present { *word | bit } else { *word & !bit };
        }
    }

    /// Leaves only what `other` has too.
    pub fn intersect(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Its numbers, from the largest to the smallest.
    pub fn descending(&self) -> impl Iterator<Item = usize> + '_ {
        let has = |number: &usize| {
            let word = self.0.get(number / 64).copied().unwrap_or(0);
            word >> (number % 64) & 1 == 1
        };
        (0..MEMBERS).rev().filter(has)
    }

    fn to_bytes(&self) -> Vec<u8> {
        if 2 * self.count() >= BITMAP {
            return self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        }
        let mut numbers: Vec<usize> = self.descending().collect();
        numbers.reverse();
        let bytes = numbers.into_iter();
        bytes
            .flat_map(|number| (number as u16).to_le_bytes())
            .collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut members = Self::default();
        if bytes.len() == BITMAP {
            for (word, bytes) in members.0.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = bytes
                    .iter()
                    .rev()
                    .fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
        } else {
            for bytes in bytes.chunks_exact(2) {
                let number = bytes
                    .iter()
                    .rev()
                    .fold(0, |number, byte| number << 8 | usize::from(*byte));
                members.set(number, true);
            }
        }
        members
    }
}

/// Sets by their keys.
pub type Sets = BTreeMap<i64, Members>;

/// The sets in what [`READ`] returned; none for a text that is not of its making.
pub fn parse(text: &str) -> Option<Sets> {
    let mut words = text.split_ascii_whitespace();
    let mut sets = Sets::new();
    while let Some(key) = words.next() {
        let digits = words.next()?.as_bytes();
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        for pair in digits.chunks_exact(2) {
            let value = pair
                .iter()
                .try_fold(0, |value, byte| Some(value << 4 | digit(byte)?))?;
            bytes.push(u8::try_from(value).ok()?);
        }
        sets.insert(key.parse().ok()?, Members::from_bytes(&bytes));
    }
    Some(sets)
}

/// The parameter of [`READ`] and [`REMOVE`].
pub fn keys_parameter(keys: impl IntoIterator<Item = i64>) -> String {
    let keys: Vec<String> = keys.into_iter().map(|key| key.to_string()).collect();
    format!("[{}]", keys.join(","))
}

/// The parameter of [`WRITE`].
pub fn sets_parameter<'a>(sets: impl IntoIterator<Item = (&'a i64, &'a Members)>) -> String {
    let mut text = String::from("[");
    for (key, members) in sets {
        if text.len() > 1 {
            text.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "[{key},\"");
        for byte in members.to_bytes() {
            let _ = write!(text, "{byte:02X}");
        }
        text.push_str("\"]");
    }
    text.push(']');
    text
}

/// What is to be added to and removed from the sets of one level of the tree: for each key the places, and
/// whether they are present afterwards.
#[derive(Debug, Default)]
pub struct Changes(BTreeMap<i64, BTreeMap<usize, bool>>);

impl Changes {
    /// Notes that the text of a lead changes. An empty text has no trigrams.
    pub fn text(&mut self, seq: i64, before: &str, after: &str) {
        let (before, after) = (trigrams(before), trigrams(after));
        let (leaf, place) = Node::of_lead(seq);
        for trigram in before.difference(&after) {
            self.note(leaf.key(*trigram), place, false);
        }
        for trigram in after.difference(&before) {
            self.note(leaf.key(*trigram), place, true);
        }
    }

    fn note(&mut self, key: i64, place: usize, present: bool) {
        self.0.entry(key).or_default().insert(place, present);
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys of the sets that change.
    pub fn keys(&self) -> impl Iterator<Item = i64> + '_ {
        self.0.keys().copied()
    }

    /// Applies the changes to the `stored` sets. The sets that are new or differ come back, empty ones to be
    /// removed, and what that changes one level up: where a set appears or becomes empty.
    pub fn apply(self, stored: &Sets) -> (Sets, Self) {
        let (mut sets, mut above) = (Sets::new(), Self::default());
        for (key, places) in self.0 {
            let before = stored.get(&key).cloned().unwrap_or_default();
            let mut after = before.clone();
            for (place, present) in places {
                after.set(place, present);
            }
            if after == before {
                continue;
            }
            if before.is_empty() != after.is_empty() {
                let (node, trigram) = Node::of_key(key);
                if let Some((branch, place)) = node.parent() {
                    above.note(branch.key(trigram), place, !after.is_empty());
                }
            }
            sets.insert(key, after);
        }
        (sets, above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(numbers: impl IntoIterator<Item = usize>) -> Members {
        let mut members = Members::default();
        for number in numbers {
            members.set(number, true);
        }
        members
    }

    #[test]
    fn sets_of_every_size_are_stored_in_at_most_128_bytes_and_read_back() {
        for size in [0, 1, 2, 63, 64, 65, 512, 1_023, 1_024] {
            let set = members((0..size).map(|number| number * 7 % MEMBERS));
            let bytes = set.to_bytes();
            assert!(bytes.len() <= BITMAP, "{size}: {} bytes", bytes.len());
            assert_eq!(Members::from_bytes(&bytes), set, "{size}");
            let sets = Sets::from([(-5, set.clone()), (1 << 40, set)]);
            let text = sets_parameter(&sets);
            let read = text
                .replace("],[", " ")
                .replace(",", " ")
                .replace(['[', ']', '"'], "");
            if size > 0 {
                assert_eq!(parse(&read), Some(sets), "{size}");
            }
        }
        assert_eq!(parse("12"), None);
        assert_eq!(parse("12 0G"), None);
    }

    #[test]
    fn a_key_names_its_node_and_trigram() {
        let trigrams = [0, 1, (1 << HASH_BITS) - 1];
        for node in [0, 1, 1_023, 1_024, 9_765_625].map(Node::Leaf) {
            let (branch, place) = node.parent().expect("a leaf has a branch above it");
            assert_eq!(Node::Leaf(branch.member(place)), node);
            for trigram in trigrams {
                assert_eq!(Node::of_key(node.key(trigram)), (node, trigram));
                assert_eq!(Node::of_key(branch.key(trigram)), (branch, trigram));
            }
        }
        let (leaf, place) = Node::of_lead(1_234_567);
        assert_eq!(leaf.member(place), 1_234_567);
    }

    #[test]
    fn a_change_writes_the_difference_and_tells_the_level_above() {
        let mut created = Changes::default();
        created.text(1, "", "abcd");
        created.text(2, "", "bcd");
        let (sets, above) = created.apply(&Sets::new());
        let key = |text: &str| {
            let trigram = *trigrams(text).first().expect("one trigram");
            Node::Leaf(0).key(trigram)
        };
        assert_eq!(sets.get(&key("abc")), Some(&members([1])));
        assert_eq!(sets.get(&key("bcd")), Some(&members([1, 2])));
        assert_eq!(above.keys().count(), 2);

        let mut updated = Changes::default();
        updated.text(1, "abcd", "xbcd");
        let (sets, above) = updated.apply(&sets);
        assert_eq!(sets.len(), 2, "bcd stays as it is");
        assert!(sets.get(&key("abc")).is_some_and(Members::is_empty));
        assert_eq!(sets.get(&key("xbc")), Some(&members([1])));
        assert_eq!(above.keys().count(), 2, "one appears, one disappears");
    }
}

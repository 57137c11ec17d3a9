//! The format of SQLite's search index: sets of blocks, and the trigrams that gain or lose a block.

use migrations::search_index::{BLOCKS, Blocks, Changes, Sets, Texts, codes, key, parse, written};

/// The maximum number of bytes of a stored set.
const LARGEST: usize = 1_024;

fn blocks(places: impl IntoIterator<Item = usize>) -> Blocks {
    let mut blocks = Blocks::default();
    for place in places {
        blocks.set(place, true);
    }
    blocks
}

fn set<'a>(sets: &'a Sets, trigram: &str) -> Option<&'a Blocks> {
    sets.get(&key(0, codes(trigram).next()?))
}

#[test]
fn sets_of_every_size_are_stored_in_at_most_1024_bytes_and_read_back() {
    for size in [0, 1, 2, 63, 64, 511, 512, 513, 8_191, 8_192] {
        let set = blocks((0..size).map(|number| number * 7 % BLOCKS));
        assert_eq!(set.count(), size);
        let sets = Sets::from([(5, set.clone()), (1 << 40, set)]);
        let (_, bytes) = written(&sets);
        let (one, other) = bytes.split_at(bytes.len() / 2);
        assert!(
            one == other && one.len() <= LARGEST,
            "{size}: {}",
            one.len()
        );
        let lengths = format!("5 {} {} {}", one.len(), 1_i64 << 40, one.len());
        assert_eq!(parse(&lengths, &bytes), Some(sets), "{size}");
    }
    let (places, _) = written(&Sets::from([(1, blocks([3])), (2, blocks([3, 4]))]));
    assert_eq!(places, "[[1,1,2],[2,3,4]]");
    for (lengths, bytes) in [
        ("12 4", &[0, 0][..]),
        ("12 2", &[0; 4]),
        ("12", &[]),
        ("12 x", &[]),
    ] {
        assert_eq!(parse(lengths, bytes), None, "{lengths}");
    }
}

#[test]
fn trigrams_are_in_the_order_of_their_characters_and_none_is_over_two_texts() {
    let all: Vec<u32> = codes("abcd").collect();
    assert_eq!(all, [0x0061_6263, 0x0062_6364]);
    assert_eq!(codes("ab\u{1}cde\u{1}fg").count(), 1);
    assert_eq!(codes("ab").count(), 0);
    assert!(codes("zzz").lt(codes("äöü")));
}

#[test]
fn a_block_loses_a_trigram_with_the_last_text_that_has_it() {
    let texts = |indexed, current| Texts { indexed, current };
    let mut created = Changes::default();
    created.block(7, &[texts("", "abcd"), texts("", "bcd")]);
    let stored = created.apply(&Sets::new());
    assert_eq!(set(&stored, "abc"), Some(&blocks([7])));
    assert_eq!(set(&stored, "bcd"), Some(&blocks([7])));

    let mut updated = Changes::default();
    updated.block(7, &[texts("abcd", "xyz"), texts("bcd", "bcd")]);
    let sets = updated.apply(&stored);
    assert_eq!(sets.len(), 2, "bcd stays as it is");
    assert!(set(&sets, "abc").is_some_and(Blocks::is_empty));
    assert_eq!(set(&sets, "xyz"), Some(&blocks([7])));

    let mut swapped = Changes::default();
    swapped.block(7, &[texts("abcd", "bcd"), texts("bcd", "abcd")]);
    assert_eq!(swapped.apply(&stored), Sets::new());
}

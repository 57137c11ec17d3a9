//! Rules for text, which are the same for all input and output: which text is empty, which is refused, how
//! two spellings are compared, and how text is printed. Must not depend on any other module of the service.
//!
//! Unicode defines which characters are invisible or change the direction of writing (`icu_properties`), so
//! a new version of Unicode needs only a new version of that crate.

mod fold;

use std::fmt::{self, Write as _};

use icu_properties::CodePointSetData;
use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint};
use unicode_normalization::char::is_combining_mark;

pub use fold::{fold, nfc};

/// The maximum number of characters of a display name or a certificate's name.
pub const NAME: usize = 200;
/// The maximum number of characters of a username or a service account's name.
pub const IDENTIFIER: usize = 64;

/// Characters that show nothing although Unicode does not classify them as ignorable: the Braille pattern
/// without dots, the Khitan filler, the musical null notehead, and the marks of interlinear annotation.
const ALSO_INVISIBLE: [char; 6] = [
    '\u{2800}',
    '\u{16fe4}',
    '\u{1d159}',
    '\u{fff9}',
    '\u{fffa}',
    '\u{fffb}',
];

/// The maximum length of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// In Unicode characters.
    Characters(usize),
    /// In bytes of UTF-8.
    Bytes(usize),
}

impl Limit {
    /// Whether a text exceeds the limit.
    pub fn is_exceeded_by(self, text: &str) -> bool {
        match self {
            Self::Characters(limit) => text.chars().count() > limit,
            Self::Bytes(limit) => text.len() > limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Characters(limit) => write!(f, "{limit} characters"),
            Self::Bytes(limit) => write!(f, "{limit} bytes"),
        }
    }
}

/// Whether a character is not displayed by itself, such as a zero-width space, a variation selector, a
/// Hangul filler or a byte order mark.
pub fn is_ignorable(character: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// Whether a character shows nothing: whitespace and ignorable characters.
pub fn is_invisible(character: char) -> bool {
    character.is_whitespace() || is_ignorable(character) || ALSO_INVISIBLE.contains(&character)
}

/// Whether a text shows nothing at all. Such a text counts as empty.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(is_invisible)
}

/// Normalises a text for storage: line ends become LF, leading and trailing whitespace is removed, and text
/// that shows nothing becomes empty.
pub fn clean(text: &str) -> String {
    if is_blank(text) {
        return String::new();
    }
    with_line_feeds(text.trim())
}

/// Replaces the line ends CRLF and CR by LF.
pub fn with_line_feeds(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Whether a text has control characters other than tab and newline.
pub fn has_control(text: &str) -> bool {
    text.chars()
        .any(|character| character.is_control() && !matches!(character, '\t' | '\n'))
}

/// Whether printing a character has an effect other than showing it: it controls the terminal, ends the
/// line, or changes the direction of the text after it.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}')
        || CodePointSetData::new::<BidiControl>().contains(character)
}

/// Normalises a display name. Returns `None` if it is longer than [`NAME`] or has unprintable characters.
pub fn name(text: &str) -> Option<String> {
    let text = clean(text);
    let fits = text.chars().count() <= NAME && !text.chars().any(is_unprintable);
    fits.then_some(text)
}

/// The rule that [`name`] checks.
pub const NAME_RULE: &str = "is at most 200 characters on one line, without control characters and without \
                             characters that change the text direction";

/// Normalises an identifier to NFC. It must have 1 to [`IDENTIFIER`] letters, digits and characters of
/// `punctuation`. A combining mark may follow a letter, because some accented letters cannot be composed.
pub fn identifier(text: &str, punctuation: &str) -> Option<String> {
    let text = nfc(text.trim());
    let mut after_letter = false;
    let fits = text.chars().all(|character| {
        let fits = if is_combining_mark(character) {
            after_letter
        } else {
            after_letter = character.is_alphanumeric();
            after_letter || punctuation.contains(character)
        };
        fits && !is_ignorable(character)
    });
    let length = text.chars().count();
    (fits && (1..=IDENTIFIER).contains(&length)).then_some(text)
}

/// Escapes a text for a terminal or a log: unprintable characters become, for example, `\u{1b}`.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) {
            // Writing to a `String` cannot fail.
            let _ = write!(printable, "\\u{{{:x}}}", u32::from(character));
        } else {
            printable.push(character);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fold::tests::awkward;
    use super::*;

    #[test]
    fn what_shows_nothing_is_empty() {
        for blank in [
            "",
            " ",
            "\t\r\n",
            "\u{200b}",
            "\u{feff}",
            "\u{3164}",
            "\u{2800}",
            "\u{115f}\u{1160}",
            "\u{ffa0}",
            "\u{17b4}",
            "\u{ad}",
            "\u{fe0f}",
            "\u{e0041}",
            "\u{202e}",
            "\u{a0}",
            "\u{3000}",
            "\u{1d159}",
            " \u{200d} \u{2060} ",
        ] {
            assert!(is_blank(blank), "{blank:?}");
            assert_eq!(clean(blank), "", "{blank:?}");
        }
        // A zero-width non-joiner is part of Persian words; a zero-width joiner and a variation selector
        // are part of emoji.
        for shown in [
            "0",
            "-",
            "می\u{200c}خواهم",
            "👩\u{200d}🔬",
            "❤\u{fe0f}",
            "\u{301}",
        ] {
            assert_eq!(clean(&format!(" {shown}\u{3000}")), shown);
        }
    }

    #[test]
    fn every_line_ends_in_a_line_feed() {
        assert_eq!(clean("\r\na\r\nb\rc\n\r\nd\r"), "a\nb\nc\n\nd");
        assert_eq!(with_line_feeds("a\r\r\nb\r"), "a\n\nb\n");
    }

    #[test]
    fn a_name_is_one_line_that_only_shows() {
        assert_eq!(name(" Ada  King ").as_deref(), Some("Ada  King"));
        assert_eq!(
            name(&"é".repeat(NAME)).map(|name| name.len()),
            Some(2 * NAME)
        );
        for wrong in [
            "a\x1b[31m",
            "a\nb",
            "a\tb",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{2066}b",
            "a\u{200f}b",
            "a\u{2028}b",
            "a\0",
            "a\u{7f}",
            "a\u{9b}m",
        ] {
            assert_eq!(name(wrong), None, "{wrong:?}");
        }
        assert_eq!(name(&"a".repeat(NAME + 1)), None);
    }

    #[test]
    fn an_identifier_is_letters_with_their_marks() {
        let read = |text: &str| identifier(text, "._-@+");
        assert_eq!(read(" ju\u{308}rgen ").as_deref(), Some("jürgen"));
        for right in [
            "ΟΔΥΣΣΕΎΣ",
            "i\u{307}smail",
            "İsmail",
            "ada@x.example",
            "विक्रम",
            "7",
        ] {
            assert_eq!(read(right).as_deref(), Some(right));
        }
        for wrong in [
            "",
            " ",
            "a b",
            "a\0",
            "\u{301}a",
            "a.\u{301}",
            "\u{3164}",
            "a\u{fe0f}",
            "a\u{34f}",
            "a\u{200d}b",
            "😀",
            "a/b",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert!(read(&"é".repeat(IDENTIFIER)).is_some());
        assert!(read(&"é".repeat(IDENTIFIER + 1)).is_none());
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(
            printable("é\x1b[2J\n\u{202e}x"),
            "é\\u{1b}[2J\\u{a}\\u{202e}x"
        );
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
    }

    proptest! {
        #[test]
        fn cleaning_is_final(text in awkward()) {
            let cleaned = clean(&text);
            prop_assert_eq!(&clean(&cleaned), &cleaned);
            prop_assert!(!cleaned.contains('\r'));
            prop_assert_eq!(cleaned.is_empty(), is_blank(&text));
            prop_assert!(!printable(&text).chars().any(is_unprintable));
        }
    }
}

//! Text from a request, cut to a maximum length before it is copied anywhere: into an error, a header or a
//! record. Neither the content nor the size of a request decides how much memory is allocated or how much
//! is sent.

use std::fmt::{self, Display, Write};

/// The maximum number of bytes of a caller's text in an error.
const MAX_ECHO: usize = 48;
/// Marks the end of a text that was cut.
const ELLIPSIS: char = '…';

/// A caller's text as quoted in an error: at most `MAX_ECHO` bytes, with all characters escaped that
/// control a terminal or are invisible.
pub struct Echo<'a>(pub &'a str);

impl Display for Echo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Bare(self.0))
    }
}

/// The same without quotes, for a key in a path.
pub struct Bare<'a>(pub &'a str);

impl Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut remaining = MAX_ECHO;
        for character in self.0.chars() {
            let escaped = character.escape_debug();
            let length = escaped.clone().map(char::len_utf8).sum();
            if remaining < length {
                return f.write_char(ELLIPSIS);
            }
            remaining -= length;
            write!(f, "{escaped}")?;
        }
        Ok(())
    }
}

/// Returns at most `limit` bytes of `text`, with control characters escaped.
pub fn bounded(text: impl Display, limit: usize) -> String {
    bounded_by(text, limit, char::len_utf8)
}

/// Returns `text` cut to `limit`, where `length` measures each character. A text that was cut ends with an
/// ellipsis, which is included in the limit. The rest of the text is not even formatted.
pub fn bounded_by(text: impl Display, limit: usize, length: fn(char) -> usize) -> String {
    let mut writer = Bounded {
        text: String::new(),
        keep: None,
        remaining: limit,
        ellipsis_length: length(ELLIPSIS),
        length,
    };
    // The writer returns an error when it is full.
    if write!(writer, "{text}").is_err() {
        writer.text.truncate(writer.keep.unwrap_or(0));
        writer.text.push(ELLIPSIS);
    }
    writer.text
}

struct Bounded {
    text: String,
    /// The length of the text to keep if an ellipsis must follow.
    keep: Option<usize>,
    remaining: usize,
    ellipsis_length: usize,
    length: fn(char) -> usize,
}

impl Bounded {
    fn push(&mut self, character: char) -> fmt::Result {
        if self.remaining >= self.ellipsis_length {
            self.keep = Some(self.text.len());
        }
        let length = (self.length)(character);
        self.remaining = self.remaining.checked_sub(length).ok_or(fmt::Error)?;
        self.text.push(character);
        Ok(())
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() {
                character.escape_debug().try_for_each(|c| self.push(c))?;
            } else {
                self.push(character)?;
            }
        }
        Ok(())
    }
}

/// Joins as many of `words` as fit into `limit` bytes, separated by `separator`. Returns the text and the
/// number of omitted words.
pub fn listed(words: &[String], separator: &str, limit: usize) -> (String, usize) {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        if text.len() + separator.len() + word.len() > limit {
            return (text, words.len() - index);
        }
        if index > 0 {
            text.push_str(separator);
        }
        text.push_str(word);
    }
    (text, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_as_it_is() {
        assert_eq!(bounded("Grüße", 7), "Grüße");
        assert_eq!(bounded("", 0), "");
        assert_eq!(Echo("tier").to_string(), "\"tier\"");
    }

    #[test]
    fn what_is_cut_ends_between_characters_and_within_the_limit() {
        let text = "é".repeat(10_000);
        for limit in 3..40 {
            let cut = bounded(&text, limit);
            assert!(cut.ends_with('…') && cut.len() <= limit, "{limit}: {cut}");
        }
        assert!(Echo(&text).to_string().len() <= MAX_ECHO + 5);
        assert_eq!(bounded_by("aaaaaaaaaa", 10, |_| 3), "aa…");
    }

    #[test]
    fn nothing_reaches_a_terminal_raw() {
        assert_eq!(
            Bare("a\u{1b}[2J\n\u{202e}b").to_string(),
            r"a\u{1b}[2J\n\u{202e}b"
        );
        assert_eq!(bounded("a\u{1b}\0\u{85}", 90), r"a\u{1b}\0\u{85}");
    }

    #[test]
    fn a_list_ends_with_a_whole_word() {
        let words = ["a", "bb", "ccc"].map(str::to_owned);
        assert_eq!(listed(&words, ", ", 90), ("a, bb, ccc".to_owned(), 0));
        assert_eq!(listed(&words, ", ", 8), ("a, bb".to_owned(), 1));
        assert_eq!(listed(&words, ", ", 1), (String::new(), 3));
    }
}

//! Text that depends on a request, cut to a length before it goes anywhere: into an error, a header, a
//! record. Neither what a caller sent nor how much of it decides how much is allocated or sent.

use std::fmt::{self, Display, Write};

/// How many bytes of a caller's own text an error repeats.
const ECHO: usize = 48;
/// Stands at the end of what was cut.
const CUT: char = '…';

/// A caller's text as an error repeats it: quoted, at most `ECHO` bytes of it, with everything
/// escaped that a terminal would act on or not show.
pub struct Echo<'a>(pub &'a str);

impl Display for Echo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Bare(self.0))
    }
}

/// The same without quotes, for a key within a path.
pub struct Bare<'a>(pub &'a str);

impl Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = ECHO;
        for character in self.0.chars() {
            let escaped = character.escape_debug();
            let length = escaped.clone().map(char::len_utf8).sum();
            if left < length {
                return f.write_char(CUT);
            }
            left -= length;
            write!(f, "{escaped}")?;
        }
        Ok(())
    }
}

/// At most `limit` bytes of `text`, control characters escaped.
pub fn bounded(text: impl Display, limit: usize) -> String {
    bounded_by(text, limit, char::len_utf8)
}

/// Text whose characters together are at most `limit` long, each measured by `length`. What is cut
/// ends with an ellipsis, which counts too; what is behind it is not even formatted.
pub fn bounded_by(text: impl Display, limit: usize, length: fn(char) -> usize) -> String {
    let mut writer = Bounded {
        text: String::new(),
        whole: None,
        left: limit,
        ellipsis: length(CUT),
        length,
    };
    // An error is how the writer says that it is full.
    if write!(writer, "{text}").is_err() {
        writer.text.truncate(writer.whole.unwrap_or(0));
        writer.text.push(CUT);
    }
    writer.text
}

struct Bounded {
    text: String,
    /// Up to where the text can stay if an ellipsis has to follow.
    whole: Option<usize>,
    left: usize,
    ellipsis: usize,
    length: fn(char) -> usize,
}

impl Bounded {
    fn push(&mut self, character: char) -> fmt::Result {
        if self.left >= self.ellipsis {
            self.whole = Some(self.text.len());
        }
        let length = (self.length)(character);
        self.left = self.left.checked_sub(length).ok_or(fmt::Error)?;
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

/// As many of `words` as fit `limit` bytes, separated by `separator`, and how many do not.
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
        assert!(Echo(&text).to_string().len() <= ECHO + 5);
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

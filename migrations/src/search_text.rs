//! The text that a lead is found by. This module is pure: the migration that fills the texts and the service that
//! maintains them share it. Stored texts depend on every rule here, so a change of a rule needs a migration that
//! computes them again.
//!
//! A text and a query are brought into the same form before they are compared:
//!
//! - Letters have no case and no accents: `goncalves` finds `Gonçalves`, and `İ`, `I`, `ı` and `i` are one letter.
//!   Letters that have no accent in Unicode but are typed as if they had one are replaced too (`ø`, `ł`, `ß`).
//! - White space is one blank, and a comma is followed by one blank.
//! - Digits are joined: what separates the digits of phone numbers is removed between digits, so that
//!   `+351 21 000-0000` and `351210000000` are the same.
//!
//! The text of a lead is a sequence of pieces, each between two separators, so that a piece can be searched as a
//! whole, and no query matches across two pieces: the name, as `first last, first`; the company; the email; the phone.

use unicode_normalization::UnicodeNormalization;

use crate::search_index::{SEPARATOR, TRIGRAM};

/// The fields of a lead that its text is made of.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    pub first_name: &'a str,
    pub last_name: &'a str,
    pub company: &'a str,
    pub email: &'a str,
    pub phone: &'a str,
}

/// The SQL condition that a row of `lead_search` was written by a version that made texts in another way. A text of
/// this version begins with a separator, and an empty text is that of an erased lead. Partial indexes use it.
pub const IS_OUTDATED_ON_POSTGRES: &str = "text <> '' AND left(text, 1) <> chr(1)";
/// The same on SQLite.
pub const IS_OUTDATED_ON_SQLITE: &str = "text <> '' AND substr(text, 1, 1) <> char(1)";

impl Fields<'_> {
    /// The text that the lead is found by; empty if it has no field that is searched.
    pub fn text(&self) -> String {
        let digits = phone_digits(self.phone);
        let phone = match query(self.phone) == digits {
            true => String::new(),
            // Written with letters, or with a prefix that is not part of the number.
            false => form(self.phone),
        };
        let pieces = [
            name_form(self.first_name, self.last_name),
            form(self.company),
            form(self.email),
            digits,
            phone,
        ];
        let mut text = String::new();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            if text.is_empty() {
                text.push(SEPARATOR);
            }
            text.push_str(piece);
            text.push(SEPARATOR);
        }
        text
    }

    /// The pieces of the text that leads with the same phone number have, if the index can find them.
    pub fn same_phone(&self) -> Option<Vec<String>> {
        searchable(vec![phone_digits(self.phone)])
    }

    /// The pieces of the text that leads with the same company and name have, if the index can find them.
    pub fn same_name(&self) -> Option<Vec<String>> {
        searchable(vec![
            name_form(self.first_name, self.last_name),
            form(self.company),
        ])
    }
}

/// Each piece as a whole; `None` if one is empty, or if none is long enough for the index.
fn searchable(pieces: Vec<String>) -> Option<Vec<String>> {
    let is_complete = pieces.iter().all(|piece| !piece.is_empty());
    let is_indexed = pieces.iter().any(|piece| piece.chars().count() >= TRIGRAM);
    let whole = |piece: String| format!("{SEPARATOR}{piece}{SEPARATOR}");
    (is_complete && is_indexed).then(|| pieces.into_iter().map(whole).collect())
}

/// The form of a name. It contains both `first last` and `last, first`.
fn name_form(first_name: &str, last_name: &str) -> String {
    let (first, last) = (form(first_name), form(last_name));
    match (first.is_empty(), last.is_empty()) {
        (false, false) => form(&format!("{first} {last}, {first}")),
        _ => first + &last,
    }
}

/// The form of a text that is stored.
pub fn form(text: &str) -> String {
    join_digits(&spaced(&letters(text)), false)
}

/// The form of a query: of any part of a text, so what separates digits may be cut off at its ends.
pub fn query(text: &str) -> String {
    join_digits(&spaced(&letters(text)), true)
}

/// The number that a phone number is compared by: its digits, without the international prefix 00, and without a
/// trunk prefix in parentheses, as in +44 (0)20.
pub fn phone_digits(phone: &str) -> String {
    let phone = spaced(&letters(phone));
    let digits_of = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    let (country, rest) = phone.split_once("(0)").unwrap_or((&phone, ""));
    let (mut digits, rest) = (digits_of(country), digits_of(rest));
    if digits.is_empty() && phone.contains("(0)") {
        digits.push('0');
    }
    digits.push_str(&rest);
    match digits.strip_prefix("00") {
        Some(number) if !number.is_empty() => number.to_owned(),
        _ => digits,
    }
}

/// Letters without case and accents, digits as ASCII digits, and plain hyphens and apostrophes.
fn letters(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let decomposed: String = text.nfd().collect();
    let folded = unicase::UniCase::unicode(decomposed).to_folded_case();
    let mut plain = String::with_capacity(folded.len());
    for character in folded.nfd().filter(|character| !is_dropped(*character)) {
        match replacement(character) {
            Some(replacement) => plain.push_str(replacement),
            None => plain.push(digit(character).unwrap_or(character)),
        }
    }
    plain.nfc().collect()
}

/// Whether a character is left out: the accents of Latin, Greek and Cyrillic letters, the vowel signs of Hebrew and
/// Arabic, which are seldom written, and what shows nothing. The marks of other scripts are letters of their own.
fn is_dropped(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}'
        | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'..='\u{5c2}' | '\u{5c4}'..='\u{5c5}' | '\u{5c7}'
        | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}'
        | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// The letters for one that Unicode does not decompose. Source: the transform Latin-ASCII of the Unicode CLDR. Then
/// other forms of punctuation that a keyboard has.
fn replacement(character: char) -> Option<&'static str> {
    Some(match character {
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ƀ' | 'ɓ' => "b",
        'ð' | 'đ' | 'ɖ' | 'ɗ' => "d",
        'ə' | 'ɛ' | 'ǝ' => "e",
        'ƒ' => "f",
        'ǥ' | 'ɠ' => "g",
        'ħ' => "h",
        'ı' | 'ɨ' => "i",
        'ƙ' => "k",
        'ł' => "l",
        'ŋ' => "n",
        'ø' | 'ɔ' | 'ɵ' => "o",
        'ŧ' => "t",
        'ʉ' => "u",
        'ƴ' => "y",
        'ƶ' => "z",
        '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{b4}' | '\u{1fbd}' => "'",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        _ => return None,
    })
}

/// The ASCII digit for a digit of another script that phone numbers are written in.
fn digit(character: char) -> Option<char> {
    let zero = match character {
        '\u{660}'..='\u{669}' => 0x660,
        '\u{6f0}'..='\u{6f9}' => 0x6f0,
        '\u{966}'..='\u{96f}' => 0x966,
        '\u{ff10}'..='\u{ff19}' => 0xff10,
        _ => return None,
    };
    char::from_digit(u32::from(character) - zero, 10)
}

/// White space as one blank, none at the ends and before a comma, and one after a comma.
fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    let mut is_apart = false;
    for character in text.chars() {
        if character.is_whitespace() {
            is_apart = true;
            continue;
        }
        let after_comma = spaced.ends_with(',') && character != ',';
        if (is_apart && character != ',' || after_comma) && !spaced.is_empty() {
            spaced.push(' ');
        }
        spaced.push(character);
        is_apart = false;
    }
    spaced
}

/// Removes what separates digits. At the `ends` of a query it may have been between digits, too.
fn join_digits(text: &str, ends: bool) -> String {
    if !text.contains(is_separator) {
        return text.to_owned();
    }
    let mut joined = String::with_capacity(text.len());
    let mut separators = String::new();
    let mut after_digit = ends;
    for character in text.chars() {
        if is_separator(character) {
            separators.push(character);
            continue;
        }
        let is_digit = character.is_ascii_digit();
        if !(after_digit && is_digit) {
            joined.push_str(&separators);
        }
        separators.clear();
        joined.push(character);
        after_digit = is_digit;
    }
    if !(ends && after_digit && !joined.is_empty()) {
        joined.push_str(&separators);
    }
    joined
}

/// Whether a character is used between the digits of a phone number.
fn is_separator(character: char) -> bool {
    matches!(character, ' ' | '-' | '(' | ')' | '.' | '/' | '+')
}

/// The distinct trigrams of a text on PostgreSQL, each hashed to 32 bits (FNV-1a), without those over two pieces.
pub fn trigrams(text: &str) -> Vec<i32> {
    trigrams_where(text, |run| !run.contains(&SEPARATOR))
}

/// The distinct hashes of the runs of three characters that are `kept`.
pub(crate) fn trigrams_where(text: &str, kept: fn(&[char]) -> bool) -> Vec<i32> {
    let characters: Vec<char> = text.chars().collect();
    let runs = characters.windows(TRIGRAM).filter(|run| kept(run));
    let hashes = runs.map(|run| {
        let hash = run.iter().fold(0x811c_9dc5_u32, |hash, character| {
            (hash ^ u32::from(*character)).wrapping_mul(0x0100_0193)
        });
        hash.cast_signed()
    });
    let mut hashes: Vec<i32> = hashes.collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

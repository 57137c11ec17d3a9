//! Email addresses: which are valid, and when two are equal.

use email_address::{EmailAddress, Options};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::char::is_combining_mark;

use crate::core::text::{fold, is_ignorable, is_invisible};
use crate::core::violations::Reason;

/// The maximum number of bytes of an email.
pub const LIMIT: usize = 254;

/// What is wrong with a non-empty email, if anything, as a text that follows the field's name.
pub fn problem(email: &str) -> Option<(Reason, &'static str)> {
    if email.chars().any(is_ignorable) {
        return Some((
            Reason::CharacterInvalid,
            "must not contain invisible characters, such as zero-width spaces and variation selectors: type the \
             address instead of pasting it",
        ));
    }
    if has_mark_without_letter(email) {
        return Some((
            Reason::CharacterInvalid,
            "must not have a combining mark at the start, after the @ or after a dot: put the mark after its letter",
        ));
    }
    if !is_address(email) {
        return Some((
            Reason::FormatInvalid,
            "must be one email address, such as ada@example.com",
        ));
    }
    None
}

fn has_mark_without_letter(email: &str) -> bool {
    let mut before = '@';
    email.chars().any(|character| {
        let stray = is_combining_mark(character) && matches!(before, '@' | '.' | '"');
        before = character;
        stray
    })
}

/// Whether it is an address by RFC 6531, which allows every visible non-ASCII character where a letter is
/// allowed.
fn is_address(email: &str) -> bool {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return false;
    };
    let Some(domain) = ascii_domain(domain) else {
        return false;
    };
    if local
        .chars()
        .any(|character| !character.is_ascii() && is_invisible(character))
    {
        return false;
    }
    // The parser supports only ASCII. Each other character is replaced by as many letters as it has bytes,
    // because the limits count bytes.
    let as_ascii = |character: char| match character.is_ascii() {
        true => character.to_string(),
        false => "x".repeat(character.len_utf8()),
    };
    let local: String = local.chars().map(as_ascii).collect();
    let options = Options::default()
        .without_display_text()
        .with_minimum_sub_domains(0);
    EmailAddress::parse_with_options(&format!("{local}@{domain}"), options).is_ok()
}

/// The domain as in DNS, by UTS 46: lower case, with non-ASCII labels in Punycode. `None` if it is not
/// valid in DNS. An address literal in brackets is only converted to lower case.
fn ascii_domain(domain: &str) -> Option<String> {
    if domain.starts_with('[') {
        return domain.is_ascii().then(|| domain.to_ascii_lowercase());
    }
    let ascii = Uts46::new().to_ascii(
        domain.as_bytes(),
        // The email parser checks the ASCII characters and the lengths.
        AsciiDenyList::EMPTY,
        Hyphens::Allow,
        DnsLength::Ignore,
    );
    Some(ascii.ok()?.into_owned())
}

/// The key by which emails are compared. Two emails are equal if they differ only in letter case, in the
/// composition of accents, or in the encoding of the domain (Unicode or Punycode). Empty for an empty
/// email.
///
/// Stored emails are found by this key, so a change of this function needs a migration.
pub fn key(email: &str) -> String {
    let email = email.trim();
    match email.rsplit_once('@') {
        Some((local, domain)) => {
            let domain = ascii_domain(domain).unwrap_or_else(|| fold(domain));
            format!("{}@{domain}", fold(local))
        }
        None => fold(email),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_address_have_one_key() {
        for spellings in [
            &[
                "ǰan@example.com",
                "J\u{30c}AN@EXAMPLE.COM",
                "j\u{30c}an@Example.com",
            ][..],
            &[
                "a@bücher.example",
                "A@xn--bcher-kva.example",
                "a@BU\u{308}CHER.example",
                "a@XN--BCHER-KVA.EXAMPLE",
                "a@bücher。example",
            ],
            &["straße@x.example", "STRASSE@x.example"],
            &["\"Ada L\"@x.example", "\"ADA L\"@X.EXAMPLE"],
            &["ada@[127.0.0.1]"],
            &["a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]"],
        ] {
            for spelling in spellings {
                assert_eq!(problem(spelling), None, "{spelling}");
                assert_eq!(key(spelling), key(spellings[0]), "{spelling}");
            }
        }
        for (one, other) in [
            ("a@straße.example", "a@strasse.example"),
            ("eva@x.example", "éva@x.example"),
            ("a.da@x.example", "ada@x.example"),
        ] {
            assert_ne!(key(one), key(other));
        }
        assert_eq!(key("Ada+Desk@Example.COM"), "ada+desk@example.com");
        assert_eq!((key(""), key(" ")), (String::new(), String::new()));
    }

    #[test]
    fn marks_stand_behind_letters_and_nothing_is_hidden() {
        for right in [
            "zoe\u{308}@exa\u{308}mple.com",
            "root@localhost",
            "a\u{301}\u{323}@x.example",
            "विक्रम@उदाहरण.भारत",
            "用户@例子.广告",
            "a_b@my_host.example",
            "😀@x.example",
        ] {
            assert_eq!(problem(right), None, "{right}");
        }
        for hidden in [
            "ada@example.com\u{fe0f}",
            "ad\u{34f}a@example.com",
            "\u{feff}ada@example.com",
            "ada@exam\u{ad}ple.com",
            "ada\u{200b}@example.com",
            "ada@example\u{200d}.com",
            "ada\u{202e}@example.com",
            "\u{3164}@example.com",
        ] {
            assert!(
                problem(hidden).unwrap().1.contains("invisible"),
                "{hidden:?}"
            );
        }
        for stray in [
            "\u{301}ada@example.com",
            "ada@\u{301}example.com",
            "ada@example.\u{301}com",
            "a.\u{301}da@example.com",
            "\"\u{301}a\"@example.com",
        ] {
            assert!(
                problem(stray).unwrap().1.contains("combining mark"),
                "{stray:?}"
            );
        }
        let many_marks = format!("a{}@example.com", "\u{301}".repeat(40));
        for wrong in [
            many_marks.as_str(),
            "ada@xn--a.example",
            "ada@x..example",
            "ada\u{a0}l@x.example",
            "ada\u{2800}@x.example",
            "ada@ex ample.com",
            "ada",
            "ada@",
            "@example.com",
            "a@@b.example",
            "ada@example.com.",
            "ada@-x.example",
            "ada@example。\u{301}com",
            "a\u{3000}b@x.example",
        ] {
            let (_, found) = problem(wrong).unwrap();
            assert!(found.contains("one email address"), "{wrong:?}: {found}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_its_own_key(
            email in "[a-zA-ZǰßΣςİé][a-zA-ZǰßΣςİé\u{301}\u{345}]{0,6}@[a-zA-ZüßΣ][a-zA-ZüßΣ\u{308}-]{0,6}(.|。)[a-z]{2}"
        ) {
            prop_assume!(problem(&email).is_none());
            let found = key(&email);
            prop_assert_eq!(key(&found), found);
        }
    }
}

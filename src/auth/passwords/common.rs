//! The most common passwords, as a list that is part of the program.
//!
//! The list has the words and the runs of keys that common passwords consist of. A password is common if it is
//! one of them or repeats one, also with digits and punctuation before or after it: `password`, `Password2026!`,
//! `qwertyqwertyqwerty`, `123456789012345`.

use crate::core::text;

const LIST: &str = include_str!("common.txt");

/// Whether a password is one of the most common ones. Letter case and Unicode composition make no difference.
pub fn is_common(password: &str) -> bool {
    let folded = text::fold(password);
    let bare = folded.trim_matches(|character: char| !character.is_alphabetic());
    is_listed(&folded) || (!bare.is_empty() && is_listed(bare))
}

/// Whether a text repeats a word of the list, at least once.
fn is_listed(text: &str) -> bool {
    LIST.lines().any(|word| {
        let times = text.len() / word.len().max(1);
        times > 0 && times * word.len() == text.len() && text == word.repeat(times)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_passwords_and_their_decorations_are_found() {
        for common in [
            "password",
            "Password1234567",
            "passwordpassword",
            "PASSWORD-2026!!",
            "123456789012345",
            "1234567890123456",
            "111111111111111",
            "aaaaaaaaaaaaaaa",
            "qwertyuiopasdfgh",
            "qwertyqwertyqwerty",
            "1q2w3e4r1q2w3e4r",
            "iloveyouiloveyou",
            "CorrectHorseBatteryStaple",
            "12345678 welcome 12345678",
        ] {
            assert!(is_common(common), "{common}");
        }
        for other in [
            "correct horse battery",
            "another horse, another battery",
            "a long enough password",
            "482913847562910",
            "password of jurgen",
            "qvzkmwpdbxhtgfr",
        ] {
            assert!(!is_common(other), "{other}");
        }
    }

    #[test]
    fn the_list_has_no_blank_and_no_capital() {
        assert!(LIST.lines().count() > 300);
        for word in LIST.lines() {
            assert!(!word.is_empty() && text::fold(word) == word, "{word:?}");
        }
    }
}

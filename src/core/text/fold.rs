//! How two spellings of a text are compared: how accents are composed, and letter case.

use unicode_normalization::UnicodeNormalization;

/// Normalises a text to Unicode Normalization Form C, which composes accented letters.
pub fn nfc(text: &str) -> String {
    text.nfc().collect()
}

/// Folds a text, so that it is compared and ordered without regard to letter case: by Unicode's canonical
/// caseless matching, independent of the database and its locale. The result is composed last, because
/// folding can decompose a letter (ΐ) whose capital (Ϊ́) is only partly decomposed. It is idempotent.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let decomposed: String = text.nfd().collect();
    let folded = unicase::UniCase::unicode(decomposed).to_folded_case();
    folded.nfc().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All characters of the planes that contain letters with case or accents.
    fn letters() -> impl Iterator<Item = char> {
        (0..0x2_0000).filter_map(char::from_u32)
    }

    #[test]
    fn letter_case_and_composition_make_no_difference() {
        for spellings in [
            &["ǰan", "J\u{30c}AN", "j\u{30c}an"][..],
            &["ΐ", "Ϊ\u{301}", "ι\u{308}\u{301}", "\u{399}\u{308}\u{301}"],
            &["Straße", "STRASSE", "strasse"],
            &["Οδυσσεύς", "ΟΔΥΣΣΕΎΣ", "οδυσσεύσ"],
            &["İ", "i\u{307}", "I\u{307}"],
            &["ŉ", "ʼN", "ʼn"],
            &["ᾳ", "ΑΙ", "ᾼ"],
            &["Å", "\u{212b}", "a\u{30a}"],
        ] {
            for spelling in spellings {
                assert_eq!(fold(spelling), fold(spellings[0]), "{spelling}");
            }
        }
        assert_ne!(fold("ı"), fold("i"));
        for character in letters() {
            let text = character.to_string();
            let folded = fold(&text);
            let upper: String = character.to_uppercase().collect();
            // `I` is the only capital of two small letters: `i` and `ı`.
            if character != 'ı' {
                assert_eq!(fold(&upper), folded, "{character:?}");
            }
            let nfd: String = text.nfd().collect();
            assert_eq!(fold(&nfd), folded, "{character:?}");
            assert_eq!(fold(&folded), folded, "{character:?}");
        }
    }

    /// Letters that fold to several characters, marks that reorder and compose, and separators.
    pub fn awkward() -> impl Strategy<Value = String> {
        let character = prop_oneof![
            any::<char>(),
            prop::sample::select(
                "aAiIıİjJsSßẞǰŉΐΰΣσςᾳᾼιΙͅ\u{300}\u{301}\u{307}\u{308}\u{30c}\u{323}\u{345}\u{34f}\
                 가각\u{1100}\u{1161}\u{11a8}\r\n\t \u{200b}"
                    .chars()
                    .collect::<Vec<_>>()
            ),
        ];
        prop::collection::vec(character, 0..12).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn folding_is_final_and_blind_to_composition(text in awkward()) {
            let folded = fold(&text);
            prop_assert_eq!(&fold(&folded), &folded);
            prop_assert_eq!(&fold(&nfc(&text)), &folded);
            prop_assert_eq!(&fold(&text.nfd().collect::<String>()), &folded);
        }
    }
}

//! The form in which texts and queries are compared.

use migrations::search_text::{Fields, form, phone_digits, query};
use proptest::prelude::*;

/// Spellings that find each other, because their form is the same.
const SAME: &[&[&str]] = &[
    &["Gonçalves", "goncalves", "GONÇALVES", "gonc\u{327}alves"],
    &["Müller", "MULLER", "mu\u{308}ller"],
    &["Łódź", "lodz", "ŁÓDŹ"],
    &["Øresund", "oresund"],
    &["Straße", "STRASSE", "strasse", "STRAẞE"],
    &["Ærø", "aero"],
    &["Þór Guðmundsson", "thor gudmundsson"],
    &["Đặng Nguyễn", "dang nguyen"],
    &["İSPARTA", "ISPARTA", "ısparta", "isparta", "i\u{307}sparta"],
    &["Ёлкин", "елкин", "ЕЛКИН"],
    &["Οδυσσεύς", "ΟΔΥΣΣΕΥΣ", "οδυσσευσ"],
    &["שָׁלוֹם", "שלום"],
    &["مُحَمَّد", "محمد"],
    &["O’Hara", "O'Hara", "o‘hara", "o´hara"],
    &["Jean–Luc", "jean-luc", "JEAN‑LUC"],
    &[
        "Ada  Lovelace",
        "ada\tlovelace",
        " Ada\u{a0}Lovelace ",
        "ada\n lovelace",
    ],
    &[
        "Lovelace, Ada",
        "lovelace,ada",
        "Lovelace ,Ada",
        "LOVELACE ,  ADA",
    ],
    &["soft\u{ad}hyphen", "softhyphen", "soft\u{200b}hyphen"],
    &[
        "+351 21 000-0000",
        "+351210000000",
        "+351.21.000/0000",
        "+351 (21) 000 00 00",
        "+３５１ ２１０００００００",
    ],
    &["٠١٢٣", "0123", "۰۱۲۳", "०१२३"],
    &["Route 66/7", "route 667", "ROUTE 66-7"],
];

/// Letters of their own, which are not confused.
const DIFFERENT: &[(&str, &str)] = &[
    ("が", "か"),
    ("각", "가"),
    ("कि", "क"),
    ("ที", "ท"),
    ("a1", "a 1"),
    ("a b", "ab"),
    ("1,5", "15"),
];

#[test]
fn spellings_that_are_typed_for_each_other_have_one_form() {
    for spellings in SAME {
        for spelling in *spellings {
            assert_eq!(form(spelling), form(spellings[0]), "{spelling}");
        }
    }
    for (one, other) in DIFFERENT {
        assert_ne!(form(one), form(other), "{one}");
        assert_ne!(query(one), query(other), "{one}");
    }
}

#[test]
fn a_phone_number_is_its_digits() {
    for (phone, digits) in [
        ("+351 21 000-0000", "351210000000"),
        ("00351 21 0000000", "351210000000"),
        ("+44 (0)20 7946 0018", "442079460018"),
        ("(020) 7946 0018", "02079460018"),
        ("(0)20 7946 0018", "02079460018"),
        ("7946-0018 ext. 5", "794600185"),
        ("٠٢٠ ٧٩٤٦", "0207946"),
        ("00", "00"),
        ("on request", ""),
        ("", ""),
    ] {
        assert_eq!(phone_digits(phone), digits, "{phone}");
    }
}

fn lead(phone: &str) -> Fields<'_> {
    Fields {
        first_name: "Ada",
        last_name: "Lovelace",
        company: "",
        email: "",
        phone,
    }
}

#[test]
fn a_number_is_found_as_it_is_written_and_by_its_digits() {
    for (phone, queries) in [
        (
            "+351 21 000-0000",
            &["+351 21 000-0000", "+351210000000", "21 000", "351"][..],
        ),
        (
            "00351 21 0000000",
            &["00351 21", "0035121", "+351 21", "35121"],
        ),
        (
            "+44 (0)20 7946 0018",
            &[
                "+44 (0)20 7946",
                "+44 20 7946",
                "442079460018",
                "020 7946 0018",
            ],
        ),
        (
            "7946-0018 ext. 5",
            &["7946-0018 ext. 5", "79460018", "ext. 5"],
        ),
    ] {
        let text = lead(phone).text();
        for asked in queries {
            assert!(text.contains(&query(asked)), "{asked} in {text:?}");
        }
    }
    assert_eq!(
        lead("+49 30 1").text(),
        "\u{1}ada lovelace, ada\u{1}49301\u{1}"
    );
    assert_eq!(lead("").same_phone(), None);
    assert_eq!(lead("12").same_phone(), None, "too short for the index");
    assert_eq!(lead("1-2 3").same_phone(), lead("123").same_phone());
    assert_eq!(lead("").same_name(), None, "without a company");
}

/// Latin letters with and without accents, digits, and everything that is between digits.
fn typed() -> impl Strategy<Value = String> {
    let characters: Vec<char> = "aéIıİßłZ0123  -()./+,'x\u{301}\u{a0}".chars().collect();
    let character = prop::sample::select(characters);
    prop::collection::vec(character, 1..16).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn every_part_of_a_text_with_a_letter_or_a_digit_finds_it(text in typed(), ends in any::<[usize; 2]>()) {
        let characters: Vec<char> = text.chars().collect();
        let [from, to] = ends.map(|end| end % (characters.len() + 1));
        let part: String = characters[from.min(to)..from.max(to)].iter().collect();
        // A mark without its letter, or a letter without its mark, is a part of no character.
        prop_assume!(part.chars().any(char::is_alphanumeric));
        let whole = Fields { company: &text, phone: "", ..lead("") }.text();
        prop_assert!(whole.contains(&query(&part)), "{part:?} in {text:?}: {:?} in {whole:?}", query(&part));
        prop_assert_eq!(form(&form(&text)), form(&text), "a form is final");
        prop_assert_eq!(query(&query(&part)), query(&part));
    }
}

//! The search for secrets: it records every text that the program writes, and looks for each secret in
//! every encoding in which it could appear.

use std::collections::BTreeSet;
use std::fmt::Debug;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use tonic::Status;

use crate::harness::reason;

/// The encodings in which a secret could appear in a text.
pub fn forms(secret: &str) -> BTreeSet<String> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut forms = BTreeSet::from([
        secret.to_owned(),
        secret.to_lowercase(),
        secret.to_uppercase(),
        hex.to_uppercase(),
        hex,
        numbers.join(", "),
        numbers.join(","),
    ]);
    // Inside a longer Base64 text the secret starts at one of three offsets. Only the characters
    // that encode nothing but the secret are searched for.
    for before in 0..3 {
        let padded = [&vec![0; before], bytes].concat();
        let whole = before * 8..padded.len() * 8;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            forms.insert(text[whole.start.div_ceil(6)..whole.end / 6].to_owned());
        }
    }
    forms
}

/// The secrets that must not appear, and the texts that are searched for them.
#[derive(Default)]
pub struct Search {
    pub secrets: Vec<(String, String)>,
    places: Vec<(String, String)>,
}

impl Search {
    /// A new secret of lower-case letters and digits.
    pub fn secret(&mut self, name: &str) -> String {
        let bits = leadsmith::core::clock::random_256_bits();
        let text: String = bits[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.hide(name, &text);
        text
    }

    pub fn hide(&mut self, name: &str, secret: &str) {
        assert!(
            secret.len() >= 11,
            "{name} is so short that it could show by chance"
        );
        self.secrets.push((name.into(), secret.into()));
    }

    /// Adds a token or an API key without its prefix, which is not secret.
    pub fn hide_token(&mut self, name: &str, token: &str) {
        self.hide(name, &token[4..]);
    }

    pub fn look_at(&mut self, name: impl Into<String>, written: &[u8]) {
        let text = String::from_utf8_lossy(written).into_owned();
        self.places.push((name.into(), text));
    }

    /// Records the response of a call; of an error also the message and every byte of the details.
    pub fn answer<T: Debug>(&mut self, name: &str, answer: Result<T, Status>) -> Result<T, Status> {
        self.look_at(name, format!("{answer:?}").as_bytes());
        if let Err(status) = &answer {
            self.look_at(name, status.message().as_bytes());
            self.look_at(name, status.details());
        }
        answer
    }

    /// Records the response of a call that must fail with this reason.
    pub fn refusal<T: Debug>(&mut self, why: &str, answer: Result<T, Status>) {
        let status = self.answer(why, answer).unwrap_err();
        assert_eq!(reason(&status), why, "{status:?}");
    }

    pub fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, secret) in &self.secrets {
            for form in forms(secret) {
                for (place, text) in &self.places {
                    if text.contains(&form) {
                        found.push(format!("{name} in {place} as {form}"));
                    }
                }
            }
        }
        found
    }

    /// The recorded texts of this name, concatenated.
    pub fn text(&self, place: &str) -> String {
        let texts = self.places.iter().filter(|(name, _)| name == place);
        texts.map(|(_, text)| text.as_str()).collect()
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let secret = "K7-xY_9?secret~word";
    for before in ["", "a", "ab", "abc"] {
        let embedded = format!("{before}{secret}and more");
        let bytes = embedded.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        for written in [
            embedded.clone(),
            embedded.to_lowercase(),
            hex.to_lowercase(),
            hex,
            format!("{bytes:?}"),
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
        ] {
            let mut search = Search::default();
            search.hide("it", secret);
            search.look_at("there", b"nothing");
            assert_eq!(search.found().len(), 0);
            search.look_at("here", written.as_bytes());
            assert_ne!(search.found().len(), 0, "{written}");
        }
    }
}

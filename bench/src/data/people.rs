//! The texts of the leads.

use std::collections::BTreeMap;

use super::ids::fnv1a;

/// Separates the searched texts of a lead. No text contains it.
const SEPARATOR: &str = "\u{1}";

const FIRST_NAMES: [&str; 24] = [
    "Ada", "Grace", "Alan", "Edsger", "Maria", "Jonas", "Aiko", "Liam", "Zofia", "Noah", "Emma",
    "Mateo", "Olga", "Priya", "Lucas", "Chloé", "Henrik", "Fatima", "Tomás", "Ingrid", "Kwame",
    "Yusuf", "Björn", "Siobhan",
];
const NAME_HEADS: [&str; 40] = [
    "Ander", "Berg", "Carl", "Dan", "Eber", "Fisch", "Gold", "Hart", "Iver", "Jans", "Kauf",
    "Lind", "Mühl", "Neu", "Ober", "Peter", "Quist", "Rosen", "Stein", "Thor", "Unter", "Vogel",
    "Wald", "Xav", "Young", "Zimmer", "Acker", "Brand", "Christ", "Dahl", "Eich", "Falk", "Gran",
    "Holm", "Isaks", "Johan", "Kirch", "Lager", "Mark", "Nord",
];
const NAME_TAILS: [&str; 25] = [
    "son", "berg", "man", "mann", "feld", "stein", "er", "hausen", "qvist", "gren", "ström",
    "lund", "dal", "burg", "bach", "thal", "wald", "hoff", "meyer", "ski", "sen", "ley", "ton",
    "worth", "field",
];
const WORDS: [&str; 32] = [
    "Aurora", "Harbor", "Summit", "River", "Cedar", "Falcon", "Granite", "Horizon", "Ivory",
    "Juniper", "Keystone", "Lantern", "Meadow", "Nimbus", "Orchard", "Pioneer", "Quarry", "Raven",
    "Sierra", "Tundra", "Umber", "Vertex", "Willow", "Yonder", "Zenith", "Beacon", "Copper",
    "Delta", "Ember", "Fjord", "Glacier", "Haven",
];
const KINDS: [&str; 6] = ["Hosting", "Systems", "Studio", "Networks", "GmbH", "Data"];
const PLACES: [[&str; 3]; 6] = [
    ["Berlin", "DE", "de"],
    ["Lisboa", "PT", "pt-PT"],
    ["Dublin", "IE", "en-IE"],
    ["Kraków", "PL", "pl"],
    ["Lyon", "FR", "fr"],
    ["Austin", "US", "en-US"],
];
const SOURCES: [&str; 4] = ["website", "fair", "referral", "newsletter"];

fn pick<'a, T: ?Sized>(of: &[&'a T], by: u64) -> &'a T {
    of[by as usize % of.len()]
}

/// What exactly ten leads of a data set of `leads` have in common: six letters of their company.
pub fn code(number: u64, leads: u64) -> String {
    let mut hash = fnv1a(number % (leads / 10).max(1) + 7_777_777) >> 8;
    (0..6)
        .map(|_| {
            let letter = b'a' + (hash % 26) as u8;
            hash /= 26;
            char::from(letter)
        })
        .collect()
}

/// The texts of a lead. Missing ones are empty.
pub struct Person {
    pub first_name: String,
    pub last_name: String,
    pub company: String,
    /// Already in lower case.
    pub email: String,
    pub phone: String,
    pub street: String,
    pub city: String,
    pub postal_code: String,
    pub country_code: String,
    pub language: String,
    pub source: String,
    pub custom_fields: BTreeMap<String, String>,
}

impl Person {
    /// The searched texts of the lead, case-folded.
    pub fn search_text(&self) -> String {
        let name = format!("{} {}", self.first_name, self.last_name);
        [&name, &self.company, &self.email, &self.phone]
            .map(|text| fold(text))
            .join(SEPARATOR)
    }
}

/// Case folding. For the texts of the data set it equals the lower case.
pub fn fold(text: &str) -> String {
    text.to_lowercase()
}

/// The texts of the lead with this number, in a data set of `leads`.
pub fn person(number: u64, leads: u64) -> Person {
    let hash = fnv1a(number);
    let first_name = pick(&FIRST_NAMES, hash).to_owned();
    let last_name = format!(
        "{}{}",
        pick(&NAME_HEADS, hash >> 8),
        pick(&NAME_TAILS, hash >> 16)
    );
    let word = pick(&WORDS, hash >> 20);
    let company = format!(
        "{word} {} {} {}",
        pick(&WORDS, hash >> 28),
        pick(&KINDS, hash >> 36),
        code(number, leads)
    );
    let email = format!(
        "{}.{number}@{}.example",
        first_name.to_lowercase(),
        word.to_lowercase()
    );
    let [city, country, language] = PLACES[(hash >> 44) as usize % PLACES.len()];
    Person {
        first_name,
        last_name,
        company,
        email,
        phone: phone(30, number),
        street: format!("{word} Street {}", hash % 200),
        city: city.to_owned(),
        postal_code: format!("{:05}", hash % 100_000),
        country_code: country.to_owned(),
        language: language.to_owned(),
        source: pick(&SOURCES, hash >> 50).to_owned(),
        custom_fields: BTreeMap::from([
            ("tier".to_owned(), "silver".to_owned()),
            ("employees".to_owned(), (hash % 5_000).to_string()),
        ]),
    }
}

/// A phone number of 14 characters.
pub fn phone(area: u64, number: u64) -> String {
    format!("+49 {area} {:07}", number % 10_000_000)
}

#[cfg(test)]
mod tests {
    use super::person;

    #[test]
    fn a_lead_is_found_by_its_name_company_email_and_phone() {
        let mut person = person(1, 100);
        person.first_name = "Chloé".to_owned();
        person.last_name = "Mühlström".to_owned();
        person.company = "Fjord GmbH".to_owned();
        person.email = "chloé.1@fjord.example".to_owned();
        let text = "chloé mühlström\u{1}fjord gmbh\u{1}chloé.1@fjord.example\u{1}+49 30 0000001";
        assert_eq!(person.search_text(), text);
    }
}

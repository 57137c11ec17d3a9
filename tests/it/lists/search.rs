//! LeadService.Search: which parts of a text find which leads.

use leadsmith_proto::{Lead, LeadState, ListLeadsRequest, SearchLeadsRequest};
use migrations::search_text;
use tonic::Code;
use tonic_types::StatusExt;

use super::{choices_of_states, ids, numbers, pages, search, walk};
use crate::harness::{Caller, PASSWORD, reason, update};
use crate::on_both;

/// Leads whose texts contain special characters of SQL, FTS5 or Unicode, oldest first.
fn peculiar() -> Vec<Lead> {
    let lead = |first: &str, last: &str, company: &str, email: &str, phone: &str| Lead {
        first_name: first.into(),
        last_name: last.into(),
        company: company.into(),
        email: email.into(),
        phone: phone.into(),
        ..Lead::default()
    };
    vec![
        lead(
            "Ada",
            "Lovelace",
            "Analytical Engines",
            "Ada@Engine.test",
            "+44 20 7946 0018",
        ),
        lead("", "Percent", r"100% Pure_Gold \ Sons", "", ""),
        lead("", "Decoy", "1000 PureXGold / Sons", "", ""),
        lead(
            "",
            "O'Hara",
            r#"The "Best" *Star* NEAR(a b) AND NOT c"#,
            "",
            "",
        ),
        lead("", "Crab", "🦀 & 🎉🎉 Co", "", ""),
        lead("太郎", "山田", "株式会社山田製作所", "", ""),
        lead("Jürgen", "Straße", "ÄÖÜ GmbH", "", ""),
        lead("İnci", "Irmak", "ISTANBUL A.Ş.", "", ""),
        lead("Νίκος", "Οδυσσεύς", "Μαΐου ΑΕ", "", ""),
        lead("Ирина", "Щукина", "ООО Ёлка", "", ""),
        lead("Cafe\u{301}", "Zoe", "tab\there", "", ""),
        lead("", "Solo", "", "solo@sub.domain.test", "0800-1"),
    ]
}

/// A query, and the last names of the leads that it finds, newest first.
const FOUND: &[(&str, &[&str])] = &[
    // The name is one text, in both orders. Each other text is separate.
    ("ada lov", &["Lovelace"]),
    ("ada   lov", &["Lovelace"]),
    ("lovelace, ada", &["Lovelace"]),
    ("Lovelace,Ada", &["Lovelace"]),
    ("LOVELACE ,  a", &["Lovelace"]),
    ("lovelace,", &["Lovelace"]),
    ("lovelace ada", &[]),
    ("percent,", &[]),
    ("ADA LOVELACE", &["Lovelace"]),
    ("a l", &["Lovelace"]),
    ("lovelaceanal", &[]),
    ("lovelace anal", &[]),
    ("ce an", &[]),
    ("engines ada@", &[]),
    ("enginesada@", &[]),
    ("test+44", &[]),
    ("analytical", &["Lovelace"]),
    ("@engine", &["Lovelace"]),
    ("ADA@ENGINE.TEST", &["Lovelace"]),
    ("7946 00", &["Lovelace"]),
    ("+44", &["Lovelace"]),
    ("+44 20 7946 0018", &["Lovelace"]),
    ("+442079460018", &["Lovelace"]),
    ("442079460018", &["Lovelace"]),
    ("(20) 7946-0018", &["Lovelace"]),
    ("20.7946/00", &["Lovelace"]),
    ("20\u{a0}7946\u{2011}0018", &["Lovelace"]),
    ("79 46 -", &["Lovelace"]),
    ("+4420794600181", &[]),
    ("0800-1", &["Solo"]),
    ("08001", &["Solo"]),
    ("0 8 0 0 1", &["Solo"]),
    ("sub.domain", &["Solo"]),
    (".test", &["Solo", "Lovelace"]),
    // Special characters of LIKE, GLOB, FTS5 and SQL quoting have no meaning here.
    ("100%", &["Percent"]),
    ("%", &["Percent"]),
    ("0%", &["Percent"]),
    ("pure_gold", &["Percent"]),
    ("e_g", &["Percent"]),
    ("_", &["Percent"]),
    (r"\", &["Percent"]),
    (r"\ s", &["Percent"]),
    (r" \ sons", &["Percent"]),
    ("100", &["Decoy", "Percent"]),
    ("\"", &["O'Hara"]),
    ("\"best\"", &["O'Hara"]),
    ("\"\"\"", &[]),
    ("'", &["O'Hara"]),
    ("o'h", &["O'Hara"]),
    ("*", &["O'Hara"]),
    ("*star*", &["O'Hara"]),
    ("sta*", &[]),
    ("AND", &["O'Hara"]),
    ("and not", &["O'Hara"]),
    ("best OR star", &[]),
    ("NEAR(", &["O'Hara"]),
    ("near(a b)", &["O'Hara"]),
    ("text:ada", &[]),
    ("^ada", &[]),
    ("ada*", &[]),
    ("{text} : ada", &[]),
    ("a?a", &[]),
    ("[ada]", &[]),
    ("$1", &[]),
    (";--", &[]),
    // Non-ASCII queries with one, two and more characters.
    ("🦀", &["Crab"]),
    ("🎉🎉", &["Crab"]),
    ("🦀 & 🎉", &["Crab"]),
    ("🎊", &[]),
    ("山", &["山田"]),
    ("山田", &["山田"]),
    ("会社山", &["山田"]),
    ("太郎 山田", &["山田"]),
    ("山田太郎", &[]),
    ("straße", &["Straße"]),
    ("STRASSE", &["Straße"]),
    ("ss", &["Straße"]),
    ("äöü", &["Straße"]),
    ("JÜRGEN", &["Straße"]),
    ("ju\u{308}rgen", &["Straße"]),
    ("jurgen", &["Straße"]),
    ("Jürgen strasse", &["Straße"]),
    ("irmak", &["Irmak"]),
    ("ISTANBUL", &["Irmak"]),
    ("istanbul", &["Irmak"]),
    ("a.ş.", &["Irmak"]),
    ("i\u{307}nci", &["Irmak"]),
    ("inci", &["Irmak"]),
    ("INCI", &["Irmak"]),
    ("ıncı ırmak", &["Irmak"]),
    ("İSTANBUL", &["Irmak"]),
    ("a.s.", &["Irmak"]),
    ("ΟΔΥΣΣΕΎΣ", &["Οδυσσεύς"]),
    ("οδυσσεύς", &["Οδυσσεύς"]),
    ("ΝΊΚΟΣ", &["Οδυσσεύς"]),
    ("νίκος", &["Οδυσσεύς"]),
    ("ΜΑΪ\u{301}ΟΥ", &["Οδυσσεύς"]),
    ("μαιου", &["Οδυσσεύς"]),
    ("οδυσσευς", &["Οδυσσεύς"]),
    ("щУК", &["Щукина"]),
    ("ёлка", &["Щукина"]),
    ("елка", &["Щукина"]),
    ("CAFÉ ZOE", &["Zoe"]),
    ("cafe zoe", &["Zoe"]),
    ("cafe\u{301}  zoe", &["Zoe"]),
    ("tab\ther", &["Zoe"]),
    ("tab  her", &["Zoe"]),
    // Queries of one and two characters, including ASCII.
    ("q", &[]),
    ("zo", &["Zoe"]),
    ("Lo", &["Solo", "Lovelace"]),
    // Leading and trailing whitespace is removed, as in the texts.
    ("  lovelace\n", &["Lovelace"]),
];

async fn find(caller: &Caller, query: &str, states: &[LeadState]) -> Vec<Lead> {
    let request = SearchLeadsRequest {
        query: query.into(),
        states: numbers(states),
        page_size: 1000,
        ..Default::default()
    };
    let answer = search(caller, request).await;
    let answer = answer.unwrap_or_else(|status| panic!("{query:?}: {status:?}"));
    assert_eq!(answer.next_page_token, "", "{query:?}");
    answer.leads
}

on_both! {
    async fn a_part_of_a_text_finds_its_lead(h: Harness) {
        for lead in peculiar() {
            h.sales.create(lead).await.unwrap();
        }
        for (query, expected) in FOUND {
            let found = find(&h.viewer, query, &[]).await;
            let names: Vec<&str> = found.iter().map(|lead| lead.last_name.as_str()).collect();
            assert_eq!(&names, expected, "{query:?}");
        }
    }

    async fn every_state_is_searched_unless_some_are_named(h: Harness) {
        let mut leads = Vec::new();
        for name in ["Ann Wood", "Bob Wood", "Cid Wood", "Dan Wood", "Eve Wood", "Fay Wood"] {
            leads.push(h.sales.create_lead(name).await);
        }
        for index in [1, 4] {
            leads[index] = h.sales.deactivate(&leads[index].id).await.unwrap();
        }
        for index in [2, 5] {
            leads[index] = h.sales.convert(&leads[index].id).await.unwrap().lead.unwrap();
        }
        leads.reverse();
        for query in [" wood", "od", "d", "WOOD"] {
            for states in choices_of_states() {
                let expected: Vec<Lead> = leads
                    .iter()
                    .filter(|lead| states.is_empty() || states.contains(&lead.state()))
                    .cloned()
                    .collect();
                let found = find(&h.viewer, query, &states).await;
                let named = leads.iter().filter(|lead| lead.last_name.starts_with("Dan")).count();
                assert_eq!(named, 1);
                assert_eq!(found, expected, "{query:?} in {states:?}");
            }
        }
    }

    async fn the_newest_come_first_page_by_page(h: Harness) {
        let mut leads = Vec::new();
        for index in 0..20 {
            leads.push(h.sales.create_lead(&format!("Wood {index}")).await);
        }
        // Neither a later change nor the clock makes a lead newer.
        let change = Lead { phone: "1".into(), ..leads[3].clone() };
        leads[3] = h.sales.update(change, &["phone"]).await.unwrap();
        leads[7] = h.sales.deactivate(&leads[7].id).await.unwrap();
        leads.reverse();
        for query in ["wood", "wo"] {
            for page_size in [1, 3, 7, 20] {
                let found = pages(async |page_token| {
                    let request = SearchLeadsRequest {
                        query: query.into(),
                        page_size,
                        page_token,
                        ..Default::default()
                    };
                    let answer = search(&h.viewer, request).await.unwrap();
                    (answer.leads, answer.next_page_token)
                })
                .await;
                let size = usize::try_from(page_size).unwrap();
                assert_eq!(found.len(), 20_usize.div_ceil(size));
                assert_eq!(found.concat(), leads, "{query:?} in pages of {page_size}");
            }
        }
    }

    async fn leads_created_meanwhile_disturb_no_page(h: Harness) {
        let mut leads = Vec::new();
        for index in 0..9 {
            leads.push(h.sales.create_lead(&format!("Wood {index}")).await);
        }
        leads.reverse();
        let found = pages(async |page_token| {
            let request = SearchLeadsRequest {
                query: "wood".into(),
                page_size: 2,
                page_token,
                ..Default::default()
            };
            let answer = search(&h.viewer, request).await.unwrap();
            h.sales.create_lead("Another Wood").await;
            (answer.leads, answer.next_page_token)
        })
        .await;
        assert_eq!(ids(&found.concat()), ids(&leads));
    }

    async fn a_changed_lead_is_found_by_what_it_is_now(h: Harness) {
        let mut lead = h
            .sales
            .create(Lead {
                first_name: "Ada".into(),
                last_name: "Byron".into(),
                company: "Old Mill".into(),
                email: "old@byron.test".into(),
                phone: "111222".into(),
                ..Lead::default()
            })
            .await
            .unwrap();
        let news = [
            ("email", "old@byron", "new@lovelace.test", "NEW@love"),
            ("last_name", "a byr", "King", "a kin"),
            ("company", "old mill", "New Forge", "w for"),
            ("phone", "11222", "333444", "334"),
        ];
        for (path, old, value, new) in news {
            assert_eq!(find(&h.viewer, old, &[]).await, [lead.clone()], "{path}");
            assert_eq!(find(&h.viewer, new, &[]).await, [], "{path}");
            let mut change = lead.clone();
            match path {
                "email" => change.email = value.into(),
                "last_name" => change.last_name = value.into(),
                "company" => change.company = value.into(),
                _ => change.phone = value.into(),
            }
            let mut request = update(change, &[path]);
            request.current_password = PASSWORD.into();
            let answer = h.sales.leads().update(request).await.unwrap().into_inner();
            lead = answer.lead.unwrap();
            assert_eq!(find(&h.viewer, old, &[]).await, [], "{path}");
            assert_eq!(find(&h.viewer, new, &[]).await, [lead.clone()], "{path}");
        }
        // Fields that are not searched.
        let change = Lead { source: "Fairground".into(), ..lead.clone() };
        h.sales.update(change, &["source"]).await.unwrap();
        assert_eq!(find(&h.viewer, "fairground", &[]).await, []);
    }

    async fn accents_alone_are_nothing_to_search_for(h: Harness) {
        for query in ["\u{301}", "\u{200b}\u{308}", "\u{ad}"] {
            let request = SearchLeadsRequest { query: query.into(), ..Default::default() };
            let status = search(&h.viewer, request).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{query:?}");
            let details = status.get_error_details();
            let violations = &details.bad_request().unwrap().field_violations;
            assert_eq!(violations.len(), 1, "{query:?}");
            assert_eq!(violations[0].field, "query", "{query:?}");
        }
    }

    async fn a_query_is_1_to_200_characters_without_control_ones(h: Harness) {
        let long = "é".repeat(200);
        let lead = h.sales.create_lead(&long).await;
        assert_eq!(ids(&find(&h.viewer, &long.to_uppercase(), &[]).await), [lead.id]);
        for query in ["", " \t\n", &"x".repeat(201), "a\u{1}b", "a\u{0}b", "\u{7f}", "a\u{85}b"] {
            let request = SearchLeadsRequest {
                query: query.into(),
                states: vec![0, 4],
                page_size: -1,
                ..Default::default()
            };
            let status = search(&h.viewer, request).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{query:?}");
            assert_eq!(reason(&status), "FIELD_INVALID");
            let details = status.get_error_details();
            let violations = &details.bad_request().unwrap().field_violations;
            let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
            assert_eq!(fields, ["states[1]", "page_size", "query"], "{query:?}");
        }
    }

    async fn searching_finds_what_reading_every_lead_finds(h: Harness) {
        let seed = seed();
        let mut random = Random(seed);
        println!("LEADSMITH_TEST_SEED={seed}");
        for _ in 0..300 {
            let mut lead = Lead {
                first_name: random.text(6),
                last_name: random.text(8),
                company: random.text(12),
                phone: random.digits(),
                ..Lead::default()
            };
            if random.below(3) == 0 {
                lead.email = format!("x{}@mail.test", random.digits());
            }
            if lead.first_name.trim().is_empty() {
                lead.first_name = "a".into();
            }
            let request = leadsmith_proto::CreateLeadRequest {
                lead: Some(lead),
                allow_duplicate: true,
                ..Default::default()
            };
            let answer = h.sales.leads().create(request).await.unwrap();
            let id = answer.into_inner().lead.unwrap().id;
            match random.below(6) {
                0 => drop(h.sales.deactivate(&id).await.unwrap()),
                1 => drop(h.sales.convert(&id).await.unwrap()),
                _ => {}
            }
        }
        let request = ListLeadsRequest { states: vec![1, 2, 3], ..Default::default() };
        let leads = walk(&h.viewer, &request, 1000).await;
        assert_eq!(leads.len(), 300);
        let choices = choices_of_states();
        let (mut asked, mut found) = (0, 0);
        for _ in 0..400 {
            let query = random.query(&leads);
            if search_text::query(&query).is_empty() {
                continue;
            }
            let states = &choices[random.below(choices.len())];
            let expected: Vec<&str> = leads
                .iter()
                .filter(|lead| states.is_empty() || states.contains(&lead.state()))
                .filter(|lead| contains(lead, &query))
                .map(|lead| lead.id.as_str())
                .collect();
            let answer = find(&h.viewer, &query, states).await;
            assert_eq!(ids(&answer), expected, "{query:?} in {states:?}, seed {seed}");
            asked += 1;
            found += expected.len();
        }
        assert!(found > asked, "most queries find something, seed {seed}");
    }
}

/// Whether one of a lead's texts contains the query. The form of both has tests of its own.
fn contains(lead: &Lead, query: &str) -> bool {
    let query = search_text::query(query);
    let first_last = format!("{} {}", lead.first_name, lead.last_name);
    let last_first = format!("{}, {}", lead.last_name, lead.first_name);
    let mut texts = vec![&first_last, &lead.company, &lead.email, &lead.phone];
    if !lead.first_name.trim().is_empty() && !lead.last_name.trim().is_empty() {
        texts.push(&last_first);
    }
    texts
        .iter()
        .any(|text| search_text::form(text).contains(&query))
}

fn seed() -> u64 {
    let given = std::env::var("LEADSMITH_TEST_SEED");
    given.map_or_else(
        |_| {
            let bytes = leadsmith::core::clock::random_256_bits();
            u64::from_be_bytes(bytes[..8].try_into().unwrap())
        },
        |seed| seed.parse().unwrap(),
    )
}

/// SplitMix64: small, and deterministic for a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// Few characters, including special ones, so that queries often match.
    fn text(&mut self, most: usize) -> String {
        const CHARACTERS: [&str; 24] = [
            "a", "A", "b", "B", "ä", "Ä", "ß", "SS", "é", "E\u{301}", "İ", "i", "σ", "ς", "Σ",
            "山", "🦀", "%", "_", "\\", "\"", "'", "*", " ",
        ];
        let length = self.below(most + 1);
        (0..length)
            .map(|_| CHARACTERS[self.below(CHARACTERS.len())])
            .collect()
    }

    fn digits(&mut self) -> String {
        let length = self.below(5) + 1;
        (0..length).map(|_| self.below(3).to_string()).collect()
    }

    /// A part of some lead's text in any letter case, or a random text.
    fn query(&mut self, leads: &[Lead]) -> String {
        let lead = &leads[self.below(leads.len())];
        let full_name = format!("{} {}", lead.first_name, lead.last_name);
        let texts = [&full_name, &lead.company, &lead.email, &lead.phone];
        let text: Vec<char> = texts[self.below(4)].chars().collect();
        let query: String = if text.is_empty() || self.below(4) == 0 {
            let length = self.below(4) + 1;
            self.text(length)
        } else {
            let from = self.below(text.len());
            let length = self.below(7) + 1;
            text[from..].iter().take(length).collect()
        };
        match self.below(3) {
            0 => query.to_uppercase(),
            1 => query.to_lowercase(),
            _ => query,
        }
    }
}

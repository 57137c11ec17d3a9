//! A parser of the text format of Prometheus, and the rules of `promtool check metrics`.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a sample, by name.
type Labels = BTreeMap<String, String>;

/// A family of metrics.
#[derive(Debug, Default)]
struct Family {
    help: String,
    kind: String,
    samples: Vec<(String, Labels, f64)>,
}

/// The metrics that a server showed.
#[derive(Debug)]
pub struct Scrape(BTreeMap<String, Family>);

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    characters.next().is_some_and(is_first)
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Parses `name="value",…`.
fn labels(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").expect("a label");
        let (value, rest) = rest.split_once('"').expect("the end of a value");
        assert!(is_name(name) && !value.contains('\\'), "{name}={value}");
        assert!(
            labels.insert(name.to_owned(), value.to_owned()).is_none(),
            "{name} twice"
        );
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

impl Scrape {
    /// Parses a whole response. Every sample follows the help and the type of its family.
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!families.contains_key(name), "{name} occurs twice");
                name.clone_into(&mut current);
                families.entry(current.clone()).or_default().help = help.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current);
                families.get_mut(name).unwrap().kind = kind.to_owned();
            } else {
                let (metric, value) = line.rsplit_once(' ').unwrap();
                let (name, of) = match metric.split_once('{') {
                    Some((name, of)) => (name, labels(of.strip_suffix('}').unwrap())),
                    None => (metric, Labels::new()),
                };
                let suffix = name.strip_prefix(current.as_str());
                let suffix = suffix.unwrap_or_else(|| panic!("{name} in {current}"));
                let family = families.get_mut(&current).unwrap();
                match family.kind.as_str() {
                    "counter" | "gauge" => assert_eq!(suffix, "", "{name}"),
                    "histogram" => {
                        assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{name}")
                    }
                    other => panic!("{name} is a {other}"),
                }
                family
                    .samples
                    .push((name.to_owned(), of, value.parse().unwrap()));
            }
        }
        Self(families)
    }

    /// The value of a sample; 0 if there is none.
    pub fn value(&self, name: &str, of: &[(&str, &str)]) -> f64 {
        let of = of
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let of: Labels = of.collect();
        let samples = self.0.values().flat_map(|family| &family.samples);
        let mut found = samples.filter(|(other, labels, _)| other == name && *labels == of);
        found.next().map_or(0.0, |(_, _, value)| *value)
    }

    /// The name, the type and the labels of each family, without the bounds of buckets.
    pub fn families(&self) -> Vec<(String, String, Vec<String>)> {
        let families = self.0.iter().map(|(name, family)| {
            let labels = family
                .samples
                .iter()
                .flat_map(|(_, labels, _)| labels.keys());
            let labels: BTreeSet<_> = labels.filter(|label| *label != "le").cloned().collect();
            (
                name.clone(),
                family.kind.clone(),
                labels.into_iter().collect(),
            )
        });
        families.collect()
    }

    /// Checks the rules of `promtool check metrics`, and that histograms are cumulative.
    pub fn check(&self) {
        for (name, family) in &self.0 {
            assert!(is_name(name), "{name}");
            assert!(!family.help.is_empty(), "{name} has no help");
            assert!(!family.samples.is_empty(), "{name} has no samples");
            let is_counter = family.kind == "counter";
            assert_eq!(
                name.ends_with("_total"),
                is_counter,
                "{name} is a {}",
                family.kind
            );
            for unit in [
                "_milliseconds",
                "_ms",
                "_microseconds",
                "_kilobytes",
                "_percent",
                "_gauge",
            ] {
                assert!(!name.contains(unit), "{name}: {unit}");
            }
            let is_lower = name.chars().all(|c| !c.is_ascii_uppercase());
            assert!(is_lower, "{name} is not in snake case");
            let keys: Vec<_> = family
                .samples
                .iter()
                .map(|(name, of, _)| (name, of))
                .collect();
            let distinct: BTreeSet<_> = keys.iter().collect();
            assert_eq!(keys.len(), distinct.len(), "{name} has a sample twice");
            if family.kind == "histogram" {
                check_histogram(name, family);
            }
        }
        assert!(self.0.len() > 20);
    }
}

/// The buckets of a histogram, by bound and count, and its count in all.
type Series = (Vec<(f64, f64)>, Option<f64>);

fn check_histogram(name: &str, family: &Family) {
    let mut series: BTreeMap<Labels, Series> = BTreeMap::new();
    for (sample, of, value) in &family.samples {
        let mut of = of.clone();
        let bound = of.remove("le");
        let (buckets, count) = series.entry(of).or_default();
        match (sample.strip_prefix(name).unwrap(), bound) {
            ("_bucket", Some(bound)) => buckets.push((bound.parse().unwrap(), *value)),
            ("_count", None) => *count = Some(*value),
            ("_sum", None) => {}
            (suffix, bound) => panic!("{name}{suffix} with {bound:?}"),
        }
    }
    for (of, (buckets, count)) in series {
        assert!(
            buckets.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1),
            "{name} {of:?}"
        );
        let (last, total) = *buckets.last().unwrap();
        assert_eq!((last, Some(total)), (f64::INFINITY, count), "{name} {of:?}");
    }
}

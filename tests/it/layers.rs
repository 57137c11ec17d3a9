//! The layers of the source tree: each module may use only those below it, what is pure stays pure, and no module
//! uses itself through others. ARCHITECTURE.md explains them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of `src/`, the lowest first.
const LAYERS: [&str; 14] = [
    "core",
    "error",
    "config",
    "telemetry",
    "metrics",
    "db",
    "commit",
    "auth",
    "grpc",
    "features",
    "jobs",
    "server",
    "app",
    "cli",
];

/// The dependencies that only some files may name: the crate, and what their paths begin or end with.
const ONLY_IN: [(&str, &[&str]); 2] = [
    (
        "leadsmith_proto::",
        &["error/", "grpc/", "app.rs", "cli/", "/api.rs", "/api/"],
    ),
    (
        "sea_orm::",
        &[
            "db/",
            "commit/",
            "error/database.rs",
            "jobs/",
            "/store.rs",
            "/store/",
            "features/leads/lists",
            "features/leads/search",
            "features/leads/duplicates.rs",
        ],
    ),
];

/// What a model must not name: it has no I/O, no wire and no SQL.
const NOT_IN_MODELS: [&str; 9] = [
    "async fn",
    "crate::auth",
    "crate::commit",
    "crate::db",
    "crate::grpc",
    "leadsmith_proto",
    "sea_orm",
    "tokio",
    "tonic",
];

/// A source file: its path below the crate's `src/`, and its code without comments.
struct Source {
    path: String,
    code: String,
}

impl Source {
    /// The module at the top that it belongs to. Example: `commit` for `commit/batch.rs`.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.trim_end_matches(".rs")
    }

    /// The modules of this crate that it names, as paths of up to `depth` segments.
    fn uses(&self, depth: usize) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, _) in self.code.match_indices("crate::") {
            // `$crate::` and `other_crate::` are paths of their own.
            let before = self.code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                continue;
            }
            expand(&self.code[at + "crate::".len()..], "", depth, &mut found);
        }
        found
    }
}

/// Notes the paths that begin at `rest`, where braces list several.
fn expand(rest: &str, prefix: &str, depth: usize, found: &mut BTreeSet<String>) {
    if let Some(list) = rest.strip_prefix('{') {
        let (mut nested, mut start) = (0, 0);
        for (at, character) in list.char_indices() {
            match character {
                '{' => nested += 1,
                '}' if nested > 0 => nested -= 1,
                ',' | '}' if nested == 0 => {
                    expand(list[start..at].trim_start(), prefix, depth, found);
                    start = at + 1;
                    if character == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
    if name.is_empty() {
        return;
    }
    let path = format!("{prefix}{name}");
    match rest.strip_prefix("::") {
        Some(rest) if depth > 1 => expand(rest, &format!("{path}::"), depth - 1, found),
        _ => {
            found.insert(path);
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(crate::ROOT).join(folder);
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                sources.push(Source {
                    path: path
                        .strip_prefix(&root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                    code: lines.collect::<Vec<_>>().join("\n"),
                });
            }
        }
    }
    assert!(sources.len() > 5, "{folder} has sources");
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

/// A module that leads back to itself, with the way.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        module: &str,
        uses: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if way.iter().any(|before| before == module) {
            way.push(module.to_owned());
            return true;
        }
        if done.contains(module) {
            return false;
        }
        way.push(module.to_owned());
        for next in uses.get(module).into_iter().flatten() {
            if visit(next, uses, way, done) {
                return true;
            }
        }
        way.pop();
        done.insert(module.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|module| {
        let mut way = Vec::new();
        visit(module, uses, &mut way, &mut done).then_some(way)
    })
}

#[test]
fn every_import_runs_downward() {
    let layer = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    for source in sources("src") {
        if ["lib.rs", "main.rs"].contains(&source.path.as_str()) {
            continue;
        }
        let own = layer(source.module());
        let own = own.unwrap_or_else(|| panic!("{} belongs to no layer: add it", source.path));
        for used in source.uses(1) {
            let Some(other) = layer(&used) else { continue };
            assert!(
                other <= own,
                "{} uses crate::{used}, which is a layer above its own: move what it needs down, or pass it in",
                source.path
            );
        }
    }
}

#[test]
fn no_feature_and_no_tool_uses_itself_through_others() {
    let mut features: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources("src/features") {
        if source.path == "mod.rs" {
            continue;
        }
        let uses = source.uses(2).into_iter();
        let uses = uses.filter_map(|used| used.strip_prefix("features::").map(str::to_owned));
        let own = source.module().to_owned();
        let others = uses.filter(|used| *used != own);
        features.entry(own.clone()).or_default().extend(others);
    }
    assert_eq!(circle(&features), None, "features");
    for folder in ["bench/src", "proofs/src"] {
        let sources = sources(folder);
        let modules: BTreeSet<String> = sources
            .iter()
            .map(|source| source.module().to_owned())
            .collect();
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for source in sources.iter().filter(|source| source.path != "main.rs") {
            let own = source.module().to_owned();
            let others = source.uses(1).into_iter();
            let others = others.filter(|used| *used != own && modules.contains(used));
            uses.entry(own.clone()).or_default().extend(others);
        }
        assert_eq!(circle(&uses), None, "{folder}");
    }
}

#[test]
fn wire_types_and_sql_stay_where_they_belong() {
    for source in sources("src") {
        for (dependency, places) in ONLY_IN {
            let is_allowed = places.iter().any(|place| {
                source.path.starts_with(place)
                    || source.path.ends_with(place)
                    || source.path.contains(place)
            });
            assert!(
                is_allowed || !source.code.contains(dependency),
                "{} names {dependency}: it belongs into api.rs, grpc/, store.rs or db/",
                source.path
            );
        }
    }
}

#[test]
fn models_are_pure() {
    let sources = sources("src/features");
    let models = sources
        .iter()
        .filter(|source| source.path.ends_with("/model.rs") || source.path.contains("/model/"));
    let mut count = 0;
    for source in models {
        count += 1;
        for word in NOT_IN_MODELS {
            assert!(
                !source.code.contains(word),
                "src/features/{} names {word}: a model has no I/O, no wire and no SQL",
                source.path
            );
        }
    }
    assert!(count > 3, "there are models");
}

#[test]
fn a_circle_is_found() {
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            uses.entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        uses
    };
    assert_eq!(circle(&uses(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = circle(&uses(&[("a", "b"), ("b", "c"), ("c", "a")]));
    assert_eq!(found.unwrap(), ["a", "b", "c", "a"]);
    let source = Source {
        path: "commit/batch.rs".to_owned(),
        code: "use crate::{db::{Tx, rows}, auth};\ncrate::features::leads::get();".to_owned(),
    };
    let used: Vec<_> = source.uses(2).into_iter().collect();
    assert_eq!(used, ["auth", "db::Tx", "db::rows", "features::leads"]);
}

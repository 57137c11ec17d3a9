//! The inputs of cargo-fuzz (`fuzz/`), and some hundreds of inputs derived from each, in every run of the tests.
//! See `fuzz/README.md` for long runs.

mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use targets::{Fuzz, TARGETS};

/// How many inputs are derived from each stored one.
const MUTATIONS: usize = 200;

/// The stored inputs of a target, by their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(crate::ROOT).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.clone(), fs::read(file).unwrap()))
        .collect()
}

/// One mutation of an input.
#[derive(Clone, Debug)]
enum Mutation {
    Set(u8),
    Flip(u8),
    Insert(Vec<u8>),
    Cut,
    Double,
}

impl Mutation {
    fn apply(&self, at: usize, bytes: &mut Vec<u8>) {
        let at = at % (bytes.len() + 1);
        match self {
            Self::Set(byte) => bytes.get_mut(at).into_iter().for_each(|old| *old = *byte),
            Self::Flip(bit) => bytes
                .get_mut(at)
                .into_iter()
                .for_each(|old| *old ^= 1 << bit),
            Self::Insert(new) => {
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Cut => bytes.truncate(at),
            Self::Double => bytes.extend_from_within(at..),
        }
    }
}

fn mutations() -> impl Strategy<Value = Vec<(usize, Mutation)>> {
    let mutation = prop_oneof![
        any::<u8>().prop_map(Mutation::Set),
        (0..8_u8).prop_map(Mutation::Flip),
        prop::collection::vec(any::<u8>(), 1..9).prop_map(Mutation::Insert),
        Just(Mutation::Cut),
        Just(Mutation::Double),
    ];
    prop::collection::vec((any::<usize>(), mutation), 1..5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bytes_bring_the_service_to_its_knees() {
    let fuzz = Fuzz::start().await;
    // The same inputs in every run, so that everybody can reproduce a failure.
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    for target in TARGETS {
        let kept = corpus(target);
        assert!(kept.len() >= 5, "{target} has next to no corpus");
        for (file, bytes) in kept {
            eprintln!("{}", file.display());
            fuzz.feed(target, &bytes).await;
            // The largest possible requests are slow.
            let mutations_of_each = match target {
                "repeats" => MUTATIONS / 10,
                _ => MUTATIONS,
            };
            for _ in 0..mutations_of_each {
                let mut input = bytes.clone();
                for (at, mutation) in mutations().new_tree(&mut runner).unwrap().current() {
                    mutation.apply(at, &mut input);
                }
                eprintln!("  {input:?}");
                fuzz.feed(target, &input).await;
            }
        }
    }
}

//! The proofs. Each says in its header what it does and which seeded bug shows that it can fail.

use anyhow::Result;
use futures_util::future::BoxFuture;
use leadsmith::seeded::Bug;

use crate::harness::context::Context;
use crate::harness::database::{BOTH, Kind};
use crate::harness::report::Findings;

mod kill;

/// A promise and how it is tried.
pub struct Proof {
    /// What it is called by.
    pub name: &'static str,
    /// What must hold, in the words of those who rely on it.
    pub promise: &'static str,
    /// Where it is tried.
    pub databases: &'static [Kind],
    /// The bugs that it is there to find, and where each shows.
    pub bugs: &'static [(Bug, &'static [Kind])],
    /// Tries it.
    pub run: for<'a> fn(&'a Context<'a>) -> BoxFuture<'a, Result<Findings>>,
}

impl Proof {
    /// The bugs that show on this database.
    pub fn bugs_on(&self, kind: Kind) -> impl Iterator<Item = Bug> {
        let bugs = self.bugs.iter();
        bugs.filter(move |(_, kinds)| kinds.contains(&kind))
            .map(|(bug, _)| *bug)
    }
}

/// All of them.
pub const PROOFS: &[Proof] = &[Proof {
    name: "kill",
    promise: "What was answered OK is still there after the power went",
    databases: BOTH,
    bugs: &[(Bug::AnswerBeforeCommit, BOTH)],
    run: |context| Box::pin(kill::run(context)),
}];

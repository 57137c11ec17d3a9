//! What a proof found, as a table.

use std::fmt::Write as _;

use anyhow::Result;

use super::bugs::Bug;
use super::database::Kind;
use crate::proofs::Proof;

/// What a proof did and saw, and which promises were broken meanwhile.
#[derive(Debug, Default)]
pub struct Findings {
    facts: Vec<(String, String)>,
    broken: Vec<String>,
}

/// Of broken promises of one run so many are told; the rest is counted.
const TOLD: usize = 12;

impl Findings {
    /// Notes what was done or measured.
    pub fn fact(&mut self, what: &str, value: impl ToString) {
        self.facts.push((what.to_owned(), value.to_string()));
    }

    /// Notes that a promise was broken.
    pub fn broke(&mut self, what: impl Into<String>) {
        self.broken.push(what.into());
    }

    /// Notes that a promise was broken unless it held.
    pub fn expect(&mut self, held: bool, what: impl FnOnce() -> String) {
        if !held {
            self.broke(what());
        }
    }

    /// Whether there is no need to look on.
    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// The findings of a proof that comes to its end.
    ///
    /// # Errors
    /// [`Broken`], when a promise was.
    pub fn finish(self) -> Result<Self> {
        match self.broken.is_empty() {
            true => Ok(self),
            false => Err(Broken(self).into()),
        }
    }
}

/// A broken promise: what a proof with a seeded bug has to end with.
#[derive(Debug)]
pub struct Broken(Findings);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.broken.join("; "))
    }
}

impl std::error::Error for Broken {}

/// How a run ended.
pub struct Verdict {
    findings: Findings,
    /// The proof could not be carried through.
    trouble: Option<String>,
    bug: Option<Bug>,
}

impl Verdict {
    /// Of a run against a service with this bug, or none.
    pub fn of(outcome: Result<Findings>, bug: Option<Bug>) -> Self {
        let (findings, trouble) = match outcome {
            Ok(findings) => (findings, None),
            Err(error) => match error.downcast::<Broken>() {
                Ok(Broken(findings)) => (findings, None),
                Err(error) => (Findings::default(), Some(format!("{error:#}"))),
            },
        };
        Self {
            findings,
            trouble,
            bug,
        }
    }

    /// Whether everything is as it should be: with a bug, that it was found.
    pub fn holds(&self) -> bool {
        self.trouble.is_none() && self.findings.is_broken() == self.bug.is_some()
    }

    /// For people.
    pub fn table(&self, proof: &Proof, kind: Kind) -> String {
        let findings = &self.findings;
        let mut text = format!("\n{} on {kind}: {}\n", proof.name, proof.promise);
        if let Some(bug) = self.bug {
            let _ = writeln!(text, "  with the seeded bug {bug}");
        }
        let widest = findings.facts.iter().map(|(what, _)| what.len()).max();
        let width = widest.unwrap_or(0) + 2;
        for (what, value) in &findings.facts {
            let _ = writeln!(text, "  {what:<width$}{value}");
        }
        for broken in findings.broken.iter().take(TOLD) {
            let _ = writeln!(text, "  BROKEN: {broken}");
        }
        let more = findings.broken.len().saturating_sub(TOLD);
        if more > 0 {
            let _ = writeln!(text, "  BROKEN: and {more} more");
        }
        if let Some(trouble) = &self.trouble {
            let _ = writeln!(text, "  could not be carried through: {trouble}");
        }
        let end = match (self.bug, self.holds()) {
            (None, true) => "holds",
            (None, false) => "does not hold",
            (Some(_), true) => "the bug was found",
            (Some(_), false) => "the bug was not found",
        };
        text + "  " + end
    }
}

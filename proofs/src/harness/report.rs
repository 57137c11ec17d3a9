//! The findings of a proof, printed as a table.

use std::fmt::Write as _;

use anyhow::Result;

use super::bugs::Bug;
use super::database::Kind;

/// What a proof did and measured, and which promises were broken.
#[derive(Debug, Default)]
pub struct Findings {
    facts: Vec<(String, String)>,
    broken: Vec<String>,
}

/// At most this many broken promises of a run are printed. The rest are counted.
const PRINTED: usize = 12;

impl Findings {
    /// Records what was done or measured.
    pub fn fact(&mut self, what: &str, value: impl ToString) {
        self.facts.push((what.to_owned(), value.to_string()));
    }

    /// Records a broken promise.
    pub fn broke(&mut self, what: impl Into<String>) {
        self.broken.push(what.into());
    }

    /// Records a broken promise if the condition is false.
    pub fn expect(&mut self, held: bool, what: impl FnOnce() -> String) {
        if !held {
            self.broke(what());
        }
    }

    /// Whether a promise is already broken, so that the proof may stop early.
    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Completes a proof.
    ///
    /// # Errors [`Broken`], if a promise was broken.
    pub fn finish(self) -> Result<Self> {
        match self.broken.is_empty() {
            true => Ok(self),
            false => Err(Broken(self).into()),
        }
    }
}

/// The label for the number of calls with this outcome: "OK" or the reason of an error.
pub fn outcome_label(reason: &str) -> String {
    match reason {
        "OK" => "succeeded".to_owned(),
        _ => format!("failed with {reason}"),
    }
}

/// A broken promise. A proof with a seeded bug must end with this error.
#[derive(Debug)]
pub struct Broken(Findings);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.broken.join("; "))
    }
}

impl std::error::Error for Broken {}

/// The result of a run.
pub struct Verdict {
    findings: Findings,
    /// The error that prevented the proof from completing.
    error_text: Option<String>,
    bug: Option<Bug>,
}

impl Verdict {
    /// The result of a run against a service with this bug, or without one.
    pub fn of(outcome: Result<Findings>, bug: Option<Bug>) -> Self {
        let (findings, error_text) = match outcome {
            Ok(findings) => (findings, None),
            Err(error) => match error.downcast::<Broken>() {
                Ok(Broken(findings)) => (findings, None),
                Err(error) => (Findings::default(), Some(format!("{error:#}"))),
            },
        };
        Self {
            findings,
            error_text,
            bug,
        }
    }

    /// Whether the result is the expected one. With a bug, the bug must have been found.
    pub fn holds(&self) -> bool {
        self.error_text.is_none() && self.findings.is_broken() == self.bug.is_some()
    }

    /// The result as text for people.
    pub fn table(&self, name: &str, promise: &str, kind: Kind) -> String {
        let findings = &self.findings;
        let mut text = format!("\n{} on {kind}: {}\n", name, promise);
        if let Some(bug) = self.bug {
            let _ = writeln!(text, "  with the seeded bug {bug}");
        }
        let widest = findings.facts.iter().map(|(what, _)| what.len()).max();
        let width = widest.unwrap_or(0) + 2;
        for (what, value) in &findings.facts {
            let _ = writeln!(text, "  {what:<width$}{value}");
        }
        for broken in findings.broken.iter().take(PRINTED) {
            let _ = writeln!(text, "  BROKEN: {broken}");
        }
        let more = findings.broken.len().saturating_sub(PRINTED);
        if more > 0 {
            let _ = writeln!(text, "  BROKEN: and {more} more");
        }
        if let Some(error_text) = &self.error_text {
            let _ = writeln!(text, "  could not be completed: {error_text}");
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

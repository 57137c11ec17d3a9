//! The proofs. The header of each says what it does and which seeded bug shows that it can fail.

use anyhow::Result;
use futures_util::future::BoxFuture;

use crate::harness::bugs::Bug;
use crate::harness::context::Context;
use crate::harness::database::{BOTH, Kind};
use crate::harness::report::Findings;

mod alerts;
mod amplification;
mod argon2_flood;
mod backup;
mod bytes;
mod cancel_storm;
mod claims;
mod close_race;
mod convert_race;
mod disk;
mod drain;
mod failover;
mod frames;
mod histories;
mod idempotency;
mod kill;
mod linearizable;
mod lockout;
mod matrix;
mod neighbours;
mod pool;
mod revoke;
mod secrets;
mod strangers;
mod suite;
mod sync;
mod timing;
mod tls;
mod tokens;
mod upgrade;
mod watch;

/// A promise and the function that tests it.
pub struct Proof {
    /// The name on the command line.
    pub name: &'static str,
    /// What must hold, in the words of its users.
    pub promise: &'static str,
    /// The databases on which it is tested.
    pub databases: &'static [Kind],
    /// The seeded bugs that it must find, and the databases on which each has an effect.
    pub bugs: &'static [(Bug, &'static [Kind])],
    /// Runs the proof.
    pub run: for<'a> fn(&'a Context<'a>) -> BoxFuture<'a, Result<Findings>>,
}

impl Proof {
    /// The bugs that have an effect on this database.
    pub fn bugs_on(&self, kind: Kind) -> impl Iterator<Item = Bug> {
        let bugs = self.bugs.iter();
        bugs.filter(move |(_, kinds)| kinds.contains(&kind))
            .map(|(bug, _)| *bug)
    }
}

const SQLITE: &[Kind] = &[Kind::Sqlite];
const POSTGRES: &[Kind] = &[Kind::Postgres];

/// All proofs.
pub const PROOFS: &[Proof] = &[
    Proof {
        name: "kill",
        promise: "Every acknowledged change is present and complete after the server is killed",
        databases: BOTH,
        bugs: &[("answer-before-commit", BOTH)],
        run: |context| Box::pin(kill::run(context)),
    },
    Proof {
        name: "linearizable",
        promise: "Concurrent callers see a lead as if their calls had run one after the other",
        databases: BOTH,
        bugs: &[("lost-update", POSTGRES), ("answer-before-commit", SQLITE)],
        run: |context| Box::pin(linearizable::run(context)),
    },
    Proof {
        name: "convert-race",
        promise: "A lead converts once, however many calls race, and the other calls fail with the reason",
        databases: BOTH,
        bugs: &[("convert-twice", BOTH)],
        run: |context| Box::pin(convert_race::run(context)),
    },
    Proof {
        name: "close-race",
        promise: "An opportunity is closed once until it is reopened, and no edit changes or reopens a closed one",
        databases: BOTH,
        bugs: &[("closed-is-edited", BOTH)],
        run: |context| Box::pin(close_race::run(context)),
    },
    Proof {
        name: "histories",
        promise: "Concurrent calls on a lead, its order, opportunity and client have the effects of one order of the calls",
        databases: BOTH,
        bugs: &[("revert-keeps-client", BOTH)],
        run: |context| Box::pin(histories::run(context)),
    },
    Proof {
        name: "tests",
        promise: "Lookups find exactly what they should, and random calls do what a small model of the records says",
        databases: BOTH,
        bugs: &[
            ("query-not-folded", BOTH),
            ("phone-not-compared", BOTH),
            ("missing-shifts", BOTH),
            ("deactivated-uncounted", BOTH),
            ("skip-frees-all", BOTH),
            ("archived-takes-orders", BOTH),
            ("revert-keeps-client", BOTH),
        ],
        run: |context| Box::pin(suite::run(context)),
    },
    Proof {
        name: "claims",
        promise: "One worker at a time holds an action, over all servers and whatever their clocks say, and none is forgotten",
        databases: BOTH,
        bugs: &[
            ("claim-ignores-lease", BOTH),
            ("claims-by-own-clock", POSTGRES),
        ],
        run: |context| Box::pin(claims::run(context)),
    },
    Proof {
        name: "idempotency",
        promise: "A request id has one effect and one response, and only for its own principal",
        databases: BOTH,
        bugs: &[("answer-not-kept", BOTH)],
        run: |context| Box::pin(idempotency::run(context)),
    },
    Proof {
        name: "cancel-storm",
        promise: "Clients that disconnect leave no change half done and no connection damaged",
        databases: POSTGRES,
        bugs: &[("change-in-handler", POSTGRES)],
        run: |context| Box::pin(cancel_storm::run(context)),
    },
    Proof {
        name: "pool",
        promise: "When the database is busy, calls fail soon with that reason, and health checks still respond",
        databases: POSTGRES,
        bugs: &[("patient-pool", POSTGRES)],
        run: |context| Box::pin(pool::run(context)),
    },
    Proof {
        name: "strangers",
        promise: "Calls with unknown tokens do not keep valid callers out",
        databases: BOTH,
        bugs: &[("strangers-unlimited", BOTH)],
        run: |context| Box::pin(strangers::run(context)),
    },
    Proof {
        name: "neighbours",
        promise: "Slow or large lists cause no other call to fail, and take little memory and disk",
        databases: BOTH,
        bugs: &[
            ("lists-unlimited", BOTH),
            ("pages-uncut", BOTH),
            ("log-unkept", SQLITE),
        ],
        run: |context| Box::pin(neighbours::run(context)),
    },
    Proof {
        name: "lockout",
        promise: "Of many guesses of a password only five are verified, even if all are made at once",
        databases: BOTH,
        bugs: &[("claim-afterwards", BOTH)],
        run: |context| Box::pin(lockout::run(context)),
    },
    Proof {
        name: "revoke",
        promise: "A revoked token is rejected at once on the server that revoked it, and soon on every other",
        databases: BOTH,
        bugs: &[("revoked-stays-cached", BOTH)],
        run: |context| Box::pin(revoke::run(context)),
    },
    Proof {
        name: "drain",
        promise: "A server that is asked to stop responds to every call that it has admitted, and stops in time",
        databases: BOTH,
        bugs: &[("cut-off", BOTH)],
        run: |context| Box::pin(drain::run(context)),
    },
    Proof {
        name: "failover",
        promise: "PostgreSQL may restart or fail over: no acknowledged change is lost or made twice",
        databases: POSTGRES,
        bugs: &[("outage-is-fault", POSTGRES), ("seen-is-safe", POSTGRES)],
        run: |context| Box::pin(failover::run(context)),
    },
    Proof {
        name: "watch",
        promise: "Every stream of events equals the history, whatever is restarted, held open or deleted, and wherever it resumes",
        databases: BOTH,
        bugs: &[
            ("watch-by-number", POSTGRES),
            ("checkpoint-ahead", BOTH),
            ("retention-race", BOTH),
        ],
        run: |context| Box::pin(watch::run(context)),
    },
    Proof {
        name: "alerts",
        promise: "Every alert fires while its fault lasts, and clears when the fault is corrected",
        databases: POSTGRES,
        bugs: &[("outage-unmeasured", POSTGRES)],
        run: |context| Box::pin(alerts::run(context)),
    },
    Proof {
        name: "upgrade",
        promise: "A new version may start beside the previous one, and replicas together, or be killed while starting",
        databases: BOTH,
        bugs: &[
            ("migrate-unlocked", BOTH),
            ("retyped-column", POSTGRES),
            ("rows-left-behind", SQLITE),
        ],
        run: |context| Box::pin(upgrade::run(context)),
    },
    Proof {
        name: "backup",
        promise: "A backup contains everything of one moment, or there is no backup",
        databases: BOTH,
        bugs: &[("torn-backup", SQLITE), ("history-apart", POSTGRES)],
        run: |context| Box::pin(backup::run(context)),
    },
    Proof {
        name: "tls",
        promise: "No client is admitted in clear, with an old TLS version, or with a wrong certificate",
        databases: SQLITE,
        bugs: &[("no-certificate-asked", SQLITE)],
        run: |context| Box::pin(tls::run(context)),
    },
    Proof {
        name: "frames",
        promise: "Hand-made HTTP/2 has almost no effect on other callers",
        databases: SQLITE,
        bugs: &[("large-headers", SQLITE)],
        run: |context| Box::pin(frames::run(context)),
    },
    Proof {
        name: "bytes",
        promise: "Whatever bytes arrive, the response is the one that the contract defines",
        databases: BOTH,
        bugs: &[("large-messages", BOTH)],
        run: |context| Box::pin(bytes::run(context)),
    },
    Proof {
        name: "amplification",
        promise: "Small requests take little memory, whatever they contain and whether or not their responses are read",
        databases: BOTH,
        bugs: &[("unread-uncounted", BOTH)],
        run: |context| Box::pin(amplification::run(context)),
    },
    Proof {
        name: "matrix",
        promise: "Every RPC admits the callers that it should, and no others",
        databases: BOTH,
        bugs: &[("any-role", BOTH)],
        run: |context| Box::pin(matrix::run(context)),
    },
    Proof {
        name: "tokens",
        promise: "A page token is valid for the page that it was made for, and for nothing else",
        databases: BOTH,
        bugs: &[("token-unsealed", BOTH)],
        run: |context| Box::pin(tokens::run(context)),
    },
    Proof {
        name: "secrets",
        promise: "No password, token or key is recorded in clear anywhere",
        databases: BOTH,
        bugs: &[("logs-tokens", BOTH)],
        run: |context| Box::pin(secrets::run(context)),
    },
    Proof {
        name: "argon2-flood",
        promise: "Many concurrent sign-ins take little memory and barely slow other calls",
        databases: SQLITE,
        bugs: &[("hashing-unlimited", SQLITE)],
        run: |context| Box::pin(argon2_flood::run(context)),
    },
    Proof {
        name: "timing",
        promise: "The time that a sign-in takes does not reveal which users exist",
        databases: BOTH,
        bugs: &[("no-decoy", BOTH)],
        run: |context| Box::pin(timing::run(context)),
    },
    Proof {
        name: "sync",
        promise: "A change is acknowledged only after it is synced to disk",
        databases: BOTH,
        bugs: &[("answer-before-commit", BOTH)],
        run: |context| Box::pin(sync::run(context)),
    },
    Proof {
        name: "disk",
        promise: "A full, failing or slow disk loses no acknowledged change",
        databases: SQLITE,
        bugs: &[("spoilt-connection", SQLITE)],
        run: |context| Box::pin(disk::run(context)),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::harness::bugs;

    #[test]
    fn every_bug_applies_to_this_tree_and_is_what_a_proof_finds() -> Result<()> {
        bugs::patched()?;
        let found = PROOFS.iter().flat_map(|proof| proof.bugs);
        let found: BTreeSet<&str> = found.map(|(bug, _)| *bug).collect();
        let names = bugs::names()?;
        assert_eq!(found, names.iter().map(String::as_str).collect());
        Ok(())
    }
}

//! Bugs that can be turned on, so that each proof in `proofs/` is shown to find what it is there for.
//!
//! A build without the feature `seeded-bugs` has none: [`sown`] is false there, and the compiler leaves
//! out what it guards. A build with it says so in its version and when it starts.

use crate::wire::words::words;

/// The environment variable that names the bug to turn on.
pub const VARIABLE: &str = "LEADSMITH_SEEDED_BUG";

/// What `--version` says.
pub const VERSION: &str = if cfg!(feature = "seeded-bugs") {
    concat!(env!("CARGO_PKG_VERSION"), "+seeded-bugs")
} else {
    env!("CARGO_PKG_VERSION")
};

words! {
    /// The bugs, by what goes wrong.
    pub enum Bug {
        /// A change is answered before it is committed.
        AnswerBeforeCommit = "answer-before-commit",
        /// Nothing is locked, and a change is written over whatever version is there.
        LostUpdate = "lost-update",
        /// A lead that is converted already is converted again.
        ConvertTwice = "convert-twice",
        /// No answer is kept under a request id.
        AnswerNotKept = "answer-not-kept",
        /// A transaction is dropped where its caller hangs up.
        ChangeInHandler = "change-in-handler",
        /// Who has a connection waits for a locked table for a long time, and so does everybody behind.
        PatientPool = "patient-pool",
        /// A password attempt counts only when it has failed.
        ClaimAfterwards = "claim-afterwards",
        /// Calls under way are cut off when the service is told to stop.
        CutOff = "cut-off",
        /// A database that goes away is taken for a fault of the service.
        OutageIsFault = "outage-is-fault",
        /// What PostgreSQL shows is taken for what its standby has.
        SeenIsSafe = "seen-is-safe",
        /// Replicas do not wait for each other's migrations.
        MigrateUnlocked = "migrate-unlocked",
        /// A migration changes a column's type in one step.
        RetypedColumn = "retyped-column",
        /// A migration makes a table anew and leaves behind what was in it.
        RowsLeftBehind = "rows-left-behind",
        /// Who connects is not asked for a certificate.
        NoCertificateAsked = "no-certificate-asked",
        /// Headers may be as long as anybody likes.
        LargeHeaders = "large-headers",
        /// Messages may be as long as anybody likes.
        LargeMessages = "large-messages",
        /// Whoever has a token may do everything.
        AnyRole = "any-role",
        /// A page token is believed unseen.
        TokenUnsealed = "token-unsealed",
        /// Tokens are logged.
        LogsTokens = "logs-tokens",
        /// Passwords are hashed many at once.
        HashingUnlimited = "hashing-unlimited",
        /// A username that nobody has is answered at once.
        NoDecoy = "no-decoy",
        /// A connection goes on being used after its COMMIT failed.
        SpoiltConnection = "spoilt-connection",
        /// A backup is a plain copy of the database's file, without its log.
        TornBackup = "torn-backup",
        /// What was read before a token was revoked is kept after it.
        RevokedComesBack = "revoked-comes-back",
        /// Responses may be left unread without a limit.
        UnreadUncounted = "unread-uncounted",
        /// A change and its history are two transactions.
        HistoryApart = "history-apart",
        /// Whatever token comes is looked up, however many come at once.
        StrangersUnlimited = "strangers-unlimited",
        /// One principal's lists may have every connection.
        ListsUnlimited = "lists-unlimited",
        /// Pages are read whole, however large their rows.
        PagesUncut = "pages-uncut",
        /// SQLite's log is not restarted while queries overlap.
        LogUnkept = "log-unkept",
    }
}

/// Whether a bug is turned on.
#[cfg(not(feature = "seeded-bugs"))]
pub const fn sown(_bug: Bug) -> bool {
    false
}

/// Whether a bug is turned on.
#[cfg(feature = "seeded-bugs")]
pub fn sown(bug: Bug) -> bool {
    static SOWN: std::sync::LazyLock<Option<Bug>> =
        std::sync::LazyLock::new(|| Bug::from_word(&std::env::var(VARIABLE).ok()?));
    *SOWN == Some(bug)
}

/// Says in the log that this build is not one to serve with.
pub fn warn() {
    if cfg!(feature = "seeded-bugs") {
        let bug = std::env::var(VARIABLE).unwrap_or_default();
        tracing::warn!(bug, "this build has bugs on purpose: never serve with it");
    }
}

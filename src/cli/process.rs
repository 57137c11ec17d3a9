//! What the operating system allows this process and tells it: signals, the limit of open files, and the user.

use std::ops::RangeInclusive;

use rustix::process::{self, Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{ServeSettings, StartupError};

/// Signals that would end the process at once and that mean nothing to a server. With XFSZ ignored, a write beyond the
/// limit of file sizes only fails. PIPE is ignored from the start: Rust's runtime does it.
const IGNORED: [process::Signal; 9] = [
    process::Signal::USR1,
    process::Signal::USR2,
    process::Signal::ALARM,
    process::Signal::STKFLT,
    process::Signal::XFSZ,
    process::Signal::VTALARM,
    process::Signal::PROF,
    process::Signal::IO,
    process::Signal::POWER,
];

/// The numbers of the real-time signals on Linux. They mean nothing to a server either.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Finish the running calls, and stop.
    Stop,
    /// Read the files again that can change while the server runs.
    Reload,
}

/// The signals that a server handles.
pub struct Signals {
    stop: [Signal; 4],
    reload: Signal,
    /// As long as they exist, their signals do not end the process.
    _ignored: Vec<Signal>,
}

impl Signals {
    /// From now on, only SIGKILL ends the process without its doing.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn install() -> Result<Self, StartupError> {
        let install = |kind| {
            signal(kind).map_err(|error| {
                StartupError::new(format!("the signal handlers cannot be installed: {error}"))
            })
        };
        let ignored = IGNORED
            .iter()
            .map(|signal| signal.as_raw())
            .chain(REAL_TIME);
        let ignored = ignored.map(|number| install(SignalKind::from_raw(number)));
        Ok(Self {
            stop: [
                install(SignalKind::terminate())?,
                install(SignalKind::interrupt())?,
                install(SignalKind::quit())?,
                // The soft limit of the time on the processor is reached. At the hard one the process is killed.
                install(SignalKind::from_raw(process::Signal::XCPU.as_raw()))?,
            ],
            reload: install(SignalKind::hangup())?,
            // A number that the C library keeps for itself is not sent by anybody else.
            _ignored: ignored.flatten().collect(),
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Request {
        let [terminate, interrupt, quit, cpu_time] = &mut self.stop;
        tokio::select! {
            _ = terminate.recv() => Request::Stop,
            _ = interrupt.recv() => Request::Stop,
            _ = quit.recv() => Request::Stop,
            _ = cpu_time.recv() => Request::Stop,
            _ = self.reload.recv() => Request::Reload,
        }
    }
}

/// The open files that are neither connections to clients nor to the database, at most.
const OTHER_FILES: u64 = 64;
/// The files of one connection to SQLite: the database, its log and the index of the log, and for a moment a temporary
/// one.
const FILES_PER_SQLITE_CONNECTION: u64 = 4;

/// Raises the limit of open files as far as allowed, and warns if that is less than the settings may need.
pub fn raise_file_limit(settings: &ServeSettings) {
    let before = getrlimit(Resource::Nofile);
    let mut wanted = before;
    wanted.current = before.maximum;
    // It may fail on systems whose largest number of files is below their limit.
    let _ = setrlimit(Resource::Nofile, wanted);
    // None means that there is no limit.
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let limits = &settings.limits;
    let sqlite = u64::from(limits.sqlite_readers) * 3 / 2 + 2;
    let database = u64::from(limits.postgres_connections).max(sqlite * FILES_PER_SQLITE_CONNECTION);
    let needed = limits.max_connections as u64 + database + OTHER_FILES;
    if limit < needed {
        tracing::warn!(
            limit,
            needed,
            "the process may open fewer files than --max-connections needs: raise the hard limit (ulimit -Hn, \
             LimitNOFILE= of systemd, --ulimit nofile= of Docker), or lower --max-connections"
        );
    }
}

/// The user who runs this process: the name in the operating system, or `uid NUMBER` for a user without one.
pub fn user() -> String {
    let id = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(id).ok().flatten();
    user.map_or_else(|| format!("uid {id}"), |user| user.name)
}

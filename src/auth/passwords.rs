//! Hashes and verifies passwords with argon2id.
//!
//! argon2id uses much CPU time and memory on purpose. So it never runs on a thread that serves calls, and there are
//! never more hashes in progress than cores. This module must not use the database: no connection is held while a
//! password is hashed.

mod common;

use std::sync::Arc;
use std::time::Instant;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::MIN_PASSWORD_LENGTH;
use crate::core::text;
use crate::core::violations::{Reason, Violations};
use crate::error::{Error, Result};
use crate::metrics::{Limit, Metrics};
use crate::telemetry::traces::Span;

/// How many hashes may wait for a permit. More fail with `SERVER_OVERLOADED`.
const MAX_QUEUED: usize = 128;
/// The maximum length of a password, in bytes.
const MAX_LENGTH: usize = 1_024;
/// A username with fewer characters may be part of the password: nearly every password has it.
const MIN_USERNAME_IN_PASSWORD: usize = 3;

/// The hash that is verified against if the operator does not exist, so that it takes the same time. No password
/// hashes to zeros. The parameters are argon2's defaults, as in every hash of this service.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes and verifies passwords.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// One permit for each core.
    running: Arc<Semaphore>,
    /// Limits the hashes that run or wait.
    admitted: Arc<Semaphore>,
    max_admitted: usize,
    /// Where the hashes are measured, if they are.
    metrics: Option<Arc<Metrics>>,
    /// The minimum length of a new password, in bytes.
    min_length: usize,
}

impl Default for Passwords {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            running: Arc::new(Semaphore::new(cores)),
            admitted: Arc::new(Semaphore::new(cores + MAX_QUEUED)),
            max_admitted: cores + MAX_QUEUED,
            min_length: MIN_PASSWORD_LENGTH,
            metrics: None,
        }
    }
}

impl Passwords {
    /// New passwords must have at least this number of bytes.
    pub fn with_min_length(min_length: usize) -> Self {
        Self {
            min_length,
            ..Self::default()
        }
    }

    /// The same, with its hashes measured.
    pub fn measured(self, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// How many hashes run or wait, and how many may.
    pub fn usage(&self) -> (usize, usize) {
        let free = self.admitted.available_permits();
        (self.max_admitted.saturating_sub(free), self.max_admitted)
    }

    /// Reports the violations of a new password, apart from those of [`check_username`]. Its length is measured
    /// in NFC.
    pub fn check_new(&self, violations: &mut Violations, field: &str, password: &str) {
        let before = violations.count();
        let reason = match text::nfc(password).len() {
            0 => Some(Reason::Required),
            length if length < self.min_length => Some(Reason::TooShort),
            length if length > MAX_LENGTH => Some(Reason::TooLong),
            _ => None,
        };
        if let Some(reason) = reason {
            let problem = format_args!("must be {} to {MAX_LENGTH} bytes long", self.min_length);
            violations.add(field, reason, problem);
        }
        if password.chars().any(char::is_control) {
            violations.add(
                field,
                Reason::CharacterInvalid,
                "must not contain control characters such as tabs or line breaks, which cannot be entered at every \
                 prompt",
            );
        }
        if violations.count() == before && common::is_common(password) {
            violations.add(
                field,
                Reason::ValueNotAllowed,
                "is one of the most common passwords, which are guessed first: choose several unrelated words",
            );
        }
    }

    /// Waits until a core is free for a hash.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED` if too many wait already.
    pub async fn permit(&self) -> Result<HashPermit> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            if let Some(metrics) = &self.metrics {
                metrics.limits.refused(Limit::PasswordHashes);
            }
            return Err(Error::server_overloaded());
        };
        let _wait = Span::begin("wait");
        let started = Instant::now();
        let running = Arc::clone(&self.running).acquire_owned().await;
        if let Some(metrics) = &self.metrics {
            let waited = started.elapsed().as_secs_f64();
            metrics.password_wait_seconds.observe(waited);
        }
        Ok(HashPermit {
            metrics: self.metrics.clone(),
            _admitted: admitted,
            _running: running.map_err(Error::internal)?,
        })
    }

    /// The PHC string of `password`, in NFC, with a random salt.
    ///
    /// # Errors
    /// As [`Passwords::permit`].
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        let hash = move || {
            Argon2::default()
                .hash_password(to_nfc(&password).expose_secret().as_bytes())
                .map(|hash| hash.to_string())
                .map_err(Error::internal)
        };
        self.permit().await?.run(hash).await
    }
}

/// The permission to hash one password. It is held until the hash is done.
pub struct HashPermit {
    metrics: Option<Arc<Metrics>>,
    _admitted: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
}

impl HashPermit {
    /// Whether `hash` was made from `password`, whatever Unicode form its accents have. Without a hash the result
    /// is false and takes the same time.
    ///
    /// # Errors
    /// `INTERNAL` if `hash` is not a PHC string.
    pub async fn verify(self, password: SecretString, hash: Option<String>) -> Result<bool> {
        self.run(move || {
            let exists = hash.is_some();
            let hash = hash.unwrap_or_else(|| DECOY.to_owned());
            let hash = PasswordHash::new(&hash).map_err(Error::internal)?;
            let matches = |password: &SecretString| {
                let password = password.expose_secret().as_bytes();
                Argon2::default().verify_password(password, &hash).is_ok()
            };
            let normal = to_nfc(&password);
            // A hash from before passwords were normalised is of the password as it was sent.
            let other = normal.expose_secret() != password.expose_secret();
            Ok((matches(&normal) || (other && matches(&password))) && exists)
        })
        .await
    }

    /// The permit moves into the closure, because the work continues if the caller stops waiting.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _hash = Span::begin("hash password");
        tokio::task::spawn_blocking(move || {
            lower_thread_priority();
            let started = Instant::now();
            let result = work();
            if let Some(metrics) = &self.metrics {
                let time = started.elapsed().as_secs_f64();
                metrics.password_hash_seconds.observe(time);
            }
            drop(self);
            result
        })
        .await
        .map_err(Error::internal)?
    }
}

/// Gives the threads that serve calls precedence over this one, so that sign-ins barely slow down other calls.
/// A failure is ignored: hashing works at normal priority too.
fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// The nice value of a hashing thread. On a busy processor it gets about a tenth of the time of a call.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Normalises a password before it is hashed, because keyboards and systems compose accents differently.
fn to_nfc(password: &SecretString) -> SecretString {
    text::nfc(password.expose_secret()).into()
}

/// Reports a new password that contains the operator's username, in any letter case.
pub fn check_username(violations: &mut Violations, field: &str, password: &str, username: &str) {
    let is_long = username.chars().count() >= MIN_USERNAME_IN_PASSWORD;
    if is_long && text::fold(password).contains(&text::fold(username)) {
        violations.add(
            field,
            Reason::ValueNotAllowed,
            "must not contain the username",
        );
    }
}

/// Reports the violations of a password to verify: only those that would be unsafe to pass to argon2.
pub fn check_given(violations: &mut Violations, field: &str, password: &str) {
    let length = "must be 1 to 1,024 bytes long";
    if password.is_empty() {
        violations.add(field, Reason::Required, length);
    } else if text::nfc(password).len() > MAX_LENGTH {
        violations.add(field, Reason::TooLong, length);
    }
}

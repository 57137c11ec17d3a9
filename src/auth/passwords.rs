//! Hashing passwords with argon2id: slow and hungry on purpose, and therefore never on a thread that
//! answers calls, never more at once than there are cores, and never with a connection held.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::text;
use crate::wire::violations::{Reason, Violations};

/// How many may wait for their turn; more are refused.
const QUEUE: usize = 128;
/// The limits of a password, in bytes.
pub const LENGTH: std::ops::RangeInclusive<usize> = 12..=1024;

/// What is verified against when there is no operator, so that it takes as long: no password hashes
/// to zeros. Its parameters are argon2's defaults, which every hash here has.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Verifies and hashes passwords.
#[derive(Clone, Debug)]
pub struct Passwords {
    cores: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            queue: Arc::new(Semaphore::new(cores + QUEUE)),
        }
    }
}

impl Passwords {
    /// Waits for a core to hash on.
    ///
    /// # Errors
    /// [`Error::ServerOverloaded`] when too many wait already.
    pub async fn core(&self) -> Result<Core> {
        let Ok(place) = Arc::clone(&self.queue).try_acquire_owned() else {
            return Err(Error::ServerOverloaded);
        };
        let core = Arc::clone(&self.cores).acquire_owned().await;
        Ok(Core {
            _place: place,
            _core: core.map_err(Error::internal)?,
        })
    }

    /// The PHC string of `password`, in NFC, with a random salt.
    ///
    /// # Errors
    /// As [`Passwords::core`].
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        let hash = move || {
            Argon2::default()
                .hash_password(in_nfc(&password).expose_secret().as_bytes())
                .map(|hash| hash.to_string())
                .map_err(Error::internal)
        };
        self.core().await?.run(hash).await
    }
}

/// A core that is taken until the work on it is done.
pub struct Core {
    _place: OwnedSemaphorePermit,
    _core: OwnedSemaphorePermit,
}

impl Core {
    /// Whether `password` is what `hash` was made from, however its accents are composed. Without a hash
    /// it takes as long and is not.
    ///
    /// # Errors
    /// [`Error::Internal`] for a hash that is none.
    pub async fn verify(self, password: SecretString, hash: Option<String>) -> Result<bool> {
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| DECOY.to_owned());
            let hash = PasswordHash::new(&hash).map_err(Error::internal)?;
            let matches = |password: &SecretString| {
                let password = password.expose_secret().as_bytes();
                Argon2::default().verify_password(password, &hash).is_ok()
            };
            let normal = in_nfc(&password);
            // A hash from before passwords were normalised is of what was sent.
            let other = normal.expose_secret() != password.expose_secret();
            Ok((matches(&normal) || (other && matches(&password))) && known)
        })
        .await
    }

    /// The core moves into the closure: if the caller stops waiting, it stays taken until the work is
    /// done.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        tokio::task::spawn_blocking(move || {
            step_back();
            let result = work();
            drop(self);
            result
        })
        .await
        .map_err(Error::internal)?
    }
}

/// Lets the threads that answer calls go before this one, which hashes: whoever looks a lead up
/// notices little of others who sign in. Where that cannot be, everything goes on as it is.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// How much less of a busy processor a hash gets: about a tenth of what a call does.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// A password as it is hashed: keyboards and systems differ in how they compose an accent.
fn in_nfc(password: &SecretString) -> SecretString {
    text::nfc(password.expose_secret()).into()
}

/// Notes what is wrong with a password that somebody wants to have. Its length is that of its NFC.
pub fn check_new(violations: &mut Violations, field: &str, password: &str) {
    let reason = match text::nfc(password).len() {
        0 => Some(Reason::Required),
        length if length < *LENGTH.start() => Some(Reason::TooShort),
        length if length > *LENGTH.end() => Some(Reason::TooLong),
        _ => None,
    };
    if let Some(reason) = reason {
        let problem = format_args!("must be {} to {} bytes long", LENGTH.start(), LENGTH.end());
        violations.add(field, reason, problem);
    }
    if password.chars().any(char::is_control) {
        violations.add(
            field,
            Reason::CharacterInvalid,
            "must not contain control characters such as tab or line ends, which cannot be typed at \
             every prompt",
        );
    }
}

/// Notes what is wrong with a password that is to be verified: only what argon2 must not be fed.
pub fn check_given(violations: &mut Violations, field: &str, password: &str) {
    let length = "must be 1 to 1,024 bytes long";
    if password.is_empty() {
        violations.add(field, Reason::Required, length);
    } else if text::nfc(password).len() > *LENGTH.end() {
        violations.add(field, Reason::TooLong, length);
    }
}

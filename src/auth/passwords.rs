//! Hashing passwords with argon2id: slow and hungry on purpose, and therefore never on a thread that
//! answers calls, never more at once than there are cores, and never with a connection held.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::seeded::{Bug, sown};
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
        let cores = match sown(Bug::HashingUnlimited) {
            true => 32 * cores,
            false => cores,
        };
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

    /// The PHC string of `password` with a random salt.
    ///
    /// # Errors
    /// As [`Passwords::core`].
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        let hash = move || {
            Argon2::default()
                .hash_password(password.expose_secret().as_bytes())
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
    /// Whether `password` is what `hash` was made from. Without a hash it takes as long and is not.
    ///
    /// # Errors
    /// [`Error::Internal`] for a hash that is none.
    pub async fn verify(self, password: SecretString, hash: Option<String>) -> Result<bool> {
        self.run(move || {
            let known = hash.is_some();
            if !known && sown(Bug::NoDecoy) {
                return Ok(false);
            }
            let hash = hash.unwrap_or_else(|| DECOY.to_owned());
            let hash = PasswordHash::new(&hash).map_err(Error::internal)?;
            let matches = Argon2::default()
                .verify_password(password.expose_secret().as_bytes(), &hash)
                .is_ok();
            Ok(matches && known)
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

/// Notes what is wrong with a password that somebody wants to have.
pub fn check_new(violations: &mut Violations, field: &str, password: &str) {
    let reason = match password.len() {
        0 => Reason::Required,
        length if length < *LENGTH.start() => Reason::TooShort,
        length if length > *LENGTH.end() => Reason::TooLong,
        _ => return,
    };
    let problem = format_args!("must be {} to {} bytes long", LENGTH.start(), LENGTH.end());
    violations.add(field, reason, problem);
}

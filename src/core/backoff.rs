//! The pauses before retries. After the last pause, the operation fails.

use std::time::Duration;

const fn millis<const N: usize>(millis: [u64; N]) -> [Duration; N] {
    let mut pauses = [Duration::ZERO; N];
    let mut index = 0;
    while index < N {
        pauses[index] = Duration::from_millis(millis[index]);
        index += 1;
    }
    pauses
}

/// A transaction or a query whose connection was lost: in the meantime another server may become the
/// primary.
pub const RECONNECT: [Duration; 4] = millis([20, 100, 300, 1_000]);
/// The release of a password attempt, which is retried in the background.
pub const RELEASE: [Duration; 4] = millis([1_000, 5_000, 15_000, 60_000]);

//! What every target does: it feeds its bytes to a service that is started once.

use std::sync::LazyLock;

use tokio::runtime::Runtime;

#[path = "../../tests/it/fuzz/targets.rs"]
mod targets;

use targets::{Fuzz, TARGETS};

static STARTED: LazyLock<(Runtime, Fuzz)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let fuzz = runtime.block_on(Fuzz::start());
    (runtime, fuzz)
});

/// Feeds one input to a target.
pub fn feed(target: &str, bytes: &[u8]) {
    assert!(TARGETS.contains(&target), "the tests do not know {target}");
    let (runtime, fuzz) = &*STARTED;
    runtime.block_on(fuzz.feed(target, bytes));
}

//! Does the duration of a sign-in reveal whether a user exists? The proof compares a wrong password of an existing
//! user with an unknown username, and the same with locked usernames. The calls alternate, so that other load on
//! the machine affects all of them equally. Shown to fail by `no-decoy`.
//!
//! A locked username gets a different error by design: RESOURCE_EXHAUSTED, immediately, because nothing is
//! verified. It reveals that the username was tried too often, but not that it exists: unknown usernames are
//! locked by the same count.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use leadsmith_proto as proto;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, OPERATOR};
use crate::harness::report::Findings;

/// How many wrong passwords lock a username for an address.
const ATTEMPTS: usize = 5;
/// The largest difference of two medians that chance explains, in standard errors. By chance it is exceeded once
/// in about 10,000 runs.
const DEVIATIONS: f64 = 4.0;
/// A smaller difference cannot be measured over any network, in microseconds.
const FLOOR: f64 = 20.0;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = Caller::connect(&server.address, "").await?;
    let db = fixture.database.connect().await?;
    let samples = context.size(200, 10_000);
    let unlock = "DELETE FROM password_attempts";
    let mut random = context.random(0);

    let (mut user, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..samples {
        if number % (ATTEMPTS - 1) == 0 {
            db.execute(unlock).await?;
        }
        // In random order, so that neither is always first.
        let mut pair = [(OPERATOR, &mut user), ("nobody", &mut unknown)];
        random.shuffle(&mut pair);
        for (username, times) in pair {
            times.push(attempt(&caller, username, "SIGN_IN_FAILED").await?);
        }
    }
    compare("a wrong password", &mut user, &mut unknown, &mut findings);

    db.execute(unlock).await?;
    for username in [OPERATOR, "nobody"] {
        for _ in 0..ATTEMPTS {
            attempt(&caller, username, "SIGN_IN_FAILED").await?;
        }
    }
    let (mut user, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let mut pair = [(OPERATOR, &mut user), ("nobody", &mut unknown)];
        random.shuffle(&mut pair);
        for (username, times) in pair {
            times.push(attempt(&caller, username, "PASSWORD_ATTEMPTS_EXCEEDED").await?);
        }
    }
    compare("a locked username", &mut user, &mut unknown, &mut findings);
    db.close().await?;
    findings.finish()
}

/// Signs in with a wrong password and returns the duration.
async fn attempt(caller: &Caller, username: &str, expected: &str) -> Result<Duration> {
    let request = proto::SignInRequest {
        username: username.to_owned(),
        password: "the wrong password".to_owned(),
        ..Default::default()
    };
    let mut auth = caller.auth();
    let started = Instant::now();
    let response = auth.sign_in(request).await;
    let time = started.elapsed();
    let outcome = response
        .err()
        .map_or("OK".to_owned(), |status| reason(&status));
    ensure!(
        outcome == expected,
        "{username}: the outcome is {outcome}, not {expected}"
    );
    Ok(time)
}

fn compare(what: &str, user: &mut [Duration], unknown: &mut [Duration], findings: &mut Findings) {
    let (one, other) = (Median::of(user), Median::of(unknown));
    let difference = one.median - other.median;
    let error = one.error.hypot(other.error);
    findings.fact(
        what,
        format!(
            "existing user {:.0} µs, unknown user {:.0} µs, difference {difference:.0} ± {error:.0} \
             ({} samples each)",
            one.median,
            other.median,
            user.len()
        ),
    );
    findings.expect(difference.abs() < (DEVIATIONS * error).max(FLOOR), || {
        format!(
            "{what} reveals whether a user exists: difference {difference:.0} µs, \
                 standard error {error:.0}"
        )
    });
}

/// The median of some times and its standard error, in microseconds.
struct Median {
    median: f64,
    error: f64,
}

impl Median {
    fn of(times: &mut [Duration]) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an index below some thousands"
            )]
            let index = (times.len() as f64 * share) as usize;
            times
                .get(index)
                .map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        // The order statistics one standard deviation of a binomial count below and above the median.
        let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
        let side = 0.5 / count.sqrt();
        Self {
            median: at(0.5),
            error: (at(0.5 + side) - at(0.5 - side)) / 2.0,
        }
    }
}

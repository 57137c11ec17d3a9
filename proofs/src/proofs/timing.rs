//! Does the time that a sign-in takes tell whether there is such a user? A wrong password of a user, a
//! name that nobody has, and both again where the name is locked, one after the other in turns, so that
//! what else the machine does falls on all alike. Shown to fail by `no-decoy`.
//!
//! A locked name is answered differently by design: RESOURCE_EXHAUSTED, at once, since nothing is
//! verified. It tells that the name was tried too often, and not that anybody has it: names that nobody
//! has are locked by the same count.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use leadsmith::wire::proto;

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, OPERATOR};
use crate::harness::report::Findings;

/// After so many wrong passwords of a name from an address it is locked.
const ATTEMPTS: usize = 5;
/// How far apart two medians may be, in standard errors of their difference, before chance does not
/// explain it: by chance that happens once in about 10,000 runs.
const DEVIATIONS: f64 = 4.0;
/// A difference below this is lost in any network, in microseconds.
const FLOOR: f64 = 20.0;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, &[]).await?;
    let caller = Caller::connect(&server.address, "").await?;
    let db = desk.database.connect().await?;
    let samples = context.size(200, 10_000);
    let unlock = "DELETE FROM password_attempts";
    let mut random = context.random(0);

    let (mut user, mut nobody) = (Vec::new(), Vec::new());
    for number in 0..samples {
        if number % (ATTEMPTS - 1) == 0 {
            db.execute(unlock).await?;
        }
        // Each first as often as the other.
        let mut turns = [(OPERATOR, &mut user), ("nobody", &mut nobody)];
        random.shuffle(&mut turns);
        for (username, times) in turns {
            times.push(attempt(&caller, username, "SIGN_IN_FAILED").await?);
        }
    }
    compare("a wrong password", &mut user, &mut nobody, &mut findings);

    db.execute(unlock).await?;
    for username in [OPERATOR, "nobody"] {
        for _ in 0..ATTEMPTS {
            attempt(&caller, username, "SIGN_IN_FAILED").await?;
        }
    }
    let (mut user, mut nobody) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let mut turns = [(OPERATOR, &mut user), ("nobody", &mut nobody)];
        random.shuffle(&mut turns);
        for (username, times) in turns {
            times.push(attempt(&caller, username, "PASSWORD_ATTEMPTS_EXCEEDED").await?);
        }
    }
    compare("a locked name", &mut user, &mut nobody, &mut findings);
    db.close().await?;
    findings.finish()
}

/// Signs in with a wrong password and gives the time it took.
async fn attempt(caller: &Caller, username: &str, expected: &str) -> Result<Duration> {
    let request = proto::SignInRequest {
        username: username.to_owned(),
        password: "the wrong password".to_owned(),
        ..Default::default()
    };
    let mut auth = caller.auth();
    let begun = Instant::now();
    let answer = auth.sign_in(request).await;
    let time = begun.elapsed();
    let told = answer
        .err()
        .map_or("OK".to_owned(), |status| reason(&status));
    ensure!(
        told == expected,
        "{username} was told {told}, not {expected}"
    );
    Ok(time)
}

fn compare(what: &str, user: &mut [Duration], nobody: &mut [Duration], findings: &mut Findings) {
    let (one, other) = (Middle::of(user), Middle::of(nobody));
    let difference = one.median - other.median;
    let error = one.error.hypot(other.error);
    findings.fact(
        what,
        format!(
            "user {:.0} µs, nobody {:.0} µs, difference {difference:.0} ± {error:.0} ({} samples each)",
            one.median,
            other.median,
            user.len()
        ),
    );
    findings.expect(difference.abs() < (DEVIATIONS * error).max(FLOOR), || {
        format!("{what} tells a user from nobody: {difference:.0} µs, chance explains {error:.0}")
    });
}

/// The median of some times and its standard error, in microseconds.
struct Middle {
    median: f64,
    error: f64,
}

impl Middle {
    fn of(times: &mut [Duration]) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a place among some thousands"
            )]
            let place = (times.len() as f64 * share) as usize;
            times
                .get(place)
                .map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        // The order statistics one standard deviation of a binomial count to each side of the middle.
        let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
        let side = 0.5 / count.sqrt();
        Self {
            median: at(0.5),
            error: (at(0.5 + side) - at(0.5 - side)) / 2.0,
        }
    }
}

//! Sign-in: its rate compared with the hashing capacity of the cores, and its effect on the latency of Get.
//! Attempts per username are limited, so there are many operators, each of which signs in only once at a time.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use leadsmith_proto as proto;
use tonic::{Request, Response, Status};

use super::get::Get;
use super::memory::LOADED;
use crate::echo::Replies;
use crate::load::{self, Caller, Run, Workload};
use crate::process;
use crate::row::{Bar, Kind, Row, Spread};
use crate::samples::{RoundResult, Samples};
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Side, Testbed, data_sets};

/// The number of operators.
const OPERATORS: usize = 96;
/// The rate of Gets during the sign-ins, per second.
const GETS: f64 = 200.0;

/// Sign-in of an operator that is not signing in already.
struct SignIn {
    password: String,
    free: Mutex<Vec<usize>>,
}

fn username(index: usize) -> String {
    format!("bench-{index}")
}

impl Workload for SignIn {
    type Body = proto::SignInRequest;
    type Reply = proto::SignInResponse;
    type Expected = usize;

    fn next_call(&self, _: &mut fastrand::Rng) -> Result<(Self::Body, usize)> {
        let mut free = self.free.lock().unwrap_or_else(|held| held.into_inner());
        let index = free
            .pop()
            .context("more concurrent sign-ins than operators")?;
        let body = proto::SignInRequest {
            username: username(index),
            password: self.password.clone(),
            ..Default::default()
        };
        Ok((body, index))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.auth.sign_in(request).await
    }

    fn echo_replies(_: Vec<u8>) -> Replies {
        Replies::default()
    }

    fn check(&self, index: &usize, reply: &Self::Reply) -> Result<()> {
        let mut free = self.free.lock().unwrap_or_else(|held| held.into_inner());
        free.push(*index);
        ensure!(reply.token.starts_with("lss_"), "no token of a session");
        Ok(())
    }
}

/// How many passwords all cores could verify per second, computed from the time of one.
fn verifications(password: &str) -> Result<f64> {
    let failed = |error| anyhow::anyhow!("argon2 fails: {error}");
    let argon2 = Argon2::default();
    let hash = argon2.hash_password(password.as_bytes()).map_err(failed)?;
    let hash = hash.to_string();
    let hash = PasswordHash::new(&hash).map_err(|error| anyhow::anyhow!("no hash: {error}"))?;
    let mut times = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        argon2
            .verify_password(password.as_bytes(), &hash)
            .map_err(failed)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(cores as f64 / Spread::of(&times).median)
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let (programs, leads) = (setting.programs(), setting.leads);
    let data = data_sets(setting, programs, database, leads, Access::Changes).await?;
    let mut random = fastrand::Rng::new();
    let password: String = (0..20).map(|_| random.alphanumeric()).collect();
    for data in &data {
        for index in 0..OPERATORS {
            let create = ["operator", "create", "--role", "SALES", "--username"];
            let username = username(index);
            let arguments = [&create[..], &[username.as_str()]].concat();
            data.program
                .command_with(&data.storage, &arguments, &password)?;
        }
    }
    let bed = Testbed::on(setting, data).await?;
    rows.extend(rounds(&bed, &password).await?);
    bed.end().await?;
    Ok(rows)
}

/// The result of a build in one round.
struct SignedIn {
    /// The sign-ins.
    turn: RoundResult,
    /// The Gets before them.
    alone: Run,
    /// The Gets during them.
    beside: Run,
}

impl SignedIn {
    /// The ratio of the slowest Gets during the sign-ins to those before.
    fn slowdown(&self) -> f64 {
        self.beside.quantile(0.99) / self.alone.quantile(0.99)
    }
}

async fn round(bed: &Testbed<'_>, side: &Side, password: &str) -> Result<SignedIn> {
    let (setting, service) = (bed.setting, &side.service);
    let get = Arc::new(Get {
        leads: side.data.leads,
    });
    let sign_in = Arc::new(SignIn {
        password: password.to_owned(),
        free: Mutex::new((0..OPERATORS).collect()),
    });
    // The sign-ins use separate connections.
    let connections = setting.connections;
    let signers = Caller::connect_all(&service.address, &[], true, connections).await?;
    let alone = load::open(&service.callers, &get, GETS, setting.time).await?;
    let before = side.cpu()?;
    let (run, beside) = tokio::try_join!(
        load::closed(&signers, &sign_in, in_flight(setting), setting.time),
        load::open(&service.callers, &get, GETS, setting.time),
    )?;
    Ok(SignedIn {
        turn: RoundResult::new(run, before, side.cpu()?),
        alone,
        beside,
    })
}

fn in_flight(setting: &Setting) -> usize {
    setting.in_flight.min(OPERATORS)
}

async fn rounds(bed: &Testbed<'_>, password: &str) -> Result<[Row; 3]> {
    let setting = bed.setting;
    let (mut signing, mut gets) = (Samples::default(), Samples::default());
    for side in bed.sides() {
        round(bed, side, password).await?; // a warm-up
    }
    for index in 0..setting.rounds {
        let limit =
            tokio::task::block_in_place(|| setting.on_server_cores(|| verifications(password)))?;
        let mut sides = bed
            .in_order(index, async |side| round(bed, side, password).await)
            .await?;
        let other = (sides.len() > 1).then(|| sides.remove(1));
        let tested = sides.remove(0);
        gets.add("p50", tested.beside.quantile(0.5));
        gets.add("p99", tested.beside.quantile(0.99));
        gets.add("limit", tested.alone.quantile(0.99));
        gets.add("ratio", tested.slowdown());
        if let Some(other) = &other {
            let p50 = other.beside.quantile(0.5);
            gets.add("other", p50);
            gets.add("speed", p50 / tested.beside.quantile(0.5));
        }
        signing.add("limit", limit);
        signing.add("ratio", tested.turn.run.rate() / limit);
        let turns: Vec<RoundResult> = [Some(tested), other]
            .into_iter()
            .flatten()
            .map(|side| side.turn)
            .collect();
        signing.add_rates(&turns);
    }
    let (memory, peak) = process::memory(bed.tested().service.id())?;
    let ratio = signing.spread("ratio");
    Ok([
        Row {
            limit: signing.spread("limit"),
            bar: ratio.map(|ratio| Bar::at_least(0.9, " cores / argon2", ratio.median)),
            ratio,
            ..bed.rates("SignIn", in_flight(setting), &signing)
        },
        Row {
            memory: Some(memory),
            peak: Some(peak),
            bar: Some(Bar::at_most(LOADED, " MiB", peak)),
            ..bed.row(Kind::Memory, "Memory, SignIn", in_flight(setting))
        },
        bed.times("Get during SignIn, p99", 0, &gets, 3.0, " × p99 alone"),
    ])
}

//! Signing in: beside what the cores can verify, and what it does to those who call Get meanwhile.
//! A username has few places for attempts, so there are many operators, each of whom signs in once at
//! a time.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use leadsmith::wire::proto;
use tonic::{Request, Response, Status};

use super::get::Get;
use super::memory::LOADED;
use crate::data::DataSet;
use crate::echo::Answers;
use crate::load::{self, Caller, Work};
use crate::measure::Bed;
use crate::process;
use crate::report::{Bar, Row, Spread};
use crate::service::Program;
use crate::setting::Setting;

/// How many operators there are.
const OPERATORS: usize = 96;
/// How many Gets a second are called meanwhile.
const GETS: f64 = 200.0;

/// Sign-in of an operator who is not signing in.
struct SignIn {
    password: String,
    free: Mutex<Vec<usize>>,
}

fn username(index: usize) -> String {
    format!("bench-{index}")
}

impl Work for SignIn {
    type Body = proto::SignInRequest;
    type Answer = proto::SignInResponse;
    type Asked = usize;

    fn ask(&self, _: &mut fastrand::Rng) -> Result<(Self::Body, usize)> {
        let mut free = self.free.lock().unwrap_or_else(|held| held.into_inner());
        let index = free
            .pop()
            .context("more sign in at once than there are operators")?;
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
    ) -> Result<Response<Self::Answer>, Status> {
        caller.auth.sign_in(request).await
    }

    fn echoed(_: Vec<u8>) -> Answers {
        Answers::default()
    }

    fn check(&self, index: &usize, answer: &Self::Answer) -> Result<()> {
        let mut free = self.free.lock().unwrap_or_else(|held| held.into_inner());
        free.push(*index);
        ensure!(answer.token.starts_with("lss_"), "no token of a session");
        Ok(())
    }
}

/// How many passwords all cores could verify in a second, by the time of one.
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

pub async fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let data = data.copy().await?;
        let mut random = fastrand::Rng::new();
        let password: String = (0..20).map(|_| random.alphanumeric()).collect();
        let program = Program::build()?;
        for index in 0..OPERATORS {
            let create = ["operator", "create", "--role", "SALES", "--username"];
            let username = username(index);
            let arguments = [&create[..], &[username.as_str()]].concat();
            program.command_with(&data.place, &arguments, &password)?;
        }
        let bed = Bed::start(setting, data).await?;
        rows.extend(rounds(&bed, password).await?);
        bed.end().await?;
    }
    Ok(rows)
}

async fn rounds(bed: &Bed<'_>, password: String) -> Result<[Row; 3]> {
    let setting = bed.setting;
    let in_flight = setting.in_flight.min(OPERATORS);
    let get = Arc::new(Get {
        leads: bed.data.leads,
    });
    let callers = &bed.service.callers;
    // Those who sign in have connections of their own, as they would.
    let signers =
        Caller::connect_all(&bed.service.address, None, true, setting.connections).await?;
    let mut columns = [const { Vec::new() }; 9];
    load::open(callers, &get, GETS, setting.time).await?; // a warm-up
    for _ in 0..setting.rounds {
        let limit =
            tokio::task::block_in_place(|| setting.on_server_cores(|| verifications(&password)))?;
        let sign_in = Arc::new(SignIn {
            password: password.clone(),
            free: Mutex::new((0..OPERATORS).collect()),
        });
        let alone = load::open(callers, &get, GETS, setting.time).await?;
        let before = bed.cpu()?.0;
        let (signed, beside) = tokio::try_join!(
            load::closed(&signers, &sign_in, in_flight, setting.time),
            load::open(callers, &get, GETS, setting.time),
        )?;
        let cpu = (bed.cpu()?.0 - before).as_secs_f64() * 1e6;
        for (column, value) in columns.iter_mut().zip([
            signed.rate(),
            limit,
            signed.rate() / limit,
            signed.quantile(0.5),
            signed.quantile(0.99),
            cpu / signed.calls() as f64,
            beside.quantile(0.5),
            beside.quantile(0.99),
            alone.quantile(0.99),
        ]) {
            column.push(value);
        }
    }
    let ratios: Vec<f64> = columns[7]
        .iter()
        .zip(&columns[8])
        .map(|(a, b)| a / b)
        .collect();
    let get_ratio = Spread::of(&ratios);
    let [
        rate,
        limit,
        ratio,
        p50,
        p99,
        cpu,
        get_p50,
        get_p99,
        get_alone,
    ] = columns.map(|column| Spread::of(&column));
    let (memory, peak) = process::memory(bed.service.id())?;
    Ok([
        Row {
            rate: Some(rate),
            limit: Some(limit),
            ratio: Some(ratio),
            bar: Some(Bar::at_least(0.9, " cores / argon2", ratio.median)),
            p50: Some(p50.median),
            p99: Some(p99.median),
            cpu: Some(cpu.median),
            ..bed.row("SignIn", in_flight)
        },
        Row {
            memory: Some(memory),
            peak: Some(peak),
            bar: Some(Bar::at_most(LOADED, " MiB", peak)),
            ..bed.row("Memory, SignIn", in_flight)
        },
        Row {
            rate: Some(Spread::of(&[GETS])),
            limit: Some(get_alone),
            ratio: Some(get_ratio),
            bar: Some(Bar::at_most(3.0, " × p99 alone", get_ratio.median)),
            p50: Some(get_p50.median),
            p99: Some(get_p99.median),
            ..bed.row("Get during SignIn", 0)
        },
    ])
}

//! Breaks Leadsmith on purpose and shows that what it promises holds: see `proofs --help`.

mod harness;
mod proofs;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use harness::context::{Context, Setting};
use harness::database::Kind;
use harness::report::Verdict;
use proofs::PROOFS;

/// Breaks Leadsmith on purpose and shows that what it promises holds.
///
/// Each proof starts real servers on databases of its own, brings a fault about, and looks at what
/// became of the promise. It ends with a failure when one is broken. What is random comes from a
/// seed that is printed and can be given back.
#[derive(Parser)]
#[command(name = "proofs", version, disable_help_subcommand = true)]
struct Cli {
    /// The name of a proof; `all`; or `list`, which tells what there is
    name: String,
    /// The long form, which takes hours where the short one takes seconds
    #[arg(long)]
    long: bool,
    /// On which database
    #[arg(long, default_value = "both")]
    database: Databases,
    /// Where randomness begins [default: drawn, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Turn it round: each proof runs against a service with the bug that it is there to find, and
    /// holds only if it finds it
    #[arg(long)]
    sown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Databases {
    Sqlite,
    Postgres,
    Both,
}

impl Databases {
    fn include(self, kind: Kind) -> bool {
        match self {
            Self::Sqlite => kind == Kind::Sqlite,
            Self::Postgres => kind == Kind::Postgres,
            Self::Both => true,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // What was started ends with what holds it, after a signal too.
    let done = tokio::select! {
        done = run(&cli) => done,
        told = told_to_stop() => told.and_then(|()| bail!("stopped")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proofs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn told_to_stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn run(cli: &Cli) -> Result<()> {
    if cli.name == "list" {
        for proof in PROOFS {
            println!("{:<14}{}", proof.name, proof.promise);
        }
        return Ok(());
    }
    let chosen: Vec<_> = PROOFS
        .iter()
        .filter(|proof| cli.name == "all" || cli.name == proof.name)
        .collect();
    if chosen.is_empty() {
        bail!(
            "there is no proof {}: `proofs list` tells which there are",
            cli.name
        );
    }
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let setting = Setting::new(seed, cli.long, cli.sown)?;
    let mut failed = Vec::new();
    for proof in chosen {
        for kind in proof
            .databases
            .iter()
            .copied()
            .filter(|kind| cli.database.include(*kind))
        {
            // Without --sown there is one run, without a bug.
            let bugs: Vec<_> = match cli.sown {
                true => proof.bugs_on(kind).map(Some).collect(),
                false => vec![None],
            };
            for bug in bugs {
                let context = Context::new(&setting, kind, bug);
                let verdict = Verdict::of((proof.run)(&context).await, bug);
                println!("{}", verdict.table(proof, kind));
                if !verdict.holds() {
                    failed.push(format!("{} on {kind}", proof.name));
                }
            }
        }
    }
    ensure!(failed.is_empty(), "does not hold: {}", failed.join(", "));
    Ok(())
}

//! Injects faults into Leadsmith and checks that its promises hold: see `proofs --help`.

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

/// Injects faults into Leadsmith and checks that its promises hold.
///
/// Each proof starts real servers on new databases, injects a fault, and checks whether the promise held. The
/// program fails if a promise is broken. All random choices derive from a seed, which is printed and can be passed
/// again with --seed.
#[derive(Parser)]
#[command(name = "proofs", version, disable_help_subcommand = true)]
struct Cli {
    /// The name of a proof; `all` for every proof; or `list`, which prints the names
    name: String,
    /// Run the long form, which takes hours where the short form takes seconds
    #[arg(long)]
    long: bool,
    /// The database to run on
    #[arg(long, default_value = "both")]
    database: Databases,
    /// The seed of the random choices [default: drawn at random and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run each proof against builds of the service that contain the bug that it must find. A proof then succeeds
    /// only if it finds the bug
    #[arg(long)]
    seeded: bool,
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
    // Dropping the future stops all servers that it started, also after a signal.
    let done = tokio::select! {
        done = run(&cli) => done,
        stopped = stop_signal() => stopped.and_then(|()| bail!("stopped")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proofs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn stop_signal() -> Result<()> {
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
            "there is no proof {}: `proofs list` prints the names",
            cli.name
        );
    }
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let setting = Setting::new(seed, cli.long, cli.seeded)?;
    let mut failed = Vec::new();
    for proof in chosen {
        for kind in proof
            .databases
            .iter()
            .copied()
            .filter(|kind| cli.database.include(*kind))
        {
            // Without --seeded there is one run, without a bug.
            let bugs: Vec<_> = match cli.seeded {
                true => proof.bugs_on(kind).map(Some).collect(),
                false => vec![None],
            };
            for bug in bugs {
                let context = Context::new(&setting, kind, bug);
                let verdict = Verdict::of((proof.run)(&context).await, bug);
                println!("{}", verdict.table(proof.name, proof.promise, kind));
                if !verdict.holds() {
                    failed.push(format!("{} on {kind}", proof.name));
                }
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

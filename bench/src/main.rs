//! Measures Leadsmith against the limit of its parts and against other builds: see `bench --help`.

mod chart;
mod clock;
mod data;
mod echo;
mod limits;
mod load;
mod process;
mod program;
mod report;
mod row;
mod samples;
mod service;
mod setting;
mod storage;
mod table;
mod testbed;
mod workloads;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use report::Report;
use row::Row;
use setting::{Cli, Command, Setting};
use storage::Database;

/// The same allocator as in the service. SQLite's C code uses it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    if matches!(cli.command, Command::Echo) {
        return echo::serve().await;
    }
    let setting = Setting::new(&cli.options)?;
    let mut report = Report::new(&setting, cli.options.save);
    // Dropping the future stops all processes that it started, also after Ctrl-C.
    tokio::select! {
        done = measure(&setting, &cli.command, &mut report) => done?,
        _ = tokio::signal::ctrl_c() => bail!("stopped"),
    }
    report.finish()
}

async fn measure(setting: &Setting, command: &Command, report: &mut Report) -> Result<()> {
    let Command::All(sizes) = command else {
        return each(setting, command, report).await;
    };
    for command in [
        Command::Get,
        Command::List,
        Command::Search,
        Command::Update,
        Command::Convert,
        Command::Actions,
        Command::Opportunities,
        Command::Dashboard,
        Command::Create,
        Command::SignIn,
        Command::Import,
        Command::Watch,
        Command::Memory { minutes: MINUTES },
        Command::Scale(sizes.clone()),
    ] {
        each(setting, &command, report).await?;
    }
    Ok(())
}

/// Measures one workload on each database. A failure on one does not stop the others.
async fn each(setting: &Setting, command: &Command, report: &mut Report) -> Result<()> {
    for database in setting.databases() {
        report.add(match command {
            Command::Get => workloads::get::measure(setting, database).await,
            Command::List => workloads::list::measure(setting, database).await,
            Command::Search => workloads::search::measure(setting, database).await,
            Command::Update => workloads::update::measure(setting, database).await,
            Command::Convert => workloads::convert::measure(setting, database).await,
            Command::Actions => actions(setting, database).await,
            Command::Opportunities => workloads::opportunity::measure(setting, database).await,
            Command::Dashboard => workloads::dashboard::measure(setting, database).await,
            Command::Create => workloads::create::measure(setting, database).await,
            Command::SignIn => workloads::sign_in::measure(setting, database).await,
            Command::Import => workloads::create::measure_import(setting, database).await,
            Command::Watch => workloads::watch::measure(setting, database).await,
            Command::Scale(sizes) => {
                workloads::scale::measure(setting, database, &sizes.sizes).await
            }
            Command::Memory { minutes } => {
                workloads::memory::measure(setting, database, *minutes).await
            }
            Command::All(_) | Command::Echo => bail!("not a work"),
        })?;
    }
    Ok(())
}

async fn actions(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    Ok(vec![
        workloads::manual::measure(setting, database).await?,
        workloads::claim::measure(setting, database).await?,
    ])
}

/// How long `all` observes the memory, in minutes.
const MINUTES: f64 = 10.0;

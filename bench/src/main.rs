//! Measures Leadsmith against the limit of its parts and against other builds: see `bench --help`.

mod chart;
mod data;
mod echo;
mod limits;
mod load;
mod place;
mod process;
mod report;
mod samples;
mod service;
mod setting;
mod table;
mod testbed;
mod works;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use report::Report;
use setting::{Cli, Command, Setting};

/// As in the service. SQLite's C code allocates through it too.
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
    // Dropping the future stops what it has started, after Ctrl-C too.
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
        Command::Create,
        Command::SignIn,
        Command::Import,
        Command::Memory { minutes: MINUTES },
        Command::Scale(sizes.clone()),
    ] {
        each(setting, &command, report).await?;
    }
    Ok(())
}

/// Measures one work on each database. A failure of one does not stop the others.
async fn each(setting: &Setting, command: &Command, report: &mut Report) -> Result<()> {
    for database in setting.databases() {
        report.add(match command {
            Command::Get => works::get::measure(setting, database).await,
            Command::List => works::list::measure(setting, database).await,
            Command::Search => works::search::measure(setting, database).await,
            Command::Update => works::update::measure(setting, database).await,
            Command::Convert => works::convert::measure(setting, database).await,
            Command::Create => works::create::measure(setting, database).await,
            Command::SignIn => works::sign_in::measure(setting, database).await,
            Command::Import => works::create::measure_import(setting, database).await,
            Command::Scale(sizes) => works::scale::measure(setting, database, &sizes.sizes).await,
            Command::Memory { minutes } => {
                works::memory::measure(setting, database, *minutes).await
            }
            Command::All(_) | Command::Echo => bail!("not a work"),
        })?;
    }
    Ok(())
}

/// How long `all` watches the memory, in minutes.
const MINUTES: f64 = 10.0;

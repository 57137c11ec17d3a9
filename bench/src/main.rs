//! Measures Leadsmith against what its parts can do: see `bench --help`.

mod chart;
mod data;
mod echo;
mod limits;
mod load;
mod measure;
mod place;
mod process;
mod report;
mod service;
mod setting;
mod works;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use report::Report;
use setting::{Cli, Command, Setting};

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
    let folder = report::folder(&setting, cli.options.save);
    let mut report = Report::new(folder);
    // What was started ends with what holds it, after Ctrl-C too.
    tokio::select! {
        done = measure(&setting, &cli.command, &mut report) => done?,
        _ = tokio::signal::ctrl_c() => bail!("stopped"),
    }
    report.finish()
}

async fn measure(setting: &Setting, command: &Command, report: &mut Report) -> Result<()> {
    report.add(match command {
        Command::All(sizes) => return measure_all(setting, &sizes.sizes, report).await,
        Command::Get => works::get::measure(setting).await,
        Command::List => works::list::measure(setting).await,
        Command::Search => works::search::measure(setting).await,
        Command::Update => works::update::measure(setting).await,
        Command::Convert => works::convert::measure(setting).await,
        Command::Create => works::create::measure(setting).await,
        Command::SignIn => works::sign_in::measure(setting).await,
        Command::Import => works::create::measure_import(setting).await,
        Command::Scale(sizes) => works::scale::measure(setting, &sizes.sizes).await,
        Command::Memory { minutes } => works::memory::measure(setting, *minutes).await,
        Command::Echo => bail!("the echo server measures nothing"),
    })
}

/// Everything, one work after the other; one that fails does not keep the others from being measured.
async fn measure_all(setting: &Setting, sizes: &[u64], report: &mut Report) -> Result<()> {
    report.add(works::get::measure(setting).await)?;
    report.add(works::list::measure(setting).await)?;
    report.add(works::search::measure(setting).await)?;
    report.add(works::update::measure(setting).await)?;
    report.add(works::convert::measure(setting).await)?;
    report.add(works::create::measure(setting).await)?;
    report.add(works::sign_in::measure(setting).await)?;
    report.add(works::create::measure_import(setting).await)?;
    report.add(works::memory::measure(setting, MINUTES).await)?;
    report.add(works::scale::measure(setting, sizes).await)
}

/// How long `all` watches the memory.
const MINUTES: f64 = 10.0;

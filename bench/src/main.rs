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

use report::Row;
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
    // What was started ends with what holds it, after Ctrl-C too.
    let rows = tokio::select! {
        rows = measure(&setting, &cli.command) => rows?,
        _ = tokio::signal::ctrl_c() => bail!("stopped"),
    };
    println!("{}", report::table(&rows));
    report::write(&report::folder(&setting, cli.options.save), &rows)
}

async fn measure(setting: &Setting, command: &Command) -> Result<Vec<Row>> {
    match command {
        Command::Get => works::get::measure(setting).await,
        Command::Update => works::update::measure(setting).await,
        _ => bail!("this is not there yet"),
    }
}

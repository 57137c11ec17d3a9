//! The `leadsmith` program. See `leadsmith --help`.

use std::process::ExitCode;

use clap::Parser;
use leadsmith::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            eprintln!("leadsmith: {refusal}");
            ExitCode::FAILURE
        }
    }
}

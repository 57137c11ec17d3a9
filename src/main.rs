//! The `leadsmith` program. See `leadsmith --help`.

use std::process::ExitCode;

use clap::Parser;
use leadsmith::cli::Cli;

/// What SQLite's C code allocates goes through it too: with the C library's own allocator, a quarter
/// of the time of a Get on SQLite went into that (PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

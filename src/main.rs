//! The `leadsmith` program. See `leadsmith --help`.

use std::process::ExitCode;

use clap::Parser;
use leadsmith::cli::Cli;
use leadsmith::config::Refusal;

/// What SQLite's C code allocates goes through it too: with the C library's own allocator, a quarter
/// of the time of a Get on SQLite went into that (PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(
            std::env::var("LEADSMITH_THREADS")
                .ok()
                .and_then(|t| t.parse().ok())
                .unwrap_or(2),
        )
        .enable_all()
        .build()
        .map_err(|error| Refusal::new(format!("no threads can be started: {error}")))
        .and_then(|runtime| runtime.block_on(cli.run()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            eprintln!("leadsmith: {refusal}");
            ExitCode::FAILURE
        }
    }
}

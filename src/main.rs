//! The `leadsmith` program. See `leadsmith --help`.

use std::process::ExitCode;

use leadsmith::cli::{Cli, output};

/// What SQLite's C code allocates goes through it too: with the C library's own allocator, a quarter
/// of the time of a Get on SQLite went into that (PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Pages of 2 MiB make a Get two hundredths faster, and the memory half as much again. Where the
    // kernel refuses, they stay.
    let _kept = rustix::thread::disable_transparent_huge_pages(true);
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    match cli.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

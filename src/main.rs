//! The `leadsmith` program. See `leadsmith --help`.

use std::process::ExitCode;

use leadsmith::cli::Cli;

/// SQLite's C code also allocates from it: with the C library's allocator, a quarter of the time of a Get
/// on SQLite was spent in allocation (PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Transparent huge pages of 2 MiB would make a Get 2% faster but need 50% more memory. If the kernel
    // refuses, they stay enabled.
    let _unsupported = rustix::thread::disable_transparent_huge_pages(true);
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(problem) => return problem.report(),
    };
    let log_format = cli.log_format();
    match cli.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(log_format),
    }
}

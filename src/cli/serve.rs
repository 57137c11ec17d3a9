//! `leadsmith serve`.

use crate::clock::Clock;
use crate::config::{Refusal, ServeSettings};
use crate::server::{self, Running};

pub async fn run(settings: &ServeSettings) -> Result<(), Refusal> {
    let server = server::start(settings, Clock::default()).await?;
    tracing::info!(address = %server.address, "serving");
    until_stopped(server).await
}

/// Serves until told to stop, and stops.
pub async fn until_stopped(mut server: Running) -> Result<(), Refusal> {
    tokio::select! {
        told = wait_for_signal() => told?,
        () = server.ended() => {}
    }
    tracing::info!("stopping: calls under way are finished first");
    server.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

async fn wait_for_signal() -> Result<(), Refusal> {
    use tokio::signal::unix::{SignalKind, signal};
    let broken = |error| Refusal::new(format!("signals cannot be waited for: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

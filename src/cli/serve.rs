//! `leadsmith serve`: runs the server until a signal stops it. What is started, and in which order, is in `app.rs`.

use crate::app::{self, Running};
use crate::config::{ServeSettings, StartupError};
use crate::core::clock::Clock;

pub async fn run(settings: &ServeSettings) -> Result<(), StartupError> {
    let server = app::start(settings, Clock::default()).await?;
    tracing::info!(address = %server.address, "serving");
    until_stopped(server).await
}

/// Serves until a signal arrives or the server ends, then stops the server.
pub async fn until_stopped(mut server: Running) -> Result<(), StartupError> {
    tokio::select! {
        signal = wait_for_signal() => signal?,
        () = server.ended() => {}
    }
    tracing::info!("stopping: waiting for running calls to finish");
    server.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

async fn wait_for_signal() -> Result<(), StartupError> {
    use tokio::signal::unix::{SignalKind, signal};
    let broken =
        |error| StartupError::new(format!("the signal handlers cannot be installed: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

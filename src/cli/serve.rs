//! `leadsmith serve`: runs the server until a signal stops it. What is started, and in which order, is in `app.rs`.

use super::arguments::LevelSource;
use super::process::{self, Request, Signals};
use crate::app::{self, Running};
use crate::config::{ServeSettings, StartupError};
use crate::core::clock::Clock;
use crate::db::{ServerLock, migrate};

pub const EXAMPLES: &str = "\
Signals:
  SIGTERM, SIGINT, SIGQUIT  finish the running calls, then stop
  SIGHUP                    read the TLS files and the log level of --config again

Examples:
  leadsmith serve
  leadsmith serve --config /etc/leadsmith.toml --log debug
  LEADSMITH_DATABASE_URL_FILE=/run/secrets/database-url leadsmith serve";

pub async fn run(settings: &ServeSettings, level: LevelSource) -> Result<(), StartupError> {
    let mut signals = Signals::install()?;
    app::check(settings)?;
    process::raise_file_limit(settings);
    let mut starting = Box::pin(start(settings));
    let (_lock, server) = loop {
        tokio::select! {
            started = &mut starting => break started?,
            request = signals.next() => match request {
                Request::Stop => return Ok(()),
                // What is being started reads the files anyway.
                Request::Reload => {}
            },
        }
    };
    tracing::info!(address = %server.address, "serving");
    until_stopped(server, signals, Some(level)).await
}

async fn start(settings: &ServeSettings) -> Result<(ServerLock, Running), StartupError> {
    let url = &settings.database.database_url;
    if !settings.migrate {
        // A database that is not served gets no lock beside it.
        migrate::require_usable(url).await?;
    }
    let lock = ServerLock::acquire(url)?;
    Ok((lock, app::start(settings, Clock::default()).await?))
}

/// Serves until a signal arrives or the server ends, then stops the server.
pub async fn until_stopped(
    mut server: Running,
    mut signals: Signals,
    level: Option<LevelSource>,
) -> Result<(), StartupError> {
    loop {
        let request = tokio::select! {
            request = signals.next() => request,
            () = server.ended() => Request::Stop,
        };
        match request {
            Request::Stop => break,
            Request::Reload => {
                server.reload_tls();
                if let Some(level) = &level {
                    level.reload();
                }
            }
        }
    }
    tracing::info!("stopping: waiting for running calls to finish");
    server.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

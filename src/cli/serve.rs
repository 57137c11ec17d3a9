//! `leadsmith serve`: runs the server until a signal stops it. What is started, and in which order, is in `app.rs`.

use super::arguments::LevelSource;
use super::process::{self, Request, Signals};
use super::service_manager::ServiceManager;
use crate::app::{self, Running};
use crate::config::{ServeSettings, StartupError, location};
use crate::core::build;
use crate::core::clock::Clock;
use crate::db::{ServerLock, migrate};
use crate::telemetry::traces::Traces;

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
    let traces = Traces::start(&settings.observe)?;
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
    log_start(settings, &server).await;
    let stopped = until_stopped(server, signals, Some(level)).await;
    if let Some(traces) = traces {
        traces.stop().await;
    }
    stopped
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

/// Logs what runs, and where.
async fn log_start(settings: &ServeSettings, server: &Running) {
    let db = &server.app.db;
    let url = &settings.database.database_url;
    tracing::info!(
        address = %server.address,
        admin_address = server.admin_address.map(display),
        tls = settings.tls.is_on(),
        version = build::PACKAGE_VERSION,
        commit = build::COMMIT,
        database = db.kind(),
        location = location(url),
        // None if the database became unavailable a moment ago: a server that has started must not stop for it.
        schema = migrate::version(db).await.ok(),
        "serving"
    );
}

/// Serves until a signal arrives or the server ends, then stops the server.
pub async fn until_stopped(
    mut server: Running,
    mut signals: Signals,
    level: Option<LevelSource>,
) -> Result<(), StartupError> {
    let manager = ServiceManager::ready(server.address, server.readiness());
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
    manager.stopping();
    server.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

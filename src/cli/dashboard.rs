//! `leadsmith dashboard`: shows the figures of the sales desk in a terminal, or as JSON for scripts.
//!
//! It is a client of a running server like any other: it must not open the database, and shows what its operator or
//! service account may see.

mod caller;
mod json;
mod text;
mod watch;

use std::io::{IsTerminal as _, stdout};

use clap::Args;
use leadsmith_proto as proto;

use super::output::{Failure, OutputSettings, json_line, show};
use super::process::Signals;
use super::server::ServerSettings;
use caller::{Caller, Credentials};
use watch::Changes;

pub const EXAMPLES: &str = "\
Examples:
  LEADSMITH_TOKEN_FILE=token leadsmith dashboard
  leadsmith dashboard --username ada --time-zone Europe/Berlin --watch
  leadsmith dashboard --first-day 2026-11-01 --last-day 2026-11-30 --output json";

#[derive(Args, Debug)]
pub struct DashboardSettings {
    #[command(flatten)]
    credentials: Credentials,
    /// The time zone of the days, by its name in the IANA database
    #[arg(long, default_value = "UTC", value_name = "NAME")]
    time_zone: String,
    /// The first day of the period, as YYYY-MM-DD; by default 29 days before the last one
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "DAY"
    )]
    first_day: String,
    /// The last day of the period, as YYYY-MM-DD; by default today
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "DAY"
    )]
    last_day: String,
    /// Only what belongs to the operator with this id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    owner: String,
    /// Keep the figures up to date until Ctrl-C; with --output json, one line for each time they change
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: OutputSettings,
    #[command(flatten)]
    server: ServerSettings,
}

pub async fn run(settings: DashboardSettings) -> Result<(), Failure> {
    let caller = Caller::connect(&settings.server, &settings.credentials).await?;
    let shown = match settings.watch {
        false => show_once(&settings, &caller).await,
        true => {
            let mut signals = Signals::install()?;
            tokio::select! {
                ended = follow(&settings, &caller) => ended,
                _ = signals.next() => Ok(()),
            }
        }
    };
    caller.sign_out().await;
    shown
}

async fn show_once(settings: &DashboardSettings, caller: &Caller) -> Result<(), Failure> {
    let dashboard = caller.dashboard(request(settings)).await;
    let dashboard = dashboard.map_err(|status| caller.failure(&status))?;
    let has_colours = is_coloured();
    let text = || text::page(&dashboard, has_colours);
    settings.output.show(&json::value(&dashboard), text)
}

/// Shows the figures now and after each change.
async fn follow(settings: &DashboardSettings, caller: &Caller) -> Result<(), Failure> {
    let mut changes = Changes::open(caller).await?;
    loop {
        let dashboard = watch::patiently(caller, || caller.dashboard(request(settings))).await?;
        let page = match settings.output.is_json() {
            true => json_line(&json::value(&dashboard)),
            // On a terminal each page replaces the one before.
            false if stdout().is_terminal() => {
                format!("\u{1b}[H\u{1b}[2J{}", text::page(&dashboard, is_coloured()))
            }
            false => format!("{}\n", text::page(&dashboard, false)),
        };
        show(&page)?;
        changes.next(caller).await?;
    }
}

fn request(settings: &DashboardSettings) -> proto::GetDashboardRequest {
    proto::GetDashboardRequest {
        time_zone: settings.time_zone.clone(),
        first_day: settings.first_day.clone(),
        last_day: settings.last_day.clone(),
        owner_id: settings.owner.clone(),
    }
}

/// Whether to print colours: only on a terminal, and not if the user has switched them off for all programs.
fn is_coloured() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

//! `leadsmith demo`: runs a server with example data in a temporary database, and prints commands to try on it.
//!
//! The records are created by the same use cases as those of an RPC, so the demo must not write to the database
//! itself.

mod example_data;
mod walkthrough;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use secrecy::SecretString;

use super::console::Console;
use super::output::{self, Failure};
use super::process::Signals;
use super::serve;
use crate::app::{self, App};
use crate::auth;
use crate::auth::operators::Operator;
use crate::auth::tokens::{self, TokenKind};
use crate::commit::{GroupCommit, Mutation, Target};
use crate::config::{
    DatabaseSettings, Limits, ObserveSettings, PasswordSettings, ServeSettings, StartupError,
    TlsSettings, values,
};
use crate::core::call::Call;
use crate::core::call_notes::CallNotes;
use crate::core::clock::Clock;
use crate::core::role::Role;
use crate::error::{Error, Result as CallResult};
use crate::features::leads;
use crate::features::leads::model::References;
use crate::features::operators::Ownership;
use crate::features::opportunities::model::Stage;
use crate::features::order_queues::OrderQueues;
use example_data::{LEADS, details, hosting, opportunity, order};
use walkthrough::Walkthrough;
use worker::Worker;

#[derive(Args, Debug)]
pub struct DemoSettings {
    /// Where to listen
    #[arg(
        long,
        help_heading = "Network",
        env = "LEADSMITH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_parser = values::address(),
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
}

const OPERATOR: &str = "ada";
/// The service account of the demo's worker.
const WORKER: &str = "worker";

pub async fn run(settings: DemoSettings) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(|error| {
        StartupError::new(format!("the temporary folder cannot be created: {error}"))
    })?;
    let file = folder.path().join("leadsmith-demo.db");
    let settings = ServeSettings {
        database: DatabaseSettings {
            database_url: format!("sqlite:{}", file.display()).into(),
        },
        listen: settings.listen,
        insecure: false,
        tls: TlsSettings::default(),
        migrate: true,
        observe: ObserveSettings::default(),
        passwords: PasswordSettings::default(),
        limits: Limits::default(),
    };
    let server = app::start(&settings, Clock::default()).await?;
    let (walkthrough, worker) = seed(&server.app).await?;
    // It ends with the demo.
    let _worker = worker.start(server.address)?;
    let signals = Signals::install()?;
    if let Err(failure) = output::show(&walkthrough.text(server.address)) {
        server.stop().await?;
        return Err(failure);
    }
    Ok(serve::until_stopped(server, signals, None).await?)
}

/// Creates the example data.
async fn seed(app: &App) -> Result<(Walkthrough, Worker), StartupError> {
    // A new password for each run, so that no real operator ends up with a published one.
    let password = tokens::generate(TokenKind::Session).expose()[4..24].to_owned();
    let secret = SecretString::from(password.clone());
    let name = "Ada (demo)";
    let console = Console::new(&app.db, app.auth.passwords.clone());
    let operator = console
        .create_operator(OPERATOR, name, Role::Admin, secret)
        .await?;
    let seeder = Seeder {
        commit: &app.commit,
        operator: &operator,
    };
    let mut created = Vec::new();
    for texts in LEADS {
        let new = leads::NewLead {
            details: details(texts, &operator.id.to_string()),
            owner: Ownership::Allowed,
            allow_duplicate: false,
            validate_only: false,
        };
        let lead = seeder.apply("leadsmith.v1.LeadService/Create", leads::create(new));
        created.push(lead.await?);
    }
    let change = |index: usize| Target {
        id: created[index].id,
        etag: String::new(),
        validate_only: false,
    };
    for (index, reason) in [(2, "Went with a competitor"), (8, "No budget this year")] {
        let deactivation = leads::deactivate(change(index), reason.to_owned());
        seeder
            .apply("leadsmith.v1.LeadService/Deactivate", deactivation)
            .await?;
    }
    for index in [3, 10] {
        let conversion = leads::Convert {
            change: change(index),
            into: None,
        };
        let conversion = conversion.mutation(References::default(), false);
        seeder
            .apply("leadsmith.v1.LeadService/Convert", conversion)
            .await?;
    }
    let mut opportunity_id = String::new();
    for (index, name, stage, units) in [
        (5, "Backup service", Stage::Buying, 1_200),
        (1, "Two racks", Stage::Meeting, 21_000),
        (2, "Website relaunch", Stage::Contact, 9_500),
        (0, "Shop and hosting", Stage::Negotiation, 4_800),
    ] {
        let opportunity = opportunity(&created[index], name, stage, units);
        let view = seeder.apply("leadsmith.v1.OpportunityService/Create", opportunity);
        // The last one is that of the lead that the walkthrough is about.
        opportunity_id = view.await?.opportunity.id.to_string();
    }
    let hosting = seeder.apply("leadsmith.v1.OrderQueueService/Create", hosting());
    let hosting = hosting.await?;
    let queue_id = hosting.id;
    let worked = order(&created[11], hosting);
    let worked = seeder.apply("leadsmith.v1.OrderService/Create", worked);
    let worked_order_id = worked.await?.order.id.to_string();
    let mut order_id = String::new();
    let queue = OrderQueues::new(app.db.clone())
        .for_new_orders(None)
        .await?;
    for index in [7, 9] {
        let order = order(&created[index], queue.clone());
        let order = seeder.apply("leadsmith.v1.OrderService/Create", order);
        order_id = order.await?.order.id.to_string();
    }
    console.create_account(WORKER, Role::Sales).await?;
    let (_, key) = console.create_key(WORKER).await?;
    let worker = Worker {
        queue_id,
        key: key.expose().to_owned(),
    };
    let operator_id = operator.id;
    let session = auth::begin_session(&app.auth, operator).await?;
    let walkthrough = Walkthrough {
        token: session.token.expose().to_owned(),
        password,
        operator_id,
        lead_id: created[0].id,
        other_lead_id: created[4].id,
        opportunity_id,
        order_id,
        worked_order_id,
    };
    Ok((walkthrough, worker))
}

/// Makes changes as the operator of the demo.
struct Seeder<'a> {
    commit: &'a GroupCommit,
    operator: &'a Operator,
}

impl Seeder<'_> {
    /// Applies a mutation as if it came from this RPC.
    async fn apply<T: Send + 'static>(
        &self,
        rpc: &'static str,
        mutation: Mutation<T>,
    ) -> CallResult<T> {
        let call = Call {
            principal: Arc::new(self.operator.principal()),
            role: self.operator.role,
            rpc,
            session: None,
            request_key: None,
            waited: std::time::Duration::ZERO,
            notes: CallNotes::default(),
        };
        let outcome = self.commit.run_once(call, mutation).await?;
        outcome.ok_or_else(Error::write_conflict)
    }
}

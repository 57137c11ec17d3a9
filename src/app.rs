//! The application: builds all components from the settings and connects them. This is the only module that
//! knows all of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use leadsmith_proto::{self as proto, DESCRIPTORS};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tower::{Layer, Service};

use crate::auth::Auth;
use crate::auth::operators::Operator;
use crate::auth::passwords::Passwords;
use crate::commit::{GroupCommit, Record as _};
use crate::config::{Limits, ServeSettings, StartupError};
use crate::core::clock::Clock;
use crate::db::event_log::EventLog;
use crate::db::{Db, connect, migrate};
use crate::features::clients::{Clients, api::ClientApi};
use crate::features::dashboard::{Dashboards, api::DashboardApi};
use crate::features::events;
use crate::features::events::api::EventApi;
use crate::features::events::hub::Hub;
use crate::features::events::list::Events;
use crate::features::leads::{Leads, Reversal, api::LeadApi};
use crate::features::operators::{Operators, api::OperatorApi};
use crate::features::opportunities::{Opportunities, api::OpportunityApi};
use crate::features::order_queues::{OrderQueues, api::OrderQueueApi};
use crate::features::orders::{self, Orders, api::OrderApi};
use crate::features::service_accounts::model::ServiceAccount;
use crate::features::service_accounts::{ServiceAccounts, api::ServiceAccountApi};
use crate::features::sessions::api::AuthApi;
use crate::features::{self};
use crate::grpc::page::PageTokens;
use crate::grpc::watch_token::WatchTokens;
use crate::jobs::retention::{self, RetentionPolicy};
use crate::jobs::{last_use, outdated};
use crate::server::tls::Tls;
use crate::server::{
    self, AdmissionLayer, LARGEST_PUBLIC_REQUEST, LARGEST_REQUEST, LARGEST_RESPONSE, Readiness,
    ServerHandle,
};

/// The components that serve calls.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// Authentication.
    pub auth: Arc<Auth>,
    /// Commits changes.
    pub commit: GroupCommit,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
    /// The use cases of leads.
    pub leads: Leads,
    /// What the streams of events share.
    events: Arc<Hub<proto::ChangeEvent>>,
}

/// A running application.
pub struct Running {
    /// The address that the server listens on.
    pub address: SocketAddr,
    /// The address of its administrative listener, if there is one.
    pub admin_address: Option<SocketAddr>,
    /// The components of the application.
    pub app: App,
    serving: ServerHandle,
    tls: Option<Arc<Tls>>,
}

impl App {
    /// Opens the database, after migrating it if the settings say so, and builds the components.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
    pub async fn open(settings: &ServeSettings, clock: Clock) -> Result<Self, StartupError> {
        let url = &settings.database.database_url;
        if settings.migrate {
            migrate::up(url).await?;
        } else {
            migrate::require_usable(url).await?;
        }
        let db = connect::open(url, &settings.limits, clock.clone()).await?;
        let passwords = Passwords::with_min_length(settings.passwords.min_password_length);
        let auth = Arc::new(Auth::new(db.clone(), clock.clone(), passwords));
        let log = EventLog::new(db.clone());
        log.identify().await?;
        let key = db.shared_key("page-tokens").await?;
        let watch_tokens = WatchTokens::new(&key, log.clone());
        Ok(Self {
            page_tokens: PageTokens::new(key, watch_tokens.clone()),
            commit: GroupCommit::new(&db, &settings.limits, features::RECORDS).observed_by({
                let auth = Arc::clone(&auth);
                move |kind, id| {
                    if [Operator::SUBJECT, ServiceAccount::SUBJECT].contains(&kind) {
                        auth.identities.invalidate_principal(id);
                    }
                }
            }),
            leads: Leads::new(
                db.clone(),
                Arc::clone(&auth),
                Reversal {
                    days: settings.limits.revert_period,
                    complete_order: orders::complete_order,
                },
            ),
            auth,
            events: Hub::new(
                log,
                watch_tokens,
                clock.clone(),
                &settings.limits,
                events::api::render::event,
            ),
            clock,
            db,
        })
    }

    /// Builds the services and the health reporter.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    async fn routes(&self) -> Result<(Readiness, Routes), StartupError> {
        let (reporter, health) = server::reporter().await;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                // Needed by grpcurl to decode the details of errors.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let broken = |error| StartupError::new(format!("reflection cannot be built: {error}"));
        macro_rules! service {
            ($server:path, $api:expr) => {
                <$server>::new($api)
                    // The limit applies before and after decompression.
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(LARGEST_REQUEST)
                    .max_encoding_message_size(LARGEST_RESPONSE)
            };
        }
        let reflection_v1 = reflection().build_v1().map_err(broken)?;
        let reflection_v1alpha = reflection().build_v1alpha().map_err(broken)?;
        macro_rules! public {
            ($server:expr) => {
                $server
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(LARGEST_PUBLIC_REQUEST)
            };
        }
        let db = || self.db.clone();
        let operators = || Operators::new(Arc::clone(&self.auth));
        let routes = Routes::new(public!(health))
            .add_service(public!(reflection_v1))
            .add_service(public!(reflection_v1alpha))
            .add_service(service!(
                proto::lead_service_server::LeadServiceServer<_>,
                LeadApi {
                    leads: self.leads.clone(),
                    commit: self.commit.clone(),
                    db: db(),
                    page_tokens: self.page_tokens.clone(),
                }
            ))
            .add_service(service!(
                proto::client_service_server::ClientServiceServer<_>,
                ClientApi {
                    clients: Clients::new(db(), self.leads.clone()),
                    page_tokens: self.page_tokens.clone(),
                }
            ))
            .add_service(service!(
                proto::opportunity_service_server::OpportunityServiceServer<_>,
                OpportunityApi {
                    opportunities: Opportunities::new(db()),
                    commit: self.commit.clone(),
                    db: db(),
                    page_tokens: self.page_tokens.clone(),
                }
            ))
            .add_service(service!(
                proto::order_service_server::OrderServiceServer<_>,
                OrderApi {
                    orders: Orders::new(db(), self.leads.clone()),
                    commit: self.commit.clone(),
                    page_tokens: self.page_tokens.clone(),
                }
            ))
            .add_service(service!(
                proto::order_queue_service_server::OrderQueueServiceServer<_>,
                OrderQueueApi {
                    queues: OrderQueues::new(db()),
                    commit: self.commit.clone(),
                    page_tokens: self.page_tokens.clone(),
                }
            ))
            .add_service(service!(
                proto::event_service_server::EventServiceServer<_>,
                EventApi {
                    hub: Arc::clone(&self.events),
                    events: Events::new(EventLog::new(db())),
                    page_tokens: self.page_tokens.clone(),
                }
            ))
            .add_service(service!(
                proto::dashboard_service_server::DashboardServiceServer<_>,
                DashboardApi {
                    dashboards: Dashboards::new(db(), self.clock.clone(), Arc::clone(&self.auth)),
                }
            ))
            .add_service(service!(
                proto::auth_service_server::AuthServiceServer<_>,
                AuthApi {
                    auth: Arc::clone(&self.auth),
                    operators: operators(),
                    commit: self.commit.clone(),
                    page_tokens: self.page_tokens.clone(),
                }
            ))
            .add_service(service!(
                proto::operator_service_server::OperatorServiceServer<_>,
                OperatorApi {
                    operators: operators(),
                    passwords: self.auth.passwords.clone(),
                    commit: self.commit.clone(),
                    page_tokens: self.page_tokens.clone(),
                }
            ))
            .add_service(service!(
                proto::service_account_service_server::ServiceAccountServiceServer<_>,
                ServiceAccountApi {
                    accounts: ServiceAccounts::new(Arc::clone(&self.auth)),
                    clock: self.clock.clone(),
                    commit: self.commit.clone(),
                    page_tokens: self.page_tokens.clone(),
                }
            ));
        Ok((reporter, routes))
    }

    /// The services and the layers before them, without a listener. Fuzzing calls this, so that its input
    /// is processed like every other request.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub async fn without_listener(
        &self,
        limits: &Limits,
    ) -> Result<
        impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + use<>,
        StartupError,
    > {
        let (_, routes) = self.routes().await?;
        Ok(AdmissionLayer::new(Arc::clone(&self.auth), limits, 0.0).layer(routes))
    }
}

/// Checks the settings, without opening or binding anything.
///
/// # Errors
/// A sentence that names the setting and its allowed values.
pub fn check(settings: &ServeSettings) -> Result<(), StartupError> {
    connect::Target::parse(&settings.database.database_url)?;
    settings.check()
}

/// Starts a server. When this returns, the server is ready.
///
/// # Errors
/// A sentence that says what is wrong and what to do.
pub async fn start(settings: &ServeSettings, clock: Clock) -> Result<Running, StartupError> {
    check(settings)?;
    // Before the database is opened, so that a server that cannot start does not migrate it.
    let tls = Tls::load(&settings.tls, clock.clone())?;
    let app = App::open(settings, clock).await?;
    let mut watch = app.db.watch();
    watch.hold_schema().await?;
    // From here on no migration is reverted, but one may have been since the database was opened.
    migrate::require_usable_by(&app.db).await?;
    let listeners = server::bind(settings).await?;
    let (health, routes) = app.routes().await?;
    let policy = RetentionPolicy::new(&settings.limits);
    let retention = retention::start(app.db.clone(), app.clock.clone(), policy).await;
    let mut serving = server::serve(
        settings,
        listeners,
        tls.clone(),
        &app.auth,
        watch,
        health,
        routes,
    )?;
    serving.add_background(retention);
    serving.add_background(last_use::start(Arc::clone(&app.auth)));
    serving.add_background(outdated::start(app.db.clone()));
    Ok(Running {
        address: serving.address,
        admin_address: serving.admin_address(),
        app,
        serving,
        tls,
    })
}

impl Running {
    /// Stops the server.
    ///
    /// # Errors
    /// As [`ServerHandle::stop`].
    pub async fn stop(self) -> Result<(), StartupError> {
        self.serving.stop().await
    }

    /// What the server reports to health checks.
    pub fn readiness(&self) -> Readiness {
        self.serving.readiness()
    }

    /// Reads the TLS files now, instead of when they are next checked for changes.
    pub fn reload_tls(&self) {
        if let Some(tls) = &self.tls {
            tls.reload_now();
        }
    }

    /// Waits until the server stops by itself.
    pub async fn ended(&mut self) {
        self.serving.ended().await;
    }
}

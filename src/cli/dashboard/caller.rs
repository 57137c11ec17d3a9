//! The caller of a server, and its calls.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use leadsmith_proto as proto;
use leadsmith_proto::auth_service_client::AuthServiceClient;
use leadsmith_proto::dashboard_service_client::DashboardServiceClient;
use leadsmith_proto::event_service_client::EventServiceClient;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::cli::secret;
use crate::cli::server::{ServerSettings, root_cause};
use crate::config::{StartupError, values};
use crate::core::text::printable;

/// The limit for a response, above that of a statement.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for signing out, which the user waits for.
const SIGN_OUT: Duration = Duration::from_secs(2);

/// The credentials of the caller.
#[derive(Args, Debug)]
pub struct Credentials {
    /// The operator to sign in as, with a password from the prompt or from standard input; the session
    /// ends with the command
    #[arg(long, value_parser = values::text(), value_name = "NAME", conflicts_with = "token")]
    username: Option<String>,
    /// The session token or API key to call with. Set it in the environment, where other users of the
    /// machine cannot see it, or in the file that LEADSMITH_TOKEN_FILE names
    #[arg(
        long,
        env = "LEADSMITH_TOKEN",
        hide_env_values = true,
        value_parser = values::secret(),
        value_name = "TOKEN"
    )]
    token: Option<SecretString>,
}

/// A caller of one server.
pub struct Caller {
    channel: Channel,
    token: MetadataValue<Ascii>,
    address: SocketAddr,
    server: ServerSettings,
    /// Whether the session was begun by this command.
    has_own_session: bool,
}

impl Caller {
    /// Connects, and signs in if there is no token.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub async fn connect(
        server: &ServerSettings,
        credentials: &Credentials,
    ) -> Result<Self, StartupError> {
        let address = server.address()?;
        if credentials.token.is_none() && credentials.username.is_none() {
            return Err(StartupError::settings(
                "no credentials: set LEADSMITH_TOKEN or LEADSMITH_TOKEN_FILE, or --username",
            ));
        }
        let channel = server.connect(address, |why| failed(address, &why)).await?;
        let mut caller = Self {
            channel,
            token: MetadataValue::from_static(""),
            address,
            server: server.clone(),
            has_own_session: false,
        };
        let token = match (&credentials.username, &credentials.token) {
            (Some(username), _) => {
                let token = caller.sign_in(username).await?;
                caller.has_own_session = true;
                token
            }
            (None, token) => token.clone().unwrap_or_default(),
        };
        let token = format!("Bearer {}", token.expose_secret()).parse();
        let mut token: MetadataValue<Ascii> = token.map_err(|_| {
            StartupError::settings("the token has characters that no token has: copy it again")
        })?;
        token.set_sensitive(true);
        caller.token = token;
        Ok(caller)
    }

    async fn sign_in(&self, username: &str) -> Result<SecretString, StartupError> {
        let password = secret::password()?;
        let mut request = Request::new(proto::SignInRequest {
            username: username.to_owned(),
            password: password.expose_secret().to_owned(),
            ..proto::SignInRequest::default()
        });
        request.set_timeout(TIMEOUT);
        let mut auth = AuthServiceClient::new(self.channel.clone());
        let signed_in = auth
            .sign_in(request)
            .await
            .map_err(|status| self.failure(&status))?;
        Ok(signed_in.into_inner().token.into())
    }

    /// Ends the session if this command has begun it.
    pub async fn sign_out(self) {
        if !self.has_own_session {
            return;
        }
        let request = self.request(proto::SignOutRequest::default(), SIGN_OUT);
        // If it fails, the session expires by itself.
        let _ = AuthServiceClient::new(self.channel).sign_out(request).await;
    }

    /// The figures.
    ///
    /// # Errors
    /// That of the call.
    pub async fn dashboard(
        &self,
        body: proto::GetDashboardRequest,
    ) -> Result<proto::Dashboard, Status> {
        let response = DashboardServiceClient::new(self.channel.clone())
            .get(self.request(body, TIMEOUT))
            .await?;
        Ok(response.into_inner().dashboard.unwrap_or_default())
    }

    /// A stream of events.
    ///
    /// # Errors
    /// That of the call.
    pub async fn watch(
        &self,
        body: proto::WatchEventsRequest,
    ) -> Result<Streaming<proto::WatchEventsResponse>, Status> {
        let mut request = Request::new(body);
        request
            .metadata_mut()
            .insert("authorization", self.token.clone());
        let stream = EventServiceClient::new(self.channel.clone())
            .watch(request)
            .await?;
        Ok(stream.into_inner())
    }

    fn request<T>(&self, body: T, timeout: Duration) -> Request<T> {
        let mut request = Request::new(body);
        request
            .metadata_mut()
            .insert("authorization", self.token.clone());
        request.set_timeout(timeout);
        request
    }

    /// Why a call failed: the sentence of the server, or what is wrong with the connection.
    pub fn failure(&self, status: &Status) -> StartupError {
        let why = match std::error::Error::source(status) {
            Some(_) => self.server.explained(&root_cause(status)),
            None => printable(status.message()),
        };
        failed(self.address, &why)
    }
}

fn failed(address: SocketAddr, why: &str) -> StartupError {
    StartupError::new(format!("the dashboard of {address} cannot be shown: {why}"))
}

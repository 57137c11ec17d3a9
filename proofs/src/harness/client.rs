//! Clients of a server.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::uri::PathAndQuery;
use leadsmith_proto::auth_service_client::AuthServiceClient;
use leadsmith_proto::event_service_client::EventServiceClient;
use leadsmith_proto::lead_service_client::LeadServiceClient;
use leadsmith_proto::opportunity_service_client::OpportunityServiceClient;
use leadsmith_proto::order_service_client::OrderServiceClient;
use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::{self as proto, Lead};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::codec::Bytes;
use super::requests;

/// The default deadline of a call.
const DEADLINE: Duration = Duration::from_secs(20);

/// A client with one connection and one token.
#[derive(Clone)]
pub struct Caller {
    pub channel: Channel,
    token: MetadataValue<Ascii>,
    deadline: Option<Duration>,
}

impl Caller {
    /// Connects to a server.
    pub async fn connect(address: &str, token: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .connect()
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        Self::on(channel, token)
    }

    /// Connects to a server from this local address, without a valid token.
    pub async fn connect_from(local: IpAddr, address: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .local_address(Some(local))
            .tcp_nodelay(true)
            .connect()
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        Self::on(channel, "")
    }

    /// Uses an existing connection.
    pub fn on(channel: Channel, token: &str) -> Result<Self> {
        Ok(Self {
            channel,
            token: format!("Bearer {token}").parse()?,
            deadline: Some(DEADLINE),
        })
    }

    /// The same client without a deadline: the service's default deadline applies.
    pub fn without_deadline(&self) -> Self {
        Self {
            deadline: None,
            ..self.clone()
        }
    }

    /// Signs an operator in.
    pub async fn sign_in(address: &str, username: &str, password: &str) -> Result<Self> {
        let caller = Self::connect(address, "").await?;
        let request = proto::SignInRequest {
            username: username.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        let response = caller.auth().sign_in(request).await?.into_inner();
        Self::on(caller.channel, &response.token)
    }

    /// The same principal on a new connection to another server.
    pub async fn at(&self, address: &str) -> Result<Self> {
        let Self { channel, .. } = Self::connect(address, "").await?;
        Ok(Self {
            channel,
            ..self.clone()
        })
    }

    /// Calls any RPC, given as `Service/Method`, with an encoded message, and returns the encoded response.
    pub async fn call(&self, rpc: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut client = Grpc::new(self.channel.clone());
        let away = |error| Status::unavailable(format!("{error}"));
        client.ready().await.map_err(away)?;
        let path = PathAndQuery::try_from(format!("/leadsmith.v1.{rpc}"));
        let path = path.map_err(|error| Status::internal(error.to_string()))?;
        let response = client.unary(self.request(message), path, Bytes).await?;
        Ok(response.into_inner())
    }

    pub fn leads(&self) -> LeadServiceClient<Channel> {
        LeadServiceClient::new(self.channel.clone())
    }

    pub fn opportunities(&self) -> OpportunityServiceClient<Channel> {
        OpportunityServiceClient::new(self.channel.clone())
    }

    pub fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel.clone())
    }

    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }

    /// Begins a stream of all events, and ends it. Returns the token of its first message.
    pub async fn watch(&self, begin: Begin) -> Result<String, Status> {
        let request = self.request(proto::WatchEventsRequest {
            begin: Some(begin),
            ..Default::default()
        });
        let first = self
            .events()
            .watch(request)
            .await?
            .into_inner()
            .message()
            .await?;
        Ok(first.unwrap_or_default().resume_token)
    }

    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// A request with the caller's token.
    pub fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        let token = self.token.clone();
        request.metadata_mut().insert("authorization", token);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }

    pub async fn create(&self, last_name: &str, request_id: &str) -> Result<Lead, Status> {
        self.create_as(
            Lead {
                last_name: last_name.to_owned(),
                ..Lead::default()
            },
            request_id,
        )
        .await
    }

    pub async fn create_as(&self, given: Lead, request_id: &str) -> Result<Lead, Status> {
        let request = self.request(proto::CreateLeadRequest {
            lead: Some(given),
            request_id: request_id.to_owned(),
            ..Default::default()
        });
        Ok(lead(self.leads().create(request).await?.into_inner().lead))
    }

    pub async fn get(&self, id: &str) -> Result<Lead, Status> {
        let request = self.request(proto::GetLeadRequest { id: id.to_owned() });
        Ok(lead(self.leads().get(request).await?.into_inner().lead))
    }

    /// Sets a lead's phone.
    pub async fn update(&self, id: &str, phone: &str, request_id: &str) -> Result<Lead, Status> {
        let request = self.request(proto::UpdateLeadRequest {
            lead: Some(Lead {
                id: id.to_owned(),
                phone: phone.to_owned(),
                ..Lead::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["phone".to_owned()],
            }),
            request_id: request_id.to_owned(),
            ..Default::default()
        });
        Ok(lead(self.leads().update(request).await?.into_inner().lead))
    }

    pub async fn deactivate(&self, id: &str) -> Result<Lead, Status> {
        let request = self.request(proto::DeactivateLeadRequest {
            id: id.to_owned(),
            ..Default::default()
        });
        Ok(lead(
            self.leads().deactivate(request).await?.into_inner().lead,
        ))
    }

    pub async fn reactivate(&self, id: &str) -> Result<Lead, Status> {
        let request = self.request(proto::ReactivateLeadRequest {
            id: id.to_owned(),
            ..Default::default()
        });
        Ok(lead(
            self.leads().reactivate(request).await?.into_inner().lead,
        ))
    }

    pub async fn convert(&self, id: &str) -> Result<Lead, Status> {
        let request = self.request(proto::ConvertLeadRequest {
            id: id.to_owned(),
            ..Default::default()
        });
        Ok(lead(self.leads().convert(request).await?.into_inner().lead))
    }

    pub async fn revert_conversion(&self, id: &str) -> Result<Lead, Status> {
        let request = self.request(requests::revert_conversion(id, String::new()));
        let response = self.leads().revert_conversion(request).await?;
        Ok(lead(response.into_inner().lead))
    }

    /// Creates an opportunity of a lead. Returns the opportunity's id.
    pub async fn opportunity(&self, lead_id: &str, name: &str) -> Result<String, Status> {
        let request = self.request(requests::opportunity(lead_id, name, String::new()));
        let response = self.opportunities().create(request).await?.into_inner();
        Ok(response.opportunity.unwrap_or_default().id)
    }

    /// Creates an order for a lead, with the single action provision-client. Returns the order's id.
    pub async fn order(&self, lead_id: &str) -> Result<String, Status> {
        let request = self.request(proto::CreateOrderRequest {
            order: Some(proto::Order {
                lead_id: lead_id.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        });
        let order = self.orders().create(request).await?.into_inner().order;
        Ok(order.unwrap_or_default().id)
    }

    /// Runs an order's provision-client. Returns whether the run changed nothing.
    pub async fn provision(&self, order_id: &str) -> Result<bool, Status> {
        let request = self.request(proto::RunActionRequest {
            order_id: order_id.to_owned(),
            action: "provision-client".to_owned(),
            ..Default::default()
        });
        let run = self.orders().run_action(request).await?.into_inner().run;
        Ok(run.unwrap_or_default().no_change)
    }
}

fn lead(lead: Option<Lead>) -> Lead {
    lead.unwrap_or_default()
}

/// A lead's version, parsed from its etag; 0 without an etag.
pub fn version(lead: &Lead) -> i64 {
    lead.etag.trim_matches('"').parse().unwrap_or(0)
}

/// The documented reason of an error; empty if it has none.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    info.map_or(String::new(), |info| info.reason.clone())
}

/// The reason of an error, or the code if there is none.
pub fn reason_or_code(status: &Status) -> String {
    match reason(status) {
        reason if reason.is_empty() => format!("{:?}", status.code()),
        reason => reason,
    }
}

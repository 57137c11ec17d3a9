//! Those who call a server.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::uri::PathAndQuery;
use leadsmith::wire::proto::auth_service_client::AuthServiceClient;
use leadsmith::wire::proto::lead_service_client::LeadServiceClient;
use leadsmith::wire::proto::order_service_client::OrderServiceClient;
use leadsmith::wire::proto::{self, Lead};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::codec::Bytes;

/// How long a call may take, unless a proof says otherwise.
const DEADLINE: Duration = Duration::from_secs(20);

/// Somebody who calls a server over one connection.
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
            .with_context(|| format!("nothing answers on {address}"))?;
        Self::on(channel, token)
    }

    /// Connects to a server from this address of the machine, as somebody not known.
    pub async fn connect_from(local: IpAddr, address: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .local_address(Some(local))
            .tcp_nodelay(true)
            .connect()
            .await
            .with_context(|| format!("nothing answers on {address}"))?;
        Self::on(channel, "")
    }

    /// Calls over a connection that is there.
    pub fn on(channel: Channel, token: &str) -> Result<Self> {
        Ok(Self {
            channel,
            token: format!("Bearer {token}").parse()?,
            deadline: Some(DEADLINE),
        })
    }

    /// The same without a deadline of its own: the service's holds.
    pub fn without_deadline(&self) -> Self {
        Self {
            deadline: None,
            ..self.clone()
        }
    }

    /// A person who signs in.
    pub async fn sign_in(address: &str, username: &str, password: &str) -> Result<Self> {
        let caller = Self::connect(address, "").await?;
        let request = proto::SignInRequest {
            username: username.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        let answer = caller.auth().sign_in(request).await?.into_inner();
        Self::on(caller.channel, &answer.token)
    }

    /// The same somebody, over a connection to another server.
    pub async fn at(&self, address: &str) -> Result<Self> {
        let Self { channel, .. } = Self::connect(address, "").await?;
        Ok(Self {
            channel,
            ..self.clone()
        })
    }

    /// Calls any RPC, given as `Service/Method`, with the bytes of a message, and gives those of the answer.
    pub async fn call(&self, rpc: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut client = Grpc::new(self.channel.clone());
        let away = |error| Status::unavailable(format!("{error}"));
        client.ready().await.map_err(away)?;
        let path = PathAndQuery::try_from(format!("/leadsmith.v1.{rpc}"));
        let path = path.map_err(|error| Status::internal(error.to_string()))?;
        let answer = client.unary(self.request(message), path, Bytes).await?;
        Ok(answer.into_inner())
    }

    pub fn leads(&self) -> LeadServiceClient<Channel> {
        LeadServiceClient::new(self.channel.clone())
    }

    pub fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel.clone())
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

    /// An order of a lead, with the one action provision-client.
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

    /// Runs an order's provision-client; says whether it changed nothing.
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

/// A lead's version, as its etag tells it; 0 for none.
pub fn version(lead: &Lead) -> i64 {
    lead.etag.trim_matches('"').parse().unwrap_or(0)
}

/// The documented reason of a refusal; empty when it has none.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    info.map_or(String::new(), |info| info.reason.clone())
}

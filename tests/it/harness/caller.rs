//! A caller, and helpers for frequent calls.

use leadsmith::app::Running;
use leadsmith_proto::auth_service_client::AuthServiceClient;
use leadsmith_proto::client_service_client::ClientServiceClient;
use leadsmith_proto::dashboard_service_client::DashboardServiceClient;
use leadsmith_proto::event_service_client::EventServiceClient;
use leadsmith_proto::lead_service_client::LeadServiceClient;
use leadsmith_proto::operator_service_client::OperatorServiceClient;
use leadsmith_proto::opportunity_service_client::OpportunityServiceClient;
use leadsmith_proto::order_queue_service_client::OrderQueueServiceClient;
use leadsmith_proto::order_service_client::OrderServiceClient;
use leadsmith_proto::service_account_service_client::ServiceAccountServiceClient;
use leadsmith_proto::{self as proto, Lead, Order};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;

use super::documented::Documented;
use super::{PASSWORD, channel};

/// A caller with a token.
#[derive(Clone)]
pub struct Caller {
    pub id: Uuid,
    pub token: String,
    pub channel: Channel,
}

/// Adds the token to every call.
#[derive(Clone)]
pub struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value = MetadataValue::try_from(format!("Bearer {}", self.0)).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

type Called = InterceptedService<Documented, Bearer>;

impl Caller {
    /// The same principal on another server.
    pub fn at(&self, server: &Running) -> Self {
        Self {
            channel: channel(server.address),
            ..self.clone()
        }
    }

    fn documented(&self) -> Documented {
        Documented(self.channel.clone())
    }

    pub fn leads(&self) -> LeadServiceClient<Called> {
        LeadServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn clients(&self) -> ClientServiceClient<Called> {
        ClientServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn dashboards(&self) -> DashboardServiceClient<Called> {
        DashboardServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn events(&self) -> EventServiceClient<Called> {
        EventServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn queues(&self) -> OrderQueueServiceClient<Called> {
        OrderQueueServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn opportunities(&self) -> OpportunityServiceClient<Called> {
        OpportunityServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn orders(&self) -> OrderServiceClient<Called> {
        OrderServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn operators(&self) -> OperatorServiceClient<Called> {
        OperatorServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn service_accounts(&self) -> ServiceAccountServiceClient<Called> {
        ServiceAccountServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    pub fn auth(&self) -> AuthServiceClient<Called> {
        AuthServiceClient::with_interceptor(self.documented(), Bearer(self.token.clone()))
    }

    /// Creates a lead with this last name.
    pub async fn create_lead(&self, last_name: &str) -> Lead {
        self.create(Lead {
            last_name: last_name.into(),
            ..Lead::default()
        })
        .await
        .unwrap()
    }

    pub async fn create(&self, lead: Lead) -> Result<Lead, Status> {
        let request = proto::CreateLeadRequest {
            lead: Some(lead),
            ..Default::default()
        };
        let answer = self.leads().create(request).await?;
        Ok(answer.into_inner().lead.unwrap())
    }

    pub async fn get(&self, id: &str) -> Lead {
        let request = proto::GetLeadRequest { id: id.into() };
        self.leads()
            .get(request)
            .await
            .unwrap()
            .into_inner()
            .lead
            .unwrap()
    }

    /// Updates the fields of these paths.
    pub async fn update(&self, lead: Lead, paths: &[&str]) -> Result<Lead, Status> {
        self.leads()
            .update(update(lead, paths))
            .await
            .map(|answer| answer.into_inner().lead.unwrap())
    }

    pub async fn deactivate(&self, id: &str) -> Result<Lead, Status> {
        let request = proto::DeactivateLeadRequest {
            id: id.into(),
            ..Default::default()
        };
        self.leads()
            .deactivate(request)
            .await
            .map(|answer| answer.into_inner().lead.unwrap())
    }

    pub async fn reactivate(&self, id: &str) -> Result<Lead, Status> {
        let request = proto::ReactivateLeadRequest {
            id: id.into(),
            ..Default::default()
        };
        self.leads()
            .reactivate(request)
            .await
            .map(|answer| answer.into_inner().lead.unwrap())
    }

    pub async fn convert(&self, id: &str) -> Result<proto::ConvertLeadResponse, Status> {
        let request = proto::ConvertLeadRequest {
            id: id.into(),
            ..Default::default()
        };
        self.leads()
            .convert(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Converts a lead into a client that exists, and overwrites the fields of these paths.
    pub async fn convert_into(
        &self,
        id: &str,
        client_id: &str,
        overwrite: &[&str],
    ) -> Result<proto::ConvertLeadResponse, Status> {
        let request = convert_into(id, client_id, overwrite);
        let answer = self.leads().convert(request).await?;
        Ok(answer.into_inner())
    }

    pub async fn revert(&self, id: &str) -> Result<Lead, Status> {
        let request = proto::RevertConversionRequest {
            id: id.into(),
            ..Default::default()
        };
        let answer = self.leads().revert_conversion(request).await?;
        Ok(answer.into_inner().lead.unwrap())
    }

    pub async fn client(&self, id: &str) -> Result<proto::Client, Status> {
        let request = proto::GetClientRequest { id: id.into() };
        let answer = self.clients().get(request).await?;
        Ok(answer.into_inner().client.unwrap())
    }

    /// Erases a lead, with [`PASSWORD`].
    pub async fn erase(&self, id: &str) -> Result<Lead, Status> {
        let request = proto::EraseLeadRequest {
            id: id.into(),
            current_password: PASSWORD.into(),
            ..Default::default()
        };
        let answer = self.leads().erase(request).await?;
        Ok(answer.into_inner().lead.unwrap())
    }

    /// Creates an order with these actions. Without any, it gets the one that provisions the client.
    pub async fn create_order(&self, lead_id: &str, actions: Vec<proto::OrderAction>) -> Order {
        let order = Order {
            lead_id: lead_id.into(),
            actions,
            ..Order::default()
        };
        let request = proto::CreateOrderRequest {
            order: Some(order),
            ..Default::default()
        };
        self.orders()
            .create(request)
            .await
            .unwrap()
            .into_inner()
            .order
            .unwrap()
    }

    pub async fn cancel_order(&self, id: &str) -> Order {
        let request = proto::CancelOrderRequest {
            id: id.into(),
            ..Default::default()
        };
        let answer = self.orders().cancel(request).await.unwrap();
        answer.into_inner().order.unwrap()
    }

    pub async fn skip(&self, order_id: &str, action: &str) -> Result<Order, Status> {
        let request = proto::SkipActionRequest {
            order_id: order_id.into(),
            action: action.into(),
            ..Default::default()
        };
        let answer = self.orders().skip_action(request).await?;
        Ok(answer.into_inner().order.unwrap())
    }

    pub async fn run(
        &self,
        order_id: &str,
        action: &str,
    ) -> Result<proto::RunActionResponse, Status> {
        let request = proto::RunActionRequest {
            order_id: order_id.into(),
            action: action.into(),
            ..Default::default()
        };
        self.orders()
            .run_action(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// A lead's whole history, newest first.
    pub async fn history(&self, id: &str) -> Vec<proto::HistoryEntry> {
        let request = proto::ListHistoryRequest {
            id: id.into(),
            page_size: 1000,
            ..Default::default()
        };
        self.leads()
            .list_history(request)
            .await
            .unwrap()
            .into_inner()
            .entries
    }
}

/// A conversion into a client that exists, which overwrites the fields of these paths.
pub fn convert_into(id: &str, client_id: &str, overwrite: &[&str]) -> proto::ConvertLeadRequest {
    let paths: Vec<String> = overwrite.iter().map(|path| (*path).to_owned()).collect();
    let mask = prost_types::FieldMask { paths };
    proto::ConvertLeadRequest {
        id: id.into(),
        client_id: client_id.into(),
        overwrite: (!mask.paths.is_empty()).then_some(mask),
        ..Default::default()
    }
}

/// An update of the fields of these paths; without any, of every populated field.
pub fn update(lead: Lead, paths: &[&str]) -> proto::UpdateLeadRequest {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let mask = prost_types::FieldMask { paths };
    proto::UpdateLeadRequest {
        lead: Some(lead),
        update_mask: (!mask.paths.is_empty()).then_some(mask),
        ..Default::default()
    }
}

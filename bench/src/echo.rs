//! The echo server: the same RPCs and generated code, with responses of the same size, but without authentication
//! and database. It measures the cost of a tonic call alone.
//!
//! It runs in its own process, like the service, and returns the responses that it has read from standard input.

use std::io::Read as _;

use anyhow::Result;
use leadsmith_proto as proto;
use leadsmith_proto::lead_service_server::{LeadService, LeadServiceServer};
use leadsmith_proto::opportunity_service_server::{OpportunityService, OpportunityServiceServer};
use leadsmith_proto::order_service_server::{OrderService, OrderServiceServer};
use prost::Message;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

/// Encoded responses of the service, by RPC.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Replies {
    pub create: Vec<u8>,
    pub get: Vec<u8>,
    pub list: Vec<u8>,
    pub search: Vec<u8>,
    pub update: Vec<u8>,
    pub convert: Vec<u8>,
    pub run_action: Vec<u8>,
    pub claim_actions: Vec<u8>,
    pub update_opportunity: Vec<u8>,
}

/// Serves until it is killed. The first line of standard output is the address.
pub async fn serve() -> Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    let echo = Echo::new(&serde_json::from_slice(&input)?)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let connections =
        tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(LeadServiceServer::new(echo.clone()))
        .add_service(OrderServiceServer::new(echo.clone()))
        .add_service(OpportunityServiceServer::new(echo))
        .serve_with_incoming(connections)
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Echo {
    create: proto::CreateLeadResponse,
    get: proto::GetLeadResponse,
    list: proto::ListLeadsResponse,
    search: proto::SearchLeadsResponse,
    update: proto::UpdateLeadResponse,
    convert: proto::ConvertLeadResponse,
    run_action: proto::RunActionResponse,
    claim_actions: proto::ClaimActionsResponse,
    update_opportunity: proto::UpdateOpportunityResponse,
}

impl Echo {
    fn new(replies: &Replies) -> Result<Self> {
        Ok(Self {
            create: Message::decode(&*replies.create)?,
            get: Message::decode(&*replies.get)?,
            list: Message::decode(&*replies.list)?,
            search: Message::decode(&*replies.search)?,
            update: Message::decode(&*replies.update)?,
            convert: Message::decode(&*replies.convert)?,
            run_action: Message::decode(&*replies.run_action)?,
            claim_actions: Message::decode(&*replies.claim_actions)?,
            update_opportunity: Message::decode(&*replies.update_opportunity)?,
        })
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LeadService for Echo {
    async fn create(
        &self,
        _: Request<proto::CreateLeadRequest>,
    ) -> Reply<proto::CreateLeadResponse> {
        Ok(Response::new(self.create.clone()))
    }

    async fn get(&self, _: Request<proto::GetLeadRequest>) -> Reply<proto::GetLeadResponse> {
        Ok(Response::new(self.get.clone()))
    }

    async fn batch_get(
        &self,
        _: Request<proto::BatchGetLeadsRequest>,
    ) -> Reply<proto::BatchGetLeadsResponse> {
        Err(not_echoed())
    }

    async fn list_duplicates(
        &self,
        _: Request<proto::ListDuplicatesRequest>,
    ) -> Reply<proto::ListDuplicatesResponse> {
        Err(not_echoed())
    }

    async fn list(&self, _: Request<proto::ListLeadsRequest>) -> Reply<proto::ListLeadsResponse> {
        Ok(Response::new(self.list.clone()))
    }

    async fn search(
        &self,
        _: Request<proto::SearchLeadsRequest>,
    ) -> Reply<proto::SearchLeadsResponse> {
        Ok(Response::new(self.search.clone()))
    }

    async fn update(
        &self,
        _: Request<proto::UpdateLeadRequest>,
    ) -> Reply<proto::UpdateLeadResponse> {
        Ok(Response::new(self.update.clone()))
    }

    async fn convert(
        &self,
        _: Request<proto::ConvertLeadRequest>,
    ) -> Reply<proto::ConvertLeadResponse> {
        Ok(Response::new(self.convert.clone()))
    }

    async fn revert_conversion(
        &self,
        _: Request<proto::RevertConversionRequest>,
    ) -> Reply<proto::RevertConversionResponse> {
        Err(not_echoed())
    }

    async fn deactivate(
        &self,
        _: Request<proto::DeactivateLeadRequest>,
    ) -> Reply<proto::DeactivateLeadResponse> {
        Err(not_echoed())
    }

    async fn reactivate(
        &self,
        _: Request<proto::ReactivateLeadRequest>,
    ) -> Reply<proto::ReactivateLeadResponse> {
        Err(not_echoed())
    }

    async fn erase(&self, _: Request<proto::EraseLeadRequest>) -> Reply<proto::EraseLeadResponse> {
        Err(not_echoed())
    }

    async fn list_history(
        &self,
        _: Request<proto::ListHistoryRequest>,
    ) -> Reply<proto::ListHistoryResponse> {
        Err(not_echoed())
    }
}

#[tonic::async_trait]
impl OrderService for Echo {
    async fn run_action(
        &self,
        _: Request<proto::RunActionRequest>,
    ) -> Reply<proto::RunActionResponse> {
        Ok(Response::new(self.run_action.clone()))
    }

    async fn claim_actions(
        &self,
        _: Request<proto::ClaimActionsRequest>,
    ) -> Reply<proto::ClaimActionsResponse> {
        Ok(Response::new(self.claim_actions.clone()))
    }

    async fn report_action(
        &self,
        _: Request<proto::ReportActionRequest>,
    ) -> Reply<proto::ReportActionResponse> {
        Err(not_echoed())
    }

    async fn release_action(
        &self,
        _: Request<proto::ReleaseActionRequest>,
    ) -> Reply<proto::ReleaseActionResponse> {
        Err(not_echoed())
    }

    async fn create(
        &self,
        _: Request<proto::CreateOrderRequest>,
    ) -> Reply<proto::CreateOrderResponse> {
        Err(not_echoed())
    }

    async fn get(&self, _: Request<proto::GetOrderRequest>) -> Reply<proto::GetOrderResponse> {
        Err(not_echoed())
    }

    async fn list(&self, _: Request<proto::ListOrdersRequest>) -> Reply<proto::ListOrdersResponse> {
        Err(not_echoed())
    }

    async fn list_runs(
        &self,
        _: Request<proto::ListRunsRequest>,
    ) -> Reply<proto::ListRunsResponse> {
        Err(not_echoed())
    }

    async fn skip_action(
        &self,
        _: Request<proto::SkipActionRequest>,
    ) -> Reply<proto::SkipActionResponse> {
        Err(not_echoed())
    }

    async fn undo_skip(
        &self,
        _: Request<proto::UndoSkipRequest>,
    ) -> Reply<proto::UndoSkipResponse> {
        Err(not_echoed())
    }

    async fn r#move(&self, _: Request<proto::MoveOrderRequest>) -> Reply<proto::MoveOrderResponse> {
        Err(not_echoed())
    }

    async fn cancel(
        &self,
        _: Request<proto::CancelOrderRequest>,
    ) -> Reply<proto::CancelOrderResponse> {
        Err(not_echoed())
    }

    async fn comment(
        &self,
        _: Request<proto::CommentOrderRequest>,
    ) -> Reply<proto::CommentOrderResponse> {
        Err(not_echoed())
    }

    async fn list_history(
        &self,
        _: Request<proto::ListOrderHistoryRequest>,
    ) -> Reply<proto::ListOrderHistoryResponse> {
        Err(not_echoed())
    }
}

#[tonic::async_trait]
impl OpportunityService for Echo {
    async fn update(
        &self,
        _: Request<proto::UpdateOpportunityRequest>,
    ) -> Reply<proto::UpdateOpportunityResponse> {
        Ok(Response::new(self.update_opportunity.clone()))
    }

    async fn create(
        &self,
        _: Request<proto::CreateOpportunityRequest>,
    ) -> Reply<proto::CreateOpportunityResponse> {
        Err(not_echoed())
    }

    async fn get(
        &self,
        _: Request<proto::GetOpportunityRequest>,
    ) -> Reply<proto::GetOpportunityResponse> {
        Err(not_echoed())
    }

    async fn list(
        &self,
        _: Request<proto::ListOpportunitiesRequest>,
    ) -> Reply<proto::ListOpportunitiesResponse> {
        Err(not_echoed())
    }

    async fn close(
        &self,
        _: Request<proto::CloseOpportunityRequest>,
    ) -> Reply<proto::CloseOpportunityResponse> {
        Err(not_echoed())
    }

    async fn reopen(
        &self,
        _: Request<proto::ReopenOpportunityRequest>,
    ) -> Reply<proto::ReopenOpportunityResponse> {
        Err(not_echoed())
    }

    async fn list_history(
        &self,
        _: Request<proto::ListOpportunityHistoryRequest>,
    ) -> Reply<proto::ListOpportunityHistoryResponse> {
        Err(not_echoed())
    }
}

/// RPCs that no workload calls have no response.
fn not_echoed() -> Status {
    Status::unimplemented("the echo server supports only the measured RPCs")
}

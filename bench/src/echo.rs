//! The echo server: the same RPCs over the same generated code with answers of the same size, and
//! nothing behind them: no authentication, no database. It is what a tonic call costs by itself.
//!
//! It runs in a process of its own, as the service does, and gives what it read from standard input.

use std::io::Read as _;

use anyhow::Result;
use leadsmith::wire::proto;
use leadsmith::wire::proto::lead_service_server::{LeadService, LeadServiceServer};
use leadsmith::wire::proto::order_service_server::{OrderService, OrderServiceServer};
use prost::Message;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

/// Answers of the service, encoded, by RPC.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answers {
    pub create: Vec<u8>,
    pub get: Vec<u8>,
    pub list: Vec<u8>,
    pub search: Vec<u8>,
    pub update: Vec<u8>,
    pub convert: Vec<u8>,
    pub run_action: Vec<u8>,
}

/// Serves until killed; the first line of standard output is the address.
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
        .add_service(OrderServiceServer::new(echo))
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
}

impl Echo {
    fn new(answers: &Answers) -> Result<Self> {
        Ok(Self {
            create: Message::decode(&*answers.create)?,
            get: Message::decode(&*answers.get)?,
            list: Message::decode(&*answers.list)?,
            search: Message::decode(&*answers.search)?,
            update: Message::decode(&*answers.update)?,
            convert: Message::decode(&*answers.convert)?,
            run_action: Message::decode(&*answers.run_action)?,
        })
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LeadService for Echo {
    async fn create(
        &self,
        _: Request<proto::CreateLeadRequest>,
    ) -> Answer<proto::CreateLeadResponse> {
        Ok(Response::new(self.create.clone()))
    }

    async fn get(&self, _: Request<proto::GetLeadRequest>) -> Answer<proto::GetLeadResponse> {
        Ok(Response::new(self.get.clone()))
    }

    async fn list(&self, _: Request<proto::ListLeadsRequest>) -> Answer<proto::ListLeadsResponse> {
        Ok(Response::new(self.list.clone()))
    }

    async fn search(
        &self,
        _: Request<proto::SearchLeadsRequest>,
    ) -> Answer<proto::SearchLeadsResponse> {
        Ok(Response::new(self.search.clone()))
    }

    async fn update(
        &self,
        _: Request<proto::UpdateLeadRequest>,
    ) -> Answer<proto::UpdateLeadResponse> {
        Ok(Response::new(self.update.clone()))
    }

    async fn convert(
        &self,
        _: Request<proto::ConvertLeadRequest>,
    ) -> Answer<proto::ConvertLeadResponse> {
        Ok(Response::new(self.convert.clone()))
    }

    async fn deactivate(
        &self,
        _: Request<proto::DeactivateLeadRequest>,
    ) -> Answer<proto::DeactivateLeadResponse> {
        Err(not_echoed())
    }

    async fn reactivate(
        &self,
        _: Request<proto::ReactivateLeadRequest>,
    ) -> Answer<proto::ReactivateLeadResponse> {
        Err(not_echoed())
    }

    async fn erase(&self, _: Request<proto::EraseLeadRequest>) -> Answer<proto::EraseLeadResponse> {
        Err(not_echoed())
    }

    async fn list_history(
        &self,
        _: Request<proto::ListHistoryRequest>,
    ) -> Answer<proto::ListHistoryResponse> {
        Err(not_echoed())
    }
}

#[tonic::async_trait]
impl OrderService for Echo {
    async fn run_action(
        &self,
        _: Request<proto::RunActionRequest>,
    ) -> Answer<proto::RunActionResponse> {
        Ok(Response::new(self.run_action.clone()))
    }

    async fn create(
        &self,
        _: Request<proto::CreateOrderRequest>,
    ) -> Answer<proto::CreateOrderResponse> {
        Err(not_echoed())
    }

    async fn get(&self, _: Request<proto::GetOrderRequest>) -> Answer<proto::GetOrderResponse> {
        Err(not_echoed())
    }

    async fn list(
        &self,
        _: Request<proto::ListOrdersRequest>,
    ) -> Answer<proto::ListOrdersResponse> {
        Err(not_echoed())
    }

    async fn list_runs(
        &self,
        _: Request<proto::ListRunsRequest>,
    ) -> Answer<proto::ListRunsResponse> {
        Err(not_echoed())
    }
}

/// What no work calls has no answer to give.
fn not_echoed() -> Status {
    Status::unimplemented("the echo server answers what is measured only")
}

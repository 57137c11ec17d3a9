//! `ClientService`: conversion between messages and domain types.

use tonic::{Request, Response, Status};

use super::{Clients, Filter, Position};
use crate::core::violations::Violations;
use crate::features::leads::api::render;
use crate::features::leads::model::{self, Lead};
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::{self, read};
use leadsmith_proto::{self as proto, client_service_server::ClientService};

/// See `client_service.proto`.
pub struct ClientApi {
    /// The use cases.
    pub clients: Clients,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

paged!(ListClientsRequest);

#[tonic::async_trait]
impl ClientService for ClientApi {
    async fn get(
        &self,
        request: Request<proto::GetClientRequest>,
    ) -> Result<Response<proto::GetClientResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about("lead", id);
        let lead = self.clients.get(id).await?;
        Ok(Response::new(proto::GetClientResponse {
            client: render::client(lead),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListClientsRequest>,
    ) -> Result<Response<proto::ListClientsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let filter = Filter {
            owner_id: read::optional_id(&mut violations, "owner_id", &body.owner_id),
            convert_time_after: read::time(
                &mut violations,
                "convert_time_after",
                body.convert_time_after,
            ),
            convert_time_before: read::time(
                &mut violations,
                "convert_time_before",
                body.convert_time_before,
            ),
        };
        violations.finish()?;
        let watch_token = page.watch_token().await?;
        let rows = self.clients.list(&filter, page.input()?).await?;
        let render = |lead| render::client(lead).unwrap_or_default();
        let page = page.build(rows, position, render)?;
        Ok(Response::new(proto::ListClientsResponse {
            clients: page.rows,
            next_page_token: page.next_page_token,
            watch_token,
        }))
    }
}

fn position(lead: &Lead) -> Position {
    match &lead.status {
        model::Status::Converted { conversion } => (conversion.time, lead.id),
        // Not reachable: the query selects only converted leads.
        model::Status::Open | model::Status::Deactivated { .. } => (lead.update_time, lead.id),
    }
}

//! `ClientService` on the wire.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Filter;
use crate::changes::desk::Desk;
use crate::leads::api::render;
use crate::wire::proto::{self, client_service_server::ClientService};
use crate::wire::violations::Violations;
use crate::wire::{self, read};

/// See `client_service.proto`.
pub struct ClientApi(pub Arc<Desk>);

#[tonic::async_trait]
impl ClientService for ClientApi {
    async fn get(
        &self,
        request: Request<proto::GetClientRequest>,
    ) -> Result<Response<proto::GetClientResponse>, Status> {
        let (_, body) = wire::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        let lead = super::get(&self.0, id).await?;
        Ok(Response::new(proto::GetClientResponse {
            client: render::client(lead),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListClientsRequest>,
    ) -> Result<Response<proto::ListClientsResponse>, Status> {
        let (call, mut body) = wire::open(request)?;
        let mut violations = Violations::default();
        let window = self.0.page_tokens.window(&mut violations, &call, &mut body);
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
        let page = super::list(&self.0, &filter, window, |lead| {
            render::client(lead).unwrap_or_default()
        })
        .await?;
        Ok(Response::new(proto::ListClientsResponse {
            clients: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

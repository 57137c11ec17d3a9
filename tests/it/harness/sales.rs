//! Helpers for calls about opportunities.

use leadsmith_proto::{self as proto, Opportunity, OpportunityOutcome};
use tonic::Status;

use super::Caller;

impl Caller {
    /// Creates an opportunity of a lead with this name.
    pub async fn create_sale(&self, lead_id: &str, name: &str) -> Opportunity {
        let opportunity = Opportunity {
            lead_id: lead_id.into(),
            name: name.into(),
            ..Opportunity::default()
        };
        let request = proto::CreateOpportunityRequest {
            opportunity: Some(opportunity),
            ..Default::default()
        };
        let answer = self.opportunities().create(request).await.unwrap();
        answer.into_inner().opportunity.unwrap()
    }

    pub async fn get_sale(&self, id: &str) -> Opportunity {
        let request = proto::GetOpportunityRequest { id: id.into() };
        let answer = self.opportunities().get(request).await.unwrap();
        answer.into_inner().opportunity.unwrap()
    }

    /// Updates the fields of these paths.
    pub async fn update_sale(
        &self,
        opportunity: Opportunity,
        paths: &[&str],
    ) -> Result<Opportunity, Status> {
        let request = sale_update(opportunity, paths);
        let answer = self.opportunities().update(request).await?;
        Ok(answer.into_inner().opportunity.unwrap())
    }

    /// Closes an opportunity as WON.
    pub async fn win(&self, id: &str) -> Result<Opportunity, Status> {
        let request = close(id, OpportunityOutcome::Won);
        let answer = self.opportunities().close(request).await?;
        Ok(answer.into_inner().opportunity.unwrap())
    }

    /// Closes an opportunity as LOST.
    pub async fn lose(&self, id: &str, reason: &str) -> Result<Opportunity, Status> {
        let request = proto::CloseOpportunityRequest {
            reason: reason.into(),
            ..close(id, OpportunityOutcome::Lost)
        };
        let answer = self.opportunities().close(request).await?;
        Ok(answer.into_inner().opportunity.unwrap())
    }

    pub async fn reopen(&self, id: &str) -> Result<Opportunity, Status> {
        let request = proto::ReopenOpportunityRequest {
            id: id.into(),
            ..Default::default()
        };
        let answer = self.opportunities().reopen(request).await?;
        Ok(answer.into_inner().opportunity.unwrap())
    }

    /// An opportunity's whole history, newest first.
    pub async fn sale_history(&self, id: &str) -> Vec<proto::HistoryEntry> {
        let request = proto::ListOpportunityHistoryRequest {
            id: id.into(),
            page_size: 1000,
            ..Default::default()
        };
        let answer = self.opportunities().list_history(request).await.unwrap();
        answer.into_inner().entries
    }
}

/// An update of the fields of these paths; without any, of every populated field.
pub fn sale_update(opportunity: Opportunity, paths: &[&str]) -> proto::UpdateOpportunityRequest {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let mask = prost_types::FieldMask { paths };
    proto::UpdateOpportunityRequest {
        opportunity: Some(opportunity),
        update_mask: (!mask.paths.is_empty()).then_some(mask),
        ..Default::default()
    }
}

pub fn close(id: &str, outcome: OpportunityOutcome) -> proto::CloseOpportunityRequest {
    proto::CloseOpportunityRequest {
        id: id.into(),
        outcome: outcome.into(),
        ..Default::default()
    }
}

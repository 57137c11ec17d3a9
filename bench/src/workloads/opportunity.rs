//! Update of one field of an opportunity with a request id. Each order of the data set gets an opportunity with its id.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use prost_types::FieldMask;
use tonic::{Request, Response, Status};

use super::request_id;
use super::run_action::any;
use super::stored::Stored;
use super::update::{UpdateTask, script};
use crate::data::order_id;
use crate::echo::Replies;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed, data_sets};

/// Update of the next step of a random opportunity.
struct Update {
    leads: u64,
}

impl Workload for Update {
    type Body = proto::UpdateOpportunityRequest;
    type Reply = proto::UpdateOpportunityResponse;
    type Expected = (String, String);

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Expected)> {
        let id = order_id(any(self.leads, random)).to_string();
        let next_step = format!("Call {}", random.u64(..));
        let body = proto::UpdateOpportunityRequest {
            opportunity: Some(proto::Opportunity {
                id: id.clone(),
                next_step: next_step.clone(),
                ..proto::Opportunity::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["next_step".to_owned()],
            }),
            request_id: request_id(random).to_string(),
            ..proto::UpdateOpportunityRequest::default()
        };
        Ok((body, (id, next_step)))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.opportunities.update(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            update_opportunity: reply,
            ..Replies::default()
        }
    }

    fn check(&self, (id, next_step): &Self::Expected, reply: &Self::Reply) -> Result<()> {
        let opportunity = reply.opportunity.as_ref().context("no opportunity")?;
        ensure!(opportunity.id == *id, "another opportunity");
        ensure!(opportunity.next_step == *next_step, "another next step");
        ensure!(opportunity.etag != "\"1\"", "the etag is the old one");
        Ok(())
    }
}

/// An opportunity with the id of each order.
const PREPARATION: &str = "INSERT INTO opportunities (id, lead_id, version, name, stage, state, probability, owner_id, \
     next_step, description, create_time, update_time) \
     SELECT id, lead_id, 1, 'Hosting', 'CONTACT', 'OPEN', 0, '', 'Call back', '', create_time, \
     update_time FROM orders";

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let (programs, leads) = (setting.programs(), setting.leads);
    let data = data_sets(setting, programs, database, leads, Access::Changes).await?;
    for data in &data {
        data.storage.execute(PREPARATION).await?;
        data.storage.analyze().await?;
    }
    let bed = Testbed::on(setting, data).await?;
    let storage = Tables::Writes.ready(setting, database).await?;
    let in_flight = setting.in_flight;
    let workloads = bed.workloads(async |_| Ok(Update { leads })).await?;
    let changes = [("next_step", "Call back", "Call 4711")];
    let stored = Stored::new("Update", "opportunity.updated", &changes);
    let stored = stored.with_response(&bed.reply(&workloads).await?);
    // The database alone updates a field of a lead, a row of about the same size.
    let task = Arc::new(UpdateTask {
        leads,
        stored: stored.clone(),
    });
    let limit = Limit::new(&storage, in_flight, || task, || script(leads, &stored));
    let name = "Update of an opportunity";
    let rate = bed.rate(name, in_flight, &workloads, &limit, None).await?;
    let one = bed.one_caller(name, &workloads, &limit, 1.5).await?;
    bed.end().await?;
    storage.remove().await?;
    Ok(vec![rate, one])
}

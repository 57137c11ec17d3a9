//! The RPCs that change leads, opportunities, orders and queues, each with a request for a target of its own.

use anyhow::{Context as _, Result};
use leadsmith_proto::{
    CreateOrderQueueResponse, CreateOrderRequest, CreateOrderResponse, OpportunityOutcome,
};
use prost::Message;

use crate::harness::client::Caller;
use crate::harness::requests::{self, STEPS};

/// How long actions are claimed, in seconds: longer than the proof.
const LEASE: i64 = 3_600;
/// The only action of a new order.
const PROVISION: &str = "provision-client";

/// The callers of an RPC.
pub enum By {
    Sales,
    /// Operators with the role ADMIN, who can send their own password.
    Admins,
}

/// An RPC and its request for a target.
pub struct Rpc {
    pub name: &'static str,
    pub by: By,
    pub request: Request,
}

/// The target of a call: the name for a new record, or records that exist, by their ids.
#[derive(Default)]
pub struct Target {
    name: String,
    lead: String,
    order: String,
    opportunity: String,
    queue: String,
    /// The key of an EXTERNAL action that no other order has, and a claim of it.
    action: String,
    run: String,
}

type Request = fn(&Target, String) -> Vec<u8>;

const fn rpc(name: &'static str, request: Request) -> Rpc {
    Rpc {
        name,
        by: By::Sales,
        request,
    }
}

const fn by_admins(name: &'static str, request: Request) -> Rpc {
    Rpc {
        name,
        by: By::Admins,
        request,
    }
}

pub const RPCS: &[Rpc] = &[
    rpc("LeadService/Create", |of, id| {
        requests::create(&of.name, id).encode_to_vec()
    }),
    rpc("LeadService/Update", |of, id| {
        requests::update(&of.lead, "1", id).encode_to_vec()
    }),
    by_admins("LeadService/Update", |of, id| {
        let email = format!("{}@example.com", of.lead);
        requests::update_email(&of.lead, &email, id).encode_to_vec()
    }),
    rpc("LeadService/Deactivate", |of, id| {
        requests::deactivate(&of.lead, id).encode_to_vec()
    }),
    rpc("LeadService/Reactivate", |of, id| {
        requests::reactivate(&of.lead, id).encode_to_vec()
    }),
    rpc("LeadService/Convert", |of, id| {
        requests::convert(&of.lead, id).encode_to_vec()
    }),
    rpc("LeadService/RevertConversion", |of, id| {
        requests::revert_conversion(&of.lead, id).encode_to_vec()
    }),
    by_admins("LeadService/Erase", |of, id| {
        requests::erase(&of.lead, id).encode_to_vec()
    }),
    rpc("OpportunityService/Create", |of, id| {
        requests::opportunity(&of.lead, &of.name, id).encode_to_vec()
    }),
    rpc("OpportunityService/Update", |of, id| {
        requests::next_step(&of.opportunity, "1", id).encode_to_vec()
    }),
    rpc("OpportunityService/Close", |of, id| {
        requests::close(&of.opportunity, OpportunityOutcome::Lost, id).encode_to_vec()
    }),
    rpc("OpportunityService/Reopen", |of, id| {
        requests::reopen(&of.opportunity, id).encode_to_vec()
    }),
    rpc("OrderService/Create", |of, id| {
        requests::order(&of.lead, id).encode_to_vec()
    }),
    rpc("OrderService/RunAction", |of, id| {
        requests::run(&of.order, id).encode_to_vec()
    }),
    rpc("OrderService/SkipAction", |of, id| {
        requests::skip(&of.order, PROVISION, id).encode_to_vec()
    }),
    rpc("OrderService/UndoSkip", |of, id| {
        requests::undo_skip(&of.order, PROVISION, id).encode_to_vec()
    }),
    rpc("OrderService/Move", |of, id| {
        requests::move_order(&of.order, STEPS[1], id).encode_to_vec()
    }),
    rpc("OrderService/Comment", |of, id| {
        requests::comment(&of.order, &of.name, id).encode_to_vec()
    }),
    rpc("OrderService/Cancel", |of, id| {
        requests::cancel(&of.order, id).encode_to_vec()
    }),
    rpc("OrderService/ClaimActions", |of, id| {
        requests::claim_of(&of.action, 1, LEASE, id).encode_to_vec()
    }),
    rpc("OrderService/ReportAction", |of, id| {
        requests::report(&of.run, id).encode_to_vec()
    }),
    rpc("OrderService/ReleaseAction", |of, id| {
        requests::release(&of.run, id).encode_to_vec()
    }),
    by_admins("OrderQueueService/Create", |of, id| {
        requests::queue(&of.name, id).encode_to_vec()
    }),
    by_admins("OrderQueueService/Update", |of, id| {
        requests::rename_queue(&of.queue, &of.lead, id).encode_to_vec()
    }),
    by_admins("OrderQueueService/Archive", |of, id| {
        requests::archive_queue(&of.queue, id).encode_to_vec()
    }),
    by_admins("OrderQueueService/Unarchive", |of, id| {
        requests::unarchive_queue(&of.queue, id).encode_to_vec()
    }),
];

impl Rpc {
    /// Creates the target that the RPC needs. Actions are claimed by `sales`.
    pub async fn prepare(&self, sales: &Caller, admin: &Caller, name: String) -> Result<Target> {
        let lead = sales.create(&format!("For {name}"), "").await?.id;
        let mut target = Target {
            name,
            lead,
            ..Target::default()
        };
        match self.name {
            "LeadService/Reactivate" => {
                sales.deactivate(&target.lead).await?;
            }
            "LeadService/RevertConversion" => {
                sales.convert(&target.lead).await?;
            }
            name if name.starts_with("OpportunityService/") => {
                target.prepare_opportunity(self.name, sales).await?;
            }
            name if name.starts_with("OrderQueueService/") => {
                target.prepare_queue(self.name, admin).await?;
            }
            name if name.starts_with("OrderService/") => {
                target.prepare_order(self.name, sales, admin).await?;
            }
            _ => {}
        }
        Ok(target)
    }
}

impl Target {
    async fn prepare_opportunity(&mut self, rpc: &str, sales: &Caller) -> Result<()> {
        if rpc == "OpportunityService/Create" {
            return Ok(());
        }
        self.opportunity = sales.opportunity(&self.lead, &self.name).await?;
        if rpc == "OpportunityService/Reopen" {
            let close = requests::close(&self.opportunity, OpportunityOutcome::Won, String::new());
            sales.opportunities().close(sales.request(close)).await?;
        }
        Ok(())
    }

    async fn prepare_queue(&mut self, rpc: &str, admin: &Caller) -> Result<()> {
        if rpc == "OrderQueueService/Create" {
            return Ok(());
        }
        // No other queue has this name.
        let create = requests::queue(&format!("Queue of {}", self.lead), String::new());
        let created: CreateOrderQueueResponse =
            call(admin, "OrderQueueService/Create", create).await?;
        self.queue = created.order_queue.context("no queue")?.id;
        if rpc == "OrderQueueService/Unarchive" {
            let archive = requests::archive_queue(&self.queue, String::new());
            admin
                .call("OrderQueueService/Archive", archive.encode_to_vec())
                .await?;
        }
        Ok(())
    }

    async fn prepare_order(&mut self, rpc: &str, sales: &Caller, admin: &Caller) -> Result<()> {
        let order = match rpc {
            "OrderService/Create" => return Ok(()),
            "OrderService/Move" => {
                self.prepare_queue(rpc, admin).await?;
                CreateOrderRequest {
                    queue_id: self.queue.clone(),
                    ..requests::order(&self.lead, String::new())
                }
            }
            "OrderService/ClaimActions"
            | "OrderService/ReportAction"
            | "OrderService/ReleaseAction" => {
                self.action = format!("work-{}", self.lead);
                requests::order_to(&self.action, &self.lead, String::new())
            }
            _ => requests::order(&self.lead, String::new()),
        };
        let created: CreateOrderResponse = call(sales, "OrderService/Create", order).await?;
        self.order = created.order.context("no order")?.id;
        match rpc {
            "OrderService/UndoSkip" => {
                let skip = requests::skip(&self.order, PROVISION, String::new());
                sales
                    .call("OrderService/SkipAction", skip.encode_to_vec())
                    .await?;
            }
            "OrderService/ReportAction" | "OrderService/ReleaseAction" => {
                let claim = requests::claim_of(&self.action, 1, LEASE, String::new());
                let claimed = sales.orders().claim_actions(sales.request(claim)).await?;
                let run = claimed.into_inner().runs.into_iter().next();
                self.run = run.context("nothing was claimed")?.id;
            }
            _ => {}
        }
        Ok(())
    }
}

async fn call<R: Message + Default>(
    caller: &Caller,
    rpc: &str,
    request: impl Message,
) -> Result<R> {
    let response = caller.call(rpc, request.encode_to_vec()).await?;
    Ok(R::decode(response.as_slice())?)
}

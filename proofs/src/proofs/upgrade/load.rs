//! Callers who take leads through their lives, whichever servers there are just then, and repeat what was
//! not answered under the same request id.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use leadsmith::wire::proto::{self, Lead};
use prost::Message;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::client::{Caller, reason, version};
use crate::harness::requests;

/// A caller whom nobody stops ends by itself.
const LEADS: usize = 100_000;
/// How often a call is repeated, and with which pause: until a server has taken over from another.
const REPEATS: usize = 300;
const PAUSE: Duration = Duration::from_millis(20);
/// The reasons that a caller retries (docs/src/errors.md). An error without a reason comes from the caller's
/// gRPC library.
const RETRYABLE: &[&str] = &[
    "",
    "DATABASE_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_IN_FLIGHT",
    "SERVER_OVERLOADED",
    "WRITE_CONFLICT",
];

/// A change that was answered.
#[derive(Clone)]
pub struct Answered {
    pub rpc: &'static str,
    pub body: Vec<u8>,
    pub answer: Vec<u8>,
}

/// What callers saw.
#[derive(Default)]
pub struct Seen {
    pub changes: Vec<Answered>,
    /// The newest version of each lead that was answered.
    pub leads: HashMap<Uuid, Lead>,
    /// How often they were told to repeat, by the reason.
    pub told: BTreeMap<String, usize>,
    pub broken: Vec<String>,
}

/// What callers share.
#[derive(Default)]
pub struct Load {
    /// The servers there are, each by its number.
    servers: Mutex<Vec<(u32, Caller)>>,
    next: AtomicUsize,
    /// Whether servers come or go just now, so that a call may be refused.
    restless: AtomicBool,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

impl Load {
    /// Begins, with so many callers.
    pub fn start(self: &Arc<Self>, callers: usize, random: &mut Rng) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for number in 0..callers {
            let (load, random) = (Arc::clone(self), random.fork());
            running.spawn(async move {
                if let Err(why) = load.work(number, random).await {
                    load.broke(why);
                }
            });
        }
        running
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// From now on servers come or go, or do not any more.
    pub fn restless(&self, is: bool) {
        self.restless.store(is, Ordering::SeqCst);
    }

    pub fn open(&self, server: u32, caller: Caller) {
        lock(&self.servers).push((server, caller));
    }

    pub fn close(&self, server: u32) {
        lock(&self.servers).retain(|(number, _)| *number != server);
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    fn broke(&self, why: String) {
        self.seen().broken.push(why);
    }

    /// One server after the other.
    fn caller(&self) -> Option<Caller> {
        let servers = lock(&self.servers);
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let (_, caller) = servers.get(next % servers.len().max(1))?;
        Some(caller.clone())
    }

    /// A call, repeated as callers are told to. A refusal that has no cause is noted.
    async fn call(&self, rpc: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        for _ in 0..REPEATS {
            let Some(caller) = self.caller() else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let restless = self.restless.load(Ordering::SeqCst);
            let status = match caller.call(rpc, body.to_vec()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            let reason = reason(&status);
            let refused = format!("{rpc} was answered {reason} {status}");
            if !RETRYABLE.contains(&reason.as_str()) {
                return Err(refused);
            }
            if !restless && !self.restless.load(Ordering::SeqCst) {
                self.broke(format!("while servers neither came nor went, {refused}"));
            }
            *self.seen().told.entry(reason).or_default() += 1;
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!("{rpc} was never answered"))
    }

    /// A change.
    async fn change<R: Message + Default>(
        &self,
        rpc: &'static str,
        request: impl Message,
    ) -> Result<R, String> {
        let body = request.encode_to_vec();
        let answer = self.call(rpc, &body).await?;
        let read = R::decode(answer.as_slice()).map_err(|error| error.to_string())?;
        self.seen().changes.push(Answered { rpc, body, answer });
        Ok(read)
    }

    /// Notes what a lead is now.
    fn note(&self, lead: Option<Lead>) -> Result<Lead, String> {
        let lead = lead.ok_or("an answer has no lead")?;
        let id = lead.id.parse().map_err(|_| "a lead has no id")?;
        self.seen().leads.insert(id, lead.clone());
        Ok(lead)
    }

    async fn work(&self, caller: usize, mut random: Rng) -> Result<(), String> {
        for number in 0..LEADS {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let name = format!("Lead {caller} {number}");
            self.life(name, number, &mut random).await?;
        }
        Ok(())
    }

    /// Creates a lead, changes it, sets some aside for a moment, and converts it, by hand or by its order.
    async fn life(&self, name: String, number: usize, random: &mut Rng) -> Result<(), String> {
        let mut request_id = || Uuid::from_u128(random.u128(..)).to_string();
        let create = requests::create(&name, request_id());
        let created: proto::CreateLeadResponse = self.change("LeadService/Create", create).await?;
        let id = self.note(created.lead)?.id;
        let update = requests::update(&id, &number.to_string(), request_id());
        let updated: proto::UpdateLeadResponse = self.change("LeadService/Update", update).await?;
        self.look(&self.note(updated.lead)?).await?;
        let order = requests::order(&id, request_id());
        let ordered: proto::CreateOrderResponse = self.change("OrderService/Create", order).await?;
        let order_id = ordered.order.unwrap_or_default().id;
        let get = proto::GetOrderRequest {
            id: order_id.clone(),
        };
        self.call("OrderService/Get", &get.encode_to_vec()).await?;
        if number.is_multiple_of(3) {
            let request = requests::deactivate(&id, request_id());
            let done: proto::DeactivateLeadResponse =
                self.change("LeadService/Deactivate", request).await?;
            self.look(&self.note(done.lead)?).await?;
            let request = requests::reactivate(&id, request_id());
            let done: proto::ReactivateLeadResponse =
                self.change("LeadService/Reactivate", request).await?;
            self.note(done.lead)?;
        }
        let list = proto::ListLeadsRequest {
            page_size: 5,
            ..Default::default()
        };
        self.call("LeadService/List", &list.encode_to_vec()).await?;
        let converted = if number.is_multiple_of(2) {
            let request = requests::run(&order_id, request_id());
            let done: proto::RunActionResponse =
                self.change("OrderService/RunAction", request).await?;
            done.lead
        } else {
            let request = requests::convert(&id, request_id());
            let done: proto::ConvertLeadResponse =
                self.change("LeadService/Convert", request).await?;
            done.lead
        };
        self.look(&self.note(converted)?).await
    }

    /// Whether a lead is what was answered last, whoever is asked.
    async fn look(&self, wanted: &Lead) -> Result<(), String> {
        let get = proto::GetLeadRequest {
            id: wanted.id.clone(),
        };
        let answer = self.call("LeadService/Get", &get.encode_to_vec()).await?;
        let found = proto::GetLeadResponse::decode(answer.as_slice());
        let found = found
            .map_err(|error| error.to_string())?
            .lead
            .unwrap_or_default();
        if found != *wanted {
            let (found, wanted) = (version(&found), version(wanted));
            self.broke(format!(
                "a lead at version {wanted} was shown otherwise, at {found}"
            ));
        }
        Ok(())
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

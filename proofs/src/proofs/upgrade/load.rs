//! Callers that take leads through their whole life cycle on whichever servers are running, and retry failed calls
//! with the same request id.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use leadsmith_proto::{self as proto, Lead};
use prost::Message;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::client::{Caller, reason, version};
use crate::harness::requests;

/// An upper limit, so that a caller that is never stopped ends.
const LEADS: usize = 100_000;
/// How often a call is retried, and with which pause. The total must cover the change from one server to another.
const REPEATS: usize = 300;
const PAUSE: Duration = Duration::from_millis(20);
/// The reasons that a caller retries (docs/src/errors.md). An error without a reason comes from the caller's gRPC
/// library.
const RETRYABLE: &[&str] = &[
    "",
    "DATABASE_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_IN_FLIGHT",
    "SERVER_OVERLOADED",
    "WRITE_CONFLICT",
];

/// An acknowledged change.
#[derive(Clone)]
pub struct Acknowledged {
    pub rpc: &'static str,
    pub body: Vec<u8>,
    pub response: Vec<u8>,
}

/// What all callers observed.
#[derive(Default)]
pub struct Seen {
    pub changes: Vec<Acknowledged>,
    /// The newest acknowledged version of each lead.
    pub leads: HashMap<Uuid, Lead>,
    /// Orders with an EXTERNAL action that was left open, and those of which a worker has reported it.
    pub open: BTreeSet<String>,
    pub reported: BTreeSet<String>,
    /// Converted leads whose conversions can be reverted, oldest first.
    pub revertible: VecDeque<String>,
    pub reverted: usize,
    pub joined: usize,
    /// The number of retries, by the reason of the error.
    pub retries: BTreeMap<String, usize>,
    pub broken: Vec<String>,
}

/// The shared state of the callers.
#[derive(Default)]
pub struct Load {
    /// The running servers, each with a number.
    servers: Mutex<Vec<(u32, Caller)>>,
    next: AtomicUsize,
    /// Whether servers are starting or stopping now, so that a call may fail.
    servers_changing: AtomicBool,
    /// Whether every server has this version, so that callers may use what the previous one does not know.
    all_new: AtomicBool,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

impl Load {
    /// Starts this many callers.
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

    /// Sets whether servers are starting or stopping.
    pub fn servers_changing(&self, is: bool) {
        self.servers_changing.store(is, Ordering::SeqCst);
    }

    /// Lets callers use what the previous version does not know.
    pub fn every_server_is_new(&self) {
        self.all_new.store(true, Ordering::SeqCst);
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

    pub(super) fn broke(&self, why: String) {
        self.seen().broken.push(why);
    }

    /// The next server in rotation.
    fn caller(&self) -> Option<Caller> {
        let servers = lock(&self.servers);
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let (_, caller) = servers.get(next % servers.len().max(1))?;
        Some(caller.clone())
    }

    /// Makes a call and retries it as the documentation requires. An error that nothing explains is recorded.
    pub(super) async fn call(&self, rpc: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        for _ in 0..REPEATS {
            let Some(caller) = self.caller() else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let servers_changing = self.servers_changing.load(Ordering::SeqCst);
            let status = match caller.call(rpc, body.to_vec()).await {
                Ok(response) => return Ok(response),
                Err(status) => status,
            };
            let reason = reason(&status);
            let rejected = format!("{rpc} failed with {reason} {status}");
            if !RETRYABLE.contains(&reason.as_str()) {
                return Err(rejected);
            }
            if !servers_changing && !self.servers_changing.load(Ordering::SeqCst) {
                self.broke(format!("while no server started or stopped, {rejected}"));
            }
            *self.seen().retries.entry(reason).or_default() += 1;
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!("{rpc} never succeeded"))
    }

    /// Makes a change and records it.
    pub(super) async fn change<R: Message + Default>(
        &self,
        rpc: &'static str,
        request: impl Message,
    ) -> Result<R, String> {
        let body = request.encode_to_vec();
        let response = self.call(rpc, &body).await?;
        let read = R::decode(response.as_slice()).map_err(|error| error.to_string())?;
        self.seen().changes.push(Acknowledged {
            rpc,
            body,
            response,
        });
        Ok(read)
    }

    /// Records the current state of a lead.
    pub(super) fn note(&self, lead: Option<Lead>) -> Result<Lead, String> {
        let lead = lead.ok_or("a response has no lead")?;
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
            self.run_life_cycle(name, number, &mut random).await?;
        }
        Ok(())
    }

    /// Creates a lead, changes it, deactivates and reactivates every third one, and converts it, directly or
    /// through its order. Most have another order with work for people or workers.
    async fn run_life_cycle(
        &self,
        name: String,
        number: usize,
        random: &mut Rng,
    ) -> Result<(), String> {
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
        match number % 4 {
            0 | 2 => self.do_by_hand(&id, number / 2, &mut request_id).await?,
            1 => self.leave_to_workers(&id, &mut request_id).await?,
            _ => {}
        }
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
        self.look(&self.note(converted)?).await?;
        if number % 4 == 3 {
            // None of its orders is COMPLETE.
            self.seen().revertible.push_back(id);
        }
        if self.all_new.load(Ordering::SeqCst) {
            self.work_as_worker(1, requests::INSTALL, &mut request_id)
                .await?;
            self.revert_and_convert(&mut request_id).await?;
            self.join_and_revert(&name, &mut request_id).await?;
        }
        Ok(())
    }

    /// Checks that a lead is as last acknowledged, whichever server responds.
    pub(super) async fn look(&self, wanted: &Lead) -> Result<(), String> {
        let get = proto::GetLeadRequest {
            id: wanted.id.clone(),
        };
        let response = self.call("LeadService/Get", &get.encode_to_vec()).await?;
        let found = proto::GetLeadResponse::decode(response.as_slice());
        let found = found
            .map_err(|error| error.to_string())?
            .lead
            .unwrap_or_default();
        if found != *wanted {
            let (found, wanted) = (version(&found), version(wanted));
            self.broke(format!(
                "a lead was expected at version {wanted}, but is different, at version {found}"
            ));
        }
        Ok(())
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}

//! Calls of every kind that the alerts and the dashboard look at.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use leadsmith_proto::SignInRequest;
use tokio::task::JoinSet;
use tonic::Status;

use crate::harness::client::Caller;
use crate::harness::context::{Fixture, OPERATOR, PASSWORD};
use crate::harness::program::Serving;

const CALLERS: usize = 8;
/// An upper limit, so that a caller that is never stopped ends.
const ROUNDS: usize = 100_000;
const PAUSE: Duration = Duration::from_millis(50);
/// Wrong passwords count for their address and for the username. So the load has an address and usernames of its own.
const ADDRESS: [u8; 4] = [127, 0, 0, 8];
/// How often the load signs in, with a right and a wrong password, in rounds.
const SIGN_INS: usize = 20;

/// The running callers.
pub struct Load {
    _running: JoinSet<()>,
    is_stopping: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Load {
    pub async fn start(fixture: &Fixture, server: &Serving) -> Result<Self> {
        let mut running = JoinSet::new();
        let is_stopping = Arc::<AtomicBool>::default();
        let calls = Arc::<AtomicUsize>::default();
        let stranger = Caller::connect_from(IpAddr::from(ADDRESS), &server.address).await?;
        for (number, caller) in fixture
            .callers(server, CALLERS)
            .await?
            .into_iter()
            .enumerate()
        {
            let stranger = (number == 0).then(|| stranger.clone());
            let (stop, calls) = (Arc::clone(&is_stopping), Arc::clone(&calls));
            running.spawn(async move {
                for round in 0..ROUNDS {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    // Faults make calls fail.
                    let _ = work(&caller, &format!("Load {number} {round}")).await;
                    if let Some(stranger) = stranger.as_ref().filter(|_| round % SIGN_INS == 0) {
                        let _ = sign_in(stranger, OPERATOR, PASSWORD).await;
                        let nobody = format!("nobody-{round}");
                        let _ = sign_in(stranger, &nobody, "a wrong password").await;
                    }
                    calls.fetch_add(6, Ordering::SeqCst);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Ok(Self {
            _running: running,
            is_stopping,
            calls,
        })
    }

    /// Stops the callers. Returns how many calls they have made, about.
    pub fn stop(self) -> usize {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.calls.load(Ordering::SeqCst)
    }
}

/// Six calls, one of which fails.
async fn work(caller: &Caller, name: &str) -> Result<(), Status> {
    let missing = uuid::Uuid::nil().to_string();
    let _ = caller.get(&missing).await;
    let lead = caller.create(name, "").await?;
    caller.update(&lead.id, "+44 20 7946 0000", "").await?;
    caller.get(&lead.id).await?;
    let order = caller.order(&lead.id).await?;
    caller.provision(&order).await?;
    Ok(())
}

/// Signs in on the caller's connection.
pub async fn sign_in(caller: &Caller, username: &str, password: &str) -> Result<(), Status> {
    let request = SignInRequest {
        username: username.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    };
    caller.auth().sign_in(request).await?;
    Ok(())
}

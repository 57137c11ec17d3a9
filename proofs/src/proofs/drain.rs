//! A server at full load is told to stop, while one caller watches its health without reading and one holds
//! a connection on which nothing is said. A call that failed must have had
//! no effect: who was let in is answered. Shown to fail by [`Bug::CutOff`].
//!
//! [`Bug::CutOff`]: leadsmith::seeded::Bug::CutOff

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::client::Caller;
use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::whole;

const CALLERS: usize = 64;
const CONNECTIONS: usize = 8;
/// A caller whom nobody stops ends by itself.
const CALLS: usize = 100_000;
const EXIT: Duration = Duration::from_secs(30);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let rounds = context.size(4, 100);
    let (mut answered, mut failed, mut slowest) = (0, 0, Duration::ZERO);
    let desk = context.desk()?;
    for round in 0..rounds {
        let mut server = context.serve(&desk, &[]).await?;
        let callers = desk.callers(&server, CONNECTIONS).await?;
        let silent = TcpStream::connect(&server.address).await?;
        let mut health = HealthClient::new(desk.caller(&server).await?.channel);
        // Never read.
        let watch = health.watch(HealthCheckRequest::default()).await?;
        let mut running = JoinSet::new();
        for index in 0..CALLERS {
            let caller = callers[index % CONNECTIONS].clone();
            running.spawn(create_until_refused(caller, format!("{round} {index}")));
        }
        tokio::time::sleep(Duration::from_millis(random.u64(300..900))).await;
        let begun = Instant::now();
        server.terminate()?;
        match server.ended(EXIT).await? {
            Some(status) => {
                slowest = slowest.max(begun.elapsed());
                findings.expect(status.success(), || format!("it ended with {status}"));
            }
            None => findings.broke("it did not end within 30 s"),
        }
        let db = desk.database.connect().await?;
        let names = db.texts("SELECT last_name FROM leads").await?;
        db.close().await?;
        let there: HashSet<String> = names.into_iter().collect();
        for (done, refused) in running.join_all().await {
            answered += done.len();
            for name in done.iter().filter(|name| !there.contains(*name)) {
                findings.broke(format!("the acknowledged lead {name:?} is gone"));
            }
            failed += 1;
            findings.expect(!there.contains(&refused), || {
                format!("the call that made {refused:?} was let in and not answered")
            });
        }
        drop((silent, watch));
    }
    whole::look(&desk.database, &mut findings).await?;
    findings.fact("stops", rounds);
    findings.fact("calls answered", answered);
    findings.fact("calls not let in", failed);
    findings.fact("slowest stop", format!("{} ms", slowest.as_millis()));
    findings.finish()
}

/// The names of the leads that were created, and of the first that was not.
async fn create_until_refused(caller: Caller, name: String) -> (Vec<String>, String) {
    let mut done = Vec::new();
    for number in 0..CALLS {
        let name = format!("{name} {number}");
        match caller.create(&name, "").await {
            Ok(_) => done.push(name),
            Err(_) => return (done, name),
        }
    }
    (done, String::new())
}

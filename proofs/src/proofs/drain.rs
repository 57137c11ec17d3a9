//! A server under full load is asked to stop. Meanwhile one client watches the health service without reading, one
//! has an idle connection, one does not read a response, and one has sent half of a request. A call that fails
//! must have had no effect. Every admitted call gets a response, including the one whose second half arrives
//! during the drain. If that half never arrives, the server waits until the end of the drain. Shown to fail by
//! `cut-off`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use leadsmith_proto::{self as proto, Lead};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::harness::client::{Caller, reason};
use crate::harness::consistency;
use crate::harness::context::{Context, Fixture};
use crate::harness::program::Serving;
use crate::harness::raw::{Raw, StartedCall, code_and_reason, framed};
use crate::harness::report::Findings;
use crate::harness::wire::{self, Wire, frame};

const CALLERS: usize = 64;
const CONNECTIONS: usize = 8;
/// An upper limit, so that a caller that is never stopped ends.
const CALLS: usize = 100_000;
const EXIT: Duration = Duration::from_secs(30);
/// How long after the stop signal the rest of the half-sent request is sent.
const RESUME_AFTER: Duration = Duration::from_millis(1_500);
/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
const WINDOW: u16 = 4;

/// The totals over all stops.
#[derive(Default)]
struct Sum {
    acknowledged: usize,
    failed: usize,
    slowest: Duration,
    /// The slowest stop with a call that never ends.
    waited: Duration,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let rounds = context.size(2, 100);
    let mut sum = Sum::default();
    let fixture = context.fixture()?;
    for round in 0..rounds {
        let mut server = context.serve(&fixture, &[]).await?;
        let callers = fixture.callers(&server, CONNECTIONS).await?;
        // Only in some rounds, because the server then waits for the whole drain.
        let never_ends = round % 20 == 1;
        let half_sent = format!("{round} half-sent");
        let stalling = StallingClients::connect(&fixture, &server, &half_sent, never_ends).await?;
        let mut running = JoinSet::new();
        for index in 0..CALLERS {
            let caller = callers[index % CONNECTIONS].clone();
            running.spawn(create_until_rejected(caller, format!("{round} {index}")));
        }
        tokio::time::sleep(Duration::from_millis(random.u64(300..900))).await;
        let started = Instant::now();
        server.terminate()?;
        let stalling = stalling.resume(&mut findings).await?;
        let status = server.ended(EXIT).await?;
        let slowest = match never_ends {
            true => &mut sum.waited,
            false => &mut sum.slowest,
        };
        *slowest = started.elapsed().max(*slowest);
        findings.expect(status.is_some(), || {
            "the server did not end within 30 s".into()
        });
        findings.expect(status.is_some_and(|s| s.success()) || never_ends, || {
            format!("the server ended with {status:?}")
        });
        let mut done: Vec<_> = running.join_all().await;
        if !never_ends {
            done.push((vec![half_sent], None));
        }
        compare(&fixture, done, &mut sum, &mut findings).await?;
        drop(stalling);
    }
    consistency::check(&fixture.database, &mut findings).await?;
    findings.fact("stops", rounds);
    findings.fact("calls completed", sum.acknowledged);
    findings.fact("calls not admitted", sum.failed);
    findings.fact("slowest stop", format!("{} ms", sum.slowest.as_millis()));
    let waited = format!("{} ms", sum.waited.as_millis());
    findings.fact("slowest stop with a call that never ends", waited);
    findings.finish()
}

/// Clients that could keep a server from stopping.
struct StallingClients {
    _silent: TcpStream,
    _watch: Streaming<HealthCheckResponse>,
    _unread: Wire,
    partial: PartialCall,
}

/// A half-sent call on its own connection.
struct PartialCall {
    _connection: Raw,
    call: Option<StartedCall>,
    rest: Option<Bytes>,
}

impl StallingClients {
    async fn connect(
        fixture: &Fixture,
        server: &Serving,
        name: &str,
        never_ends: bool,
    ) -> Result<Self> {
        let silent = TcpStream::connect(&server.address).await?;
        let mut health = HealthClient::new(fixture.caller(server).await?.channel);
        let watch = health.watch(HealthCheckRequest::default()).await?;
        Ok(Self {
            _silent: silent,
            _watch: watch.into_inner(),
            _unread: unread(&server.address, &fixture.key(0))?,
            partial: PartialCall::sent(server, &fixture.key(0), name, never_ends).await?,
        })
    }

    /// After the stop signal, sends the rest of the half-sent request. The other connections stay as they are.
    async fn resume(mut self, findings: &mut Findings) -> Result<Self> {
        tokio::time::sleep(RESUME_AFTER).await;
        if let Some(rest) = self.partial.rest.take()
            && let Some(call) = self.partial.call.take()
        {
            let outcome = match call.end(rest).await {
                Ok(status) => code_and_reason(&status),
                Err(error) => error.to_string(),
            };
            findings.expect(outcome == "Ok", || {
                format!("a half-sent call had the outcome {outcome}")
            });
        }
        Ok(self)
    }
}

/// A call whose response is never read.
fn unread(address: &str, token: &str) -> Result<Wire> {
    let mut wire = Wire::open(address, &[(WINDOW, 0)])?;
    let headers = wire::call("leadsmith.v1.LeadService/List", token);
    let call = frame(wire::HEADERS, wire::END_HEADERS, 1, &headers);
    let body = frame(wire::DATA, wire::END_STREAM, 1, &wire::message(&[]));
    wire.send(&[call, body].concat());
    Ok(wire)
}

impl PartialCall {
    /// A Create of a lead with this name. With `never_ends` the request is never completed, and its deadline is
    /// longer than the drain.
    async fn sent(server: &Serving, token: &str, name: &str, never_ends: bool) -> Result<Self> {
        let connection = Raw::connect(&server.address).await?;
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str()), ("grpc-timeout", "60S")];
        let rpc = "leadsmith.v1.LeadService/Create";
        let mut call = connection.begin(rpc, &headers).await?;
        let lead = Some(Lead {
            last_name: name.to_owned(),
            ..Default::default()
        });
        let request = proto::CreateLeadRequest {
            lead,
            ..Default::default()
        };
        let mut message = framed(0, &request.encode_to_vec());
        let rest = message.split_off(message.len() / 2);
        call.send(message)?;
        Ok(Self {
            _connection: connection,
            call: Some(call),
            rest: (!never_ends).then_some(rest),
        })
    }
}

/// The names of the acknowledged leads, and the first call that failed with its status.
type Done = (Vec<String>, Option<(String, Status)>);

async fn create_until_rejected(caller: Caller, name: String) -> Done {
    let mut done = Vec::new();
    for number in 0..CALLS {
        let name = format!("{name} {number}");
        match caller.create(&name, "").await {
            Ok(_) => done.push(name),
            Err(status) => return (done, Some((name, status))),
        }
    }
    (done, None)
}

/// Compares acknowledged and failed calls with the database.
async fn compare(
    fixture: &Fixture,
    all: Vec<Done>,
    sum: &mut Sum,
    findings: &mut Findings,
) -> Result<()> {
    let db = fixture.database.connect().await?;
    let names = db.texts("SELECT last_name FROM leads").await?;
    db.close().await?;
    let present: HashSet<String> = names.into_iter().collect();
    for (done, rejected) in all {
        sum.acknowledged += done.len();
        for name in done.iter().filter(|name| !present.contains(*name)) {
            findings.broke(format!("the acknowledged lead {name:?} is missing"));
        }
        let Some((name, status)) = rejected else {
            continue;
        };
        sum.failed += 1;
        findings.expect(!present.contains(&name), || {
            format!("the call that created {name:?} was admitted but got no response")
        });
        // An error with a reason comes from the service itself, so the call was admitted.
        let reason = reason(&status);
        findings.expect(reason.is_empty(), || {
            format!("a call was admitted and rejected: {reason}")
        });
    }
    Ok(())
}

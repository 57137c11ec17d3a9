//! A server at full load is told to stop. Meanwhile one caller watches its health without reading, one holds
//! a connection on which nothing is said, one takes no byte of the answer to a call, and one has sent half of
//! a call. A call that failed must have had no effect: who was let in is answered, so also who sends the other
//! half then; who never does is waited for as long as the drain lasts. Shown to fail by `cut-off`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use leadsmith::wire::proto::{self, Lead};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::harness::client::{Caller, reason};
use crate::harness::context::{Context, Desk};
use crate::harness::program::Serving;
use crate::harness::raw::{Begun, Raw, framed, told};
use crate::harness::report::Findings;
use crate::harness::whole;
use crate::harness::wire::{self, Wire, frame};

const CALLERS: usize = 64;
const CONNECTIONS: usize = 8;
/// A caller whom nobody stops ends by itself.
const CALLS: usize = 100_000;
const EXIT: Duration = Duration::from_secs(30);
/// How long a call that halts does, once the server was told to stop.
const HALT: Duration = Duration::from_millis(1_500);
/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
const WINDOW: u16 = 4;

/// What became of the callers of all stops.
#[derive(Default)]
struct Sum {
    answered: usize,
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
    let desk = context.desk()?;
    for round in 0..rounds {
        let mut server = context.serve(&desk, &[]).await?;
        let callers = desk.callers(&server, CONNECTIONS).await?;
        // It takes the whole drain.
        let for_ever = round % 20 == 1;
        let halting = format!("{round} halting");
        let troublesome = Troublesome::come(&desk, &server, &halting, for_ever).await?;
        let mut running = JoinSet::new();
        for index in 0..CALLERS {
            let caller = callers[index % CONNECTIONS].clone();
            running.spawn(create_until_refused(caller, format!("{round} {index}")));
        }
        tokio::time::sleep(Duration::from_millis(random.u64(300..900))).await;
        let begun = Instant::now();
        server.terminate()?;
        let troublesome = troublesome.go_on(&mut findings).await?;
        let status = server.ended(EXIT).await?;
        let slowest = match for_ever {
            true => &mut sum.waited,
            false => &mut sum.slowest,
        };
        *slowest = begun.elapsed().max(*slowest);
        findings.expect(status.is_some(), || "it did not end within 30 s".into());
        findings.expect(status.is_some_and(|s| s.success()) || for_ever, || {
            format!("it ended with {status:?}")
        });
        let mut done: Vec<_> = running.join_all().await;
        if !for_ever {
            done.push((vec![halting], None));
        }
        compare(&desk, done, &mut sum, &mut findings).await?;
        drop(troublesome);
    }
    whole::look(&desk.database, &mut findings).await?;
    findings.fact("stops", rounds);
    findings.fact("calls answered", sum.answered);
    findings.fact("calls not let in", sum.failed);
    findings.fact("slowest stop", format!("{} ms", sum.slowest.as_millis()));
    let waited = format!("{} ms", sum.waited.as_millis());
    findings.fact("slowest stop with a call that never ends", waited);
    findings.finish()
}

/// Callers who might keep a server from stopping.
struct Troublesome {
    _silent: TcpStream,
    _watch: Streaming<HealthCheckResponse>,
    _unread: Wire,
    half: Half,
}

/// A call half of which was sent, over a connection of its own.
struct Half {
    _connection: Raw,
    call: Option<Begun>,
    rest: Option<Bytes>,
}

impl Troublesome {
    async fn come(desk: &Desk, server: &Serving, name: &str, for_ever: bool) -> Result<Self> {
        let silent = TcpStream::connect(&server.address).await?;
        let mut health = HealthClient::new(desk.caller(server).await?.channel);
        let watch = health.watch(HealthCheckRequest::default()).await?;
        Ok(Self {
            _silent: silent,
            _watch: watch.into_inner(),
            _unread: unread(&server.address, &desk.key(0))?,
            half: Half::sent(server, &desk.key(0), name, for_ever).await?,
        })
    }

    /// What they do when the server was told to stop: who halted goes on, the others stay as they are.
    async fn go_on(mut self, findings: &mut Findings) -> Result<Self> {
        tokio::time::sleep(HALT).await;
        if let Some(rest) = self.half.rest.take()
            && let Some(call) = self.half.call.take()
        {
            let said = match call.end(rest).await {
                Ok(status) => told(&status),
                Err(error) => error.to_string(),
            };
            findings.expect(said == "Ok", || {
                format!("a call that had been half sent was answered {said}")
            });
        }
        Ok(self)
    }
}

/// A call no byte of whose answer is taken.
fn unread(address: &str, token: &str) -> Result<Wire> {
    let mut wire = Wire::open(address, &[(WINDOW, 0)])?;
    let headers = wire::call("leadsmith.v1.LeadService/List", token);
    let call = frame(wire::HEADERS, wire::END_HEADERS, 1, &headers);
    let body = frame(wire::DATA, wire::END_STREAM, 1, &wire::message(&[]));
    wire.send(&[call, body].concat());
    Ok(wire)
}

impl Half {
    /// A Create of a lead of this name. With `for_ever` it is never sent to its end, and may take longer
    /// than the server may.
    async fn sent(server: &Serving, token: &str, name: &str, for_ever: bool) -> Result<Self> {
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
            rest: (!for_ever).then_some(rest),
        })
    }
}

/// The names of the leads that somebody created, and the first that was not, with what was said.
type Done = (Vec<String>, Option<(String, Status)>);

async fn create_until_refused(caller: Caller, name: String) -> Done {
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

/// Compares what callers were told with what is there.
async fn compare(
    desk: &Desk,
    all: Vec<Done>,
    sum: &mut Sum,
    findings: &mut Findings,
) -> Result<()> {
    let db = desk.database.connect().await?;
    let names = db.texts("SELECT last_name FROM leads").await?;
    db.close().await?;
    let there: HashSet<String> = names.into_iter().collect();
    for (done, refused) in all {
        sum.answered += done.len();
        for name in done.iter().filter(|name| !there.contains(*name)) {
            findings.broke(format!("the acknowledged lead {name:?} is gone"));
        }
        let Some((name, status)) = refused else {
            continue;
        };
        sum.failed += 1;
        findings.expect(!there.contains(&name), || {
            format!("the call that made {name:?} was let in and not answered")
        });
        // Whom the service itself refuses, it has let in.
        let reason = reason(&status);
        findings.expect(reason.is_empty(), || {
            format!("a call was let in and refused: {reason}")
        });
    }
    Ok(())
}

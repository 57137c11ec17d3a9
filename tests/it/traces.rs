//! Traces: a real server sends its spans over OTLP, and a collector in the test receives them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leadsmith_proto as proto;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::harness::{self, Caller, PASSWORD, TestDatabase, sign_in};
use crate::on_both_empty;
use crate::program::{Program, Serving, leadsmith};

const CALL: &str = "leadsmith.v1.LeadService";

/// A collector that keeps what it receives.
struct Collector {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    task: JoinHandle<()>,
}

struct Receiver(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> Self {
        Self::at("127.0.0.1:0").await
    }

    async fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let service = TraceServiceServer::new(Receiver(Arc::clone(&requests)));
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener));
        let task = tokio::spawn(async move { serve.await.unwrap() });
        Self {
            address,
            requests,
            task,
        }
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The spans of a trace, once one of them is the call of this RPC.
    async fn trace(&self, trace: &str, rpc: &str) -> Vec<Span> {
        let of_trace = || {
            let mut spans = self.spans();
            spans.retain(|span| hex(&span.trace_id) == trace);
            spans
        };
        let is_call = |span: &Span| span.name == rpc;
        let exported = async || of_trace().iter().any(is_call);
        harness::eventually("the spans are exported", exported).await;
        of_trace()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(database: &TestDatabase, endpoint: &str) -> Program {
    leadsmith("serve")
        .env("LEADSMITH_LOG_FORMAT", "json")
        .env("LEADSMITH_TRACES_ENDPOINT", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        // Many changes arrive at once, on a machine that may be busy with other tests.
        .env("LEADSMITH_CONNECTION_WAIT", "30")
        .database(&database.url)
}

async fn operator(server: &Serving, database: &TestDatabase) -> Caller {
    let create = leadsmith("operator create --username ada --role ADMIN");
    let created = create.database(&database.url).input(PASSWORD).run().await;
    assert_eq!(created.code, Some(0), "{created:?}");
    let channel = harness::channel(server.address);
    let token = sign_in(channel.clone(), "ada", PASSWORD).await.unwrap();
    Caller {
        id: Uuid::nil(),
        token,
        channel,
    }
}

/// A request that belongs to a trace of the client.
fn traced<T>(message: T, trace: &str, is_sampled: bool) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{trace}-00f067aa0ba902b7-0{}", u8::from(is_sampled));
    request
        .metadata_mut()
        .insert("traceparent", parent.parse().unwrap());
    request
}

fn new_lead() -> proto::CreateLeadRequest {
    proto::CreateLeadRequest {
        lead: Some(proto::Lead {
            first_name: "Ada".into(),
            last_name: "Lovelace".into(),
            email: "ada.lovelace@example.com".into(),
            ..Default::default()
        }),
        allow_duplicate: true,
        ..Default::default()
    }
}

fn names(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn attributes(span: &Span) -> BTreeMap<&str, &str> {
    let texts = span.attributes.iter().filter_map(|attribute| {
        let Value::StringValue(text) = attribute.value.as_ref()?.value.as_ref()? else {
            return None;
        };
        Some((attribute.key.as_str(), text.as_str()))
    });
    texts.collect()
}

on_both_empty! {
    async fn the_spans_of_a_call_show_where_its_time_went(database: TestDatabase) {
        let collector = Collector::start().await;
        let server = serve(&database, &format!("http://{}", collector.address)).serve().await;
        let ada = operator(&server, &database).await;
        let (create, get, refused, unsampled) = ("a".repeat(32), "b".repeat(32), "c".repeat(32), "d".repeat(32));

        ada.leads().create(traced(new_lead(), &unsampled, false)).await.unwrap();
        let lead = ada.leads().create(traced(new_lead(), &create, true)).await.unwrap();
        let lead = lead.into_inner().lead.unwrap();
        let request = proto::GetLeadRequest { id: lead.id.clone() };
        ada.leads().get(traced(request, &get, true)).await.unwrap();
        let stale = proto::ConvertLeadRequest { id: lead.id.clone(), etag: "\"9\"".into(), ..Default::default() };
        ada.leads().convert(traced(stale, &refused, true)).await.unwrap_err();

        let spans = collector.trace(&create, &format!("{CALL}/Create")).await;
        let expected = ["wait", "batch", "begin", "decide", "commit", "INSERT"];
        assert!(expected.iter().all(|name| names(&spans).contains(name)), "{:?}", names(&spans));
        let by_id: BTreeMap<_, _> = spans.iter().map(|span| (span.span_id.clone(), span)).collect();
        for span in &spans {
            if span.name == format!("{CALL}/Create") {
                assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
                continue;
            }
            let parent = by_id[&span.parent_span_id];
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
            let expected = match span.name.as_str() {
                "wait" | "batch" => format!("{CALL}/Create"),
                _ => "batch".to_owned(),
            };
            assert_eq!(parent.name, expected, "{span:?}");
        }
        let call = spans.iter().find(|span| span.name.starts_with(CALL)).unwrap();
        let said = attributes(call);
        assert_eq!(said["rpc.response.status_code"], "OK");
        assert_eq!(said["leadsmith.records"], format!("lead/{}", lead.id));
        assert_eq!(said["leadsmith.effect"], "changed");
        assert_eq!(said["client.address"], "127.0.0.1");
        let statement = spans.iter().find(|span| span.name == "INSERT").unwrap();
        assert!(attributes(statement)["db.query.text"].starts_with("INSERT INTO"), "{statement:?}");

        let spans = collector.trace(&get, &format!("{CALL}/Get")).await;
        let expected = BTreeSet::from(["leadsmith.v1.LeadService/Get", "wait", "look-up", "SELECT"]);
        assert_eq!(names(&spans), expected);

        let spans = collector.trace(&refused, &format!("{CALL}/Convert")).await;
        let call = spans.iter().find(|span| span.name.starts_with(CALL)).unwrap();
        assert_eq!(attributes(call)["error.type"], "ETAG_MISMATCH");
        // A refusal of the caller is no fault of the server.
        assert_eq!(call.status.as_ref().map_or(0, |status| status.code), 0);

        let all = collector.spans();
        assert!(all.iter().all(|span| hex(&span.trace_id) != unsampled));
        let sent = format!("{:?}", collector.requests.lock().unwrap());
        for secret in ["Lovelace", "ada.lovelace", PASSWORD, &ada.token] {
            assert!(!sent.contains(secret), "{secret}");
        }
        assert!(sent.contains("leadsmith"), "the name of the service");
        let line = |trace: &str| format!("\"trace_id\":\"{trace}\"");
        assert!(server.log().contains(&line(&create)) && server.log().contains(&line(&unsampled)));
    }

    async fn a_batch_is_part_of_one_trace_and_linked_to_the_others(database: TestDatabase) {
        let collector = Collector::start().await;
        let server = serve(&database, &format!("http://{}", collector.address)).serve().await;
        let ada = operator(&server, &database).await;
        let traces: Vec<String> = (1..=48).map(|number| format!("{number:032x}")).collect();
        let calls = traces.iter().map(|trace| {
            let (ada, request) = (ada.clone(), traced(new_lead(), trace, true));
            tokio::spawn(async move { ada.leads().create(request).await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        let mut linked = 0;
        for trace in &traces {
            let spans = collector.trace(trace, &format!("{CALL}/Create")).await;
            let batches: Vec<_> = spans.iter().filter(|span| span.name == "batch").collect();
            let [batch] = batches[..] else { panic!("{batches:?}") };
            if spans.iter().any(|span| span.name == "commit") {
                continue;
            }
            let [work] = &batch.links[..] else { panic!("{batch:?}") };
            let all = collector.spans();
            let work = all.iter().find(|span| span.span_id == work.span_id).unwrap();
            assert_eq!(work.name, "batch");
            assert!(work.links.iter().any(|link| hex(&link.trace_id) == *trace), "{work:?}");
            linked += 1;
        }
        assert!(linked > 0, "48 concurrent changes were 48 batches");
    }

    async fn a_collector_that_is_away_costs_one_line_and_no_call_until_it_is_back(database: TestDatabase) {
        let collector = Collector::start().await;
        let address = collector.address;
        collector.task.abort();
        let _ = collector.task.await;
        let mut server = serve(&database, &format!("http://{address}")).serve().await;
        let ada = operator(&server, &database).await;
        let failed = || server.log().matches("traces cannot be exported").count();
        for _ in 0..5 {
            ada.leads().create(new_lead()).await.unwrap();
            harness::eventually("an export fails", async || failed() > 0).await;
        }
        assert_eq!(failed(), 1);

        let collector = Collector::at(&address.to_string()).await;
        let resumed = async || {
            ada.leads().create(new_lead()).await.unwrap();
            server.log().contains("traces are exported again") && !collector.spans().is_empty()
        };
        harness::eventually("the spans are exported again", resumed).await;
        assert_eq!(failed(), 1);
        server.terminate();
        assert!(server.ended(Duration::from_secs(20)).await.success());
    }
}

#[tokio::test]
async fn the_endpoint_is_the_url_of_a_host() {
    for wrong in [
        "collector:4317",
        "http://collector",
        "ftp://collector:4317",
        "http://",
        "http://user:word@collector:4317",
        "http://collector:4317/v1/traces",
        "http://collector:99999",
    ] {
        let serve = leadsmith("serve").env("LEADSMITH_TRACES_ENDPOINT", wrong);
        let ended = serve.run().await;
        assert_eq!(ended.code, Some(2), "{wrong}: {ended:?}");
        assert!(
            ended.err.contains("http://127.0.0.1:4317"),
            "{wrong}: {ended:?}"
        );
        assert!(!ended.err.contains("user:word"), "{wrong}: {ended:?}");
    }
}

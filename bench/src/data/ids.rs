//! Ids and states of the leads, computed from their numbers.

use uuid::Uuid;

/// When the first lead was created: 2024-01-01, in seconds.
pub const BEGIN: i64 = 1_704_067_200;
/// A prime that divides no number of leads.
pub const STRIDE: u64 = 7_368_787;

/// The id of the lead with this number: ordered by time like the service's ids, with a random rest.
/// [`crate::limits::pgbench`] computes the same.
pub fn lead_id(number: u64) -> Uuid {
    id_at(BEGIN as u64 * 1_000 + number * 1_000, number)
}

/// The id of the order of this lead.
pub fn order_id(number: u64) -> Uuid {
    id_at(BEGIN as u64 * 1_000 + number * 1_000 + 500, number)
}

fn id_at(milliseconds: u64, number: u64) -> Uuid {
    let hash = fnv1a(number);
    let high = milliseconds << 16 | 0x7000 | hash >> 40 & 0xfff;
    let low = 0xa800_0000_0000_0000 | hash & ((1 << 56) - 1);
    Uuid::from_u64_pair(high, low)
}

/// pgbench's `hash_fnv1a(number, 0)`.
pub fn fnv1a(number: u64) -> u64 {
    number
        .to_le_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// Nine of ten leads are OPEN. The tenth is CONVERTED, or in every tenth case DEACTIVATED.
pub fn state(number: u64) -> &'static str {
    match (number % 10, number % 100) {
        (0, 0) => "DEACTIVATED",
        (0, _) => "CONVERTED",
        _ => "OPEN",
    }
}

/// The number of the OPEN lead at `index`, from 0.
pub fn open_number(index: u64) -> u64 {
    index / 9 * 10 + index % 9 + 1
}

/// The number of the OPEN lead at position `turn`, from 0, in a shuffled sequence that contains each once.
pub fn shuffled(turn: u64, open: u64) -> u64 {
    open_number(turn * STRIDE % open)
}

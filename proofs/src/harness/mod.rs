//! What the proofs are made with: real servers, real databases, callers, and a table at the end.

pub mod before;
pub mod bugs;
pub mod builds;
pub mod client;
pub mod cluster;
#[path = "../../../tests/it/codec.rs"]
pub mod codec;
pub mod context;
pub mod database;
pub mod neighbour;
pub mod patroni;
pub mod program;
pub mod proxy;
pub mod raw;
pub mod report;
pub mod requests;
pub mod strace;
pub mod strain;
pub mod whole;
pub mod wire;
pub mod writers;

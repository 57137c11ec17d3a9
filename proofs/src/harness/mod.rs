//! The building blocks of the proofs: real servers, real databases, clients, and a report.

pub mod bugs;
pub mod builds;
pub mod client;
pub mod clock;
pub mod cluster;
#[path = "../../../tests/it/codec.rs"]
pub mod codec;
pub mod consistency;
pub mod context;
pub mod database;
pub mod linear;
pub mod neighbour;
pub mod patroni;
pub mod previous;
pub mod program;
pub mod prometheus;
pub mod proxy;
pub mod raw;
pub mod report;
pub mod requests;
pub mod strace;
pub mod strain;
pub mod wire;
pub mod writers;

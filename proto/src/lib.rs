//! The contract of Leadsmith as Rust types: messages, clients and servers, generated from the `.proto`
//! files of this crate. The server, the tests, the benchmark and the proofs use the same types.
//!
//! This crate must not depend on any other crate of this repository, so that every client of Leadsmith can
//! use it alone.

mod secrets;

#[allow(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "generated"
)]
mod generated {
    tonic::include_proto!("leadsmith.v1");
}

pub use generated::*;

/// The encoded `google.protobuf.FileDescriptorSet` of the `.proto` files, with their comments. Reflection
/// serves it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/leadsmith.binpb"));

//! What the rooms share on the wire: the generated code and how its parts are read and written.

pub mod bounded;
pub mod money;
pub mod page;
pub mod read;
pub mod render;
mod secrets;
pub mod violations;
pub mod words;

use tonic::Request;

use crate::auth::Call;
use crate::error::{Error, Result};

/// What `build.rs` made of `proto/`.
#[allow(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("leadsmith.v1");
}

/// The descriptors of `proto/` with their comments, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/leadsmith.binpb"));

/// Takes a request apart into who calls, put there by the gate, and what they ask.
///
/// # Errors
/// [`Error::TokenInvalid`] when the gate let nobody in.
pub fn open<T>(mut request: Request<T>) -> Result<(Call, T)> {
    let call = request
        .extensions_mut()
        .remove()
        .ok_or(Error::TokenInvalid)?;
    Ok((call, request.into_inner()))
}

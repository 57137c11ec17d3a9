//! What the `api.rs` files of the features share: parsing requests, rendering responses, pagination and
//! changes.

pub mod enums;
pub mod mask;
pub mod money;
mod mutate;
pub mod page;
pub mod read;
pub mod render;
mod seal;
pub mod watch_token;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Request;
use uuid::Uuid;

use crate::core::call::{Call, RequestKey};
use crate::error::{Error, Result};

pub(crate) use mutate::target;
pub use mutate::{find_and_mutate, mutate, mutate_in_time, prepare_and_mutate, read_and_mutate};

/// Splits a request into the call, which the admission layer has added, and its message.
///
/// # Errors
/// `TOKEN_INVALID` if the caller is not authenticated.
pub fn open<T>(mut request: Request<T>) -> Result<(Call, T)> {
    let call = request.extensions_mut().remove();
    Ok((call.ok_or_else(Error::token_invalid)?, request.into_inner()))
}

/// Sets the request id of a call, and the fingerprint of its request. `bare` is the request without its secrets: a
/// password is not part of the fingerprint, so that nothing of it is stored.
pub fn set_request_key(call: &mut Call, id: Option<Uuid>, bare: &impl Message) {
    call.notes.request_id(id);
    call.request_key = id.map(|id| {
        let mut digest = Sha256::new();
        digest.update(call.rpc);
        digest.update([0]);
        digest.update(bare.encode_to_vec());
        RequestKey {
            id,
            fingerprint: digest.finalize().into(),
        }
    });
}

//! Signs what clients send back unchanged: page tokens and resume tokens. A signature is bound to a purpose, so that a
//! token of one kind is not accepted as another. All replicas share the key. This is our own code because no
//! maintained library signs cursors.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA-256, truncated to 128 bits.
const TAG_LENGTH: usize = 16;

/// Signs for one purpose.
#[derive(Clone)]
pub struct Seal(Hmac<Sha256>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// For a purpose, given in parts.
    pub fn new(key: &[u8; 32], purpose: &[&[u8]]) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
        for part in purpose {
            mac.update(part);
        }
        Self(mac)
    }

    /// The token that contains `content`, as text that needs no escaping in a URL.
    pub fn seal(&self, mut content: Vec<u8>) -> String {
        let mut mac = self.0.clone();
        mac.update(&content);
        content.extend_from_slice(&mac.finalize().into_bytes()[..TAG_LENGTH]);
        URL_SAFE_NO_PAD.encode(content)
    }

    /// The content of a token of at most `max_length` bytes; `None` if it was altered or signed for another purpose.
    pub fn open(&self, token: &str, max_length: usize) -> Option<Vec<u8>> {
        if token.len() > max_length {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let tag = bytes.split_off(bytes.len().checked_sub(TAG_LENGTH)?);
        let mut mac = self.0.clone();
        mac.update(&bytes);
        mac.verify_truncated_left(&tag).ok()?;
        Some(bytes)
    }
}

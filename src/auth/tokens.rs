//! Session tokens and API keys: 256 random bits after a prefix that names the kind, so that a secret scanner or
//! a person recognises a leaked token.
//!
//! This module never stores a token: only its hash leaves the process, apart from the one response that hands the
//! token out.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::core::call::TokenHash;
use crate::core::clock;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The token of an operator's session.
    Session,
    /// The key of a service account.
    ApiKey,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "lss_",
            Self::ApiKey => "lsk_",
        }
    }
}

/// A token in clear text. It is sent to its owner once and then dropped.
pub struct Secret(SecretString);

impl Secret {
    /// The token in clear text. Use it only in the response that hands the token out.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The hash that is stored in the database.
    pub fn hash(&self) -> TokenHash {
        Sha256::digest(self.expose()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Generates a new token.
pub fn generate(kind: TokenKind) -> Secret {
    let bits = URL_SAFE_NO_PAD.encode(clock::random_256_bits());
    Secret(format!("{}{bits}", kind.prefix()).into())
}

/// The kind and the hash of a token. None if the text does not have the format of a token.
pub fn parse(token: &str) -> Option<(TokenKind, TokenHash)> {
    let kind = [TokenKind::Session, TokenKind::ApiKey]
        .into_iter()
        .find(|kind| token.starts_with(kind.prefix()))?;
    // The prefix and 32 bytes in base64: anything longer is not worth hashing.
    (token.len() == kind.prefix().len() + 43).then(|| (kind, Sha256::digest(token).into()))
}

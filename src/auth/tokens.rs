//! Session tokens and API keys: 256 random bits behind a prefix that tells what they are, so that
//! a secret scanner, or a person, recognises one that leaked.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::clock;

/// What is stored of a token.
pub type TokenHash = [u8; 32];

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A session of an operator.
    Session,
    /// A service account.
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

/// A token in clear: given to its owner once, and dropped.
pub struct Secret(SecretString);

impl Secret {
    /// The token itself. Only for the answer that hands it out.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is stored of it.
    pub fn hash(&self) -> TokenHash {
        Sha256::digest(self.expose()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Makes a new token.
pub fn generate(kind: TokenKind) -> Secret {
    let bits = URL_SAFE_NO_PAD.encode(clock::random_256_bits());
    Secret(format!("{}{bits}", kind.prefix()).into())
}

/// What a token claims to be, and its hash; none for what cannot be a token.
pub fn parse(token: &str) -> Option<(TokenKind, TokenHash)> {
    let kind = [TokenKind::Session, TokenKind::ApiKey]
        .into_iter()
        .find(|kind| token.starts_with(kind.prefix()))?;
    // The prefix and 32 bytes in base64: anything longer is not worth hashing.
    (token.len() == kind.prefix().len() + 43).then(|| (kind, Sha256::digest(token).into()))
}

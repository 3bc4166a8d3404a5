//! A key in this process: read from a file or a variable, and never shown.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use sluice_sdk::Address;
use solana_keypair::Keypair;
use solana_signature::Signature;

use super::{SignError, Signer};
use crate::config::KeySource;

/// A key that signs and pays for settlements. Cheap to clone.
#[derive(Clone)]
pub struct FeePayer {
    keypair: Arc<Keypair>,
    kind: &'static str,
}

/// Why a key could not be read. Never holds any of what was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("fee_payer.keypair: {path} cannot be read: {problem}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// The variable is not set.
    #[error("fee_payer.env: the environment variable {0} is not set")]
    Variable(String),
    /// The content is no key.
    #[error("fee_payer: {0} does not hold a Solana keypair (a JSON array of 64 bytes)")]
    Content(String),
    /// None of the sources, or several.
    #[error("fee_payer: needs exactly one of `keypair`, `env` and `vault`")]
    Source,
    /// Vault cannot be asked with what it is told here.
    #[error("fee_payer.vault: {0}")]
    Vault(String),
    /// Another key is there than the configuration names.
    #[error("fee_payer: {0}")]
    Other(SignError),
}

impl FeePayer {
    /// Reads the key.
    pub fn load(source: &KeySource) -> Result<Self, KeyError> {
        match (&source.keypair, &source.env) {
            (Some(path), None) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|error| KeyError::File {
                    path: name.clone(),
                    problem: error.to_string(),
                })?;
                warn_if_readable(path);
                Self::parse(&SecretString::from(text), "file").ok_or(KeyError::Content(name))
            }
            (None, Some(variable)) => {
                let text =
                    std::env::var(variable).map_err(|_| KeyError::Variable(variable.clone()))?;
                Self::parse(&SecretString::from(text), "environment").ok_or_else(|| {
                    KeyError::Content(format!("the environment variable {variable}"))
                })
            }
            _ => Err(KeyError::Source),
        }
    }

    /// Takes a key that the embedding program has.
    pub fn new(keypair: Keypair) -> Self {
        Self {
            keypair: Arc::new(keypair),
            kind: "given",
        }
    }

    fn parse(text: &SecretString, kind: &'static str) -> Option<Self> {
        let bytes: Vec<u8> = serde_json::from_str(text.expose_secret().trim()).ok()?;
        let keypair = Keypair::try_from(&bytes[..]).ok()?;
        Some(Self {
            kind,
            ..Self::new(keypair)
        })
    }

    /// The public key.
    pub fn address(&self) -> Address {
        Address::new_from_array(solana_signer::Signer::pubkey(&*self.keypair).to_bytes())
    }
}

#[async_trait]
impl Signer for FeePayer {
    fn address(&self) -> Address {
        self.address()
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    async fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(solana_signer::Signer::sign_message(&*self.keypair, message))
    }
}

impl fmt::Debug for FeePayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeePayer({})", self.address())
    }
}

#[cfg(unix)]
fn warn_if_readable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if open {
        tracing::warn!(
            path = %path.display(),
            "others on this machine may read the fee payer's key: chmod 600 it"
        );
    }
}

#[cfg(not(unix))]
fn warn_if_readable(_path: &std::path::Path) {}

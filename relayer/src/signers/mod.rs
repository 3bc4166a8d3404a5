//! The fee payers' keys: where they are, and which of them signs next.
//!
//! A key signs for a transaction before that is written down, and outside the ledger's commit: a key may be at the other
//! end of a network. What was signed and is not written down after all is dropped, and never leaves.
//!
//! Reading order: this trait, [`local`] and [`vault`] (where keys are), [`pool`] (which one is next), [`alert`] (what
//! their operator is told).

pub mod alert;
pub mod local;
pub mod pool;
pub mod vault;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use sluice_sdk::Address;
use solana_signature::Signature;

use crate::config::KeySource;

pub use local::{FeePayer, KeyError};
pub use pool::{Health, Signers, Standing};
pub use vault::VaultSigner;

/// A key that pays for transactions and signs them.
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync + 'static {
    /// Its public key.
    fn address(&self) -> Address;

    /// Where it is: one word for people.
    fn kind(&self) -> &'static str;

    /// Signs a message. Ends in bounded time, and what it gives is this key's signature over these bytes.
    async fn sign(&self, message: &[u8]) -> Result<Signature, SignError>;

    /// Whether it would sign now. A key in this process always would.
    async fn probe(&self) -> Result<(), SignError> {
        Ok(())
    }

    /// Whether [`Signer::probe`] tells anything.
    fn is_remote(&self) -> bool {
        false
    }
}

/// Why a key did not sign. Never holds a token or a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Whoever has it did not answer, or cannot now.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever has it does not want to.
    #[error("{0}")]
    Refused(String),
    /// What came is no signature of this key over this message.
    #[error(
        "what came back is no signature of this key over this message: find out who answers there"
    )]
    Forged,
    /// Another key is there than the configuration names.
    #[error(
        "the key there is {found}, and the configuration says {expected}: correct the address, or the key's name or \
         version"
    )]
    OtherKey {
        /// The key of the configuration.
        expected: Address,
        /// The one that is there.
        found: String,
    },
}

impl From<FeePayer> for Arc<dyn Signer> {
    fn from(key: FeePayer) -> Self {
        Arc::new(key)
    }
}

/// The key that a configuration names. Asks nobody yet.
pub fn load(source: &KeySource) -> Result<Arc<dyn Signer>, KeyError> {
    match &source.vault {
        Some(vault) if source.keypair.is_none() && source.env.is_none() => {
            Ok(Arc::new(VaultSigner::new(vault)?))
        }
        Some(_) => Err(KeyError::Source),
        None => Ok(Arc::new(FeePayer::load(source)?)),
    }
}

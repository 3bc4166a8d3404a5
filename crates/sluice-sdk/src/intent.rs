//! Making, signing and checking payment intents off-chain.

use sluice_intent::{Digest, Entry, Flags, Intent, Resource, signature};
use solana_signer::{Signer, SignerError};

use crate::Address;

/// An intent that owns its fields, before or after signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsignedIntent {
    /// Genesis hash of the cluster.
    pub genesis_hash: [u8; 32],
    /// The payer's nonce account.
    pub nonce_account: Address,
    /// Slot in which it was opened.
    pub opened_slot: u64,
    /// The lane whose key signs.
    pub lane: u8,
    /// The service that is paid.
    pub service: Address,
    /// Hash of the terms the payer was shown.
    pub terms_hash: [u8; 32],
    /// Atomic units of the service's mint.
    pub amount: u64,
    /// Nonce in the lane's window.
    pub nonce: u64,
    /// Unix seconds; the last second in which it may land.
    pub expires_at: u32,
    /// What is bought.
    pub resource: Resource,
}

impl UnsignedIntent {
    /// The digest, which names the payment everywhere.
    pub fn digest(&self) -> Digest {
        Intent {
            genesis_hash: &self.genesis_hash,
            program_id: crate::PROGRAM_ID.as_array(),
            nonce_account: self.nonce_account.as_array(),
            opened_slot: self.opened_slot,
            lane: self.lane,
            service: self.service.as_array(),
            terms_hash: &self.terms_hash,
            amount: self.amount,
            nonce: self.nonce,
            expires_at: i64::from(self.expires_at),
            resource: self.resource,
        }
        .digest()
    }

    /// Signs the intent with the lane's key.
    pub fn sign(self, signer: &(impl IntentSigner + ?Sized)) -> Result<SignedIntent, SignerError> {
        let signature = signer.sign_digest(&self.digest())?;
        Ok(SignedIntent {
            intent: self,
            signature,
        })
    }
}

/// An intent with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedIntent {
    /// What was signed.
    pub intent: UnsignedIntent,
    /// The lane key's signature.
    pub signature: [u8; 64],
}

impl SignedIntent {
    /// Whether the signature is `key`'s, by the criterion of the program.
    pub fn is_signed_by(&self, key: &[u8; 32]) -> bool {
        signature::verify(key, &self.intent.digest(), &self.signature)
    }

    /// The intent as an entry of a `settle` instruction.
    pub fn entry(&self) -> Entry {
        Entry {
            signature: self.signature,
            amount: self.intent.amount,
            nonce: self.intent.nonce,
            expires_at: self.intent.expires_at,
            resource: self.intent.resource,
            flags: Flags {
                lane: self.intent.lane,
            }
            .to_byte(),
        }
    }
}

/// A key that signs intents: anything that is a Solana signer, in a file, on a device, or elsewhere.
pub trait IntentSigner {
    /// The key's address, which must be the lane's key.
    fn key(&self) -> Address;

    /// Signs the 40 bytes of a digest.
    fn sign_digest(&self, digest: &Digest) -> Result<[u8; 64], SignerError>;
}

impl<S: Signer + ?Sized> IntentSigner for S {
    fn key(&self) -> Address {
        Address::new_from_array(self.pubkey().to_bytes())
    }

    fn sign_digest(&self, digest: &Digest) -> Result<[u8; 64], SignerError> {
        let message = sluice_intent::intent::message(digest);
        self.try_sign_message(&message)
            .map(|signature| *signature.as_array())
    }
}

//! The payment intent: the one thing a payer signs, and the digest that names the payment everywhere.

use solana_sha256_hasher::hashv;

use crate::{Key, Resource};

/// Bytes a key signs: [`MESSAGE_TAG`] and the digest.
pub const MESSAGE_LEN: usize = 40;
/// Starts the signed message. As the head of a transaction it would announce 115 signatures, so what is
/// signed here can never be a transaction.
pub const MESSAGE_TAG: &[u8; 8] = b"sluice1\n";

const DOMAIN: &[u8; 15] = b"sluice/intent/1";

/// sha256 over an intent: the payment's identity on chain, in the ledger and on the wire.
pub type Digest = [u8; 32];

/// An intent, with the context (cluster, program, account, terms) that its digest pins.
///
/// Borrowed so that the program hashes straight from account data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent<'a> {
    /// Genesis hash of the cluster.
    pub genesis_hash: &'a Key,
    /// The Sluice program.
    pub program_id: &'a Key,
    /// The payer's nonce account (derived from payer and mint).
    pub nonce_account: &'a Key,
    /// Slot in which that account was opened: a reopened account revives nothing.
    pub opened_slot: u64,
    /// The lane whose key signs, 0 or 1.
    pub lane: u8,
    /// The service that is paid.
    pub service: &'a Key,
    /// [`crate::Terms::hash`] of what the payer was shown.
    pub terms_hash: &'a Key,
    /// Atomic units of the mint.
    pub amount: u64,
    /// Nonce in the lane's window.
    pub nonce: u64,
    /// Unix seconds; the last second in which it may land.
    pub expires_at: i64,
    /// What is bought ([`crate::resource`]).
    pub resource: Resource,
}

impl Intent<'_> {
    /// The digest: sha256 over domain and fields in their order, integers little-endian.
    pub fn digest(&self) -> Digest {
        let mut numbers = [0u8; 24];
        numbers[..8].copy_from_slice(&self.amount.to_le_bytes());
        numbers[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        numbers[16..].copy_from_slice(&self.expires_at.to_le_bytes());
        let mut lane = [0u8; 9];
        lane[..8].copy_from_slice(&self.opened_slot.to_le_bytes());
        lane[8] = self.lane;
        hashv(&[
            DOMAIN,
            self.genesis_hash,
            self.program_id,
            self.nonce_account,
            &lane,
            self.service,
            self.terms_hash,
            &numbers,
            &self.resource,
        ])
        .to_bytes()
    }
}

/// The 40 bytes that the lane's key signs for `digest`.
pub fn message(digest: &Digest) -> [u8; MESSAGE_LEN] {
    let mut bytes = [0u8; MESSAGE_LEN];
    bytes[..8].copy_from_slice(MESSAGE_TAG);
    bytes[8..].copy_from_slice(digest);
    bytes
}
